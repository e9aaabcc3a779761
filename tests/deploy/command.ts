/** Runs a program to its end. */

/** @returns its standard output. @throws Error with its standard error when it fails */
export async function output(
  program: string,
  args: readonly string[],
  cwd?: string,
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${program} ${args.join(" ")} failed: ${text.decode(stderr)}`);
  return text.decode(stdout);
}

/** npm prints notices before what was asked for. @throws Error when there is no line at all */
export function lastLine(text: string): string {
  const line = text.trim().split("\n").at(-1);
  if (!line) throw new Error("nothing was printed");
  return line;
}
