/** AWS's own command line, which is no package of this project's. */

/** @throws Error that says what to install where there is no `aws` command */
export async function requireAws(): Promise<void> {
  try {
    await new Deno.Command("aws", { args: ["--version"], stdout: "null", stderr: "null" }).output();
  } catch (cause) {
    throw new Error(
      "The `aws` command line is not on PATH, and these tests run it: `apt-get install awscli`.",
      { cause },
    );
  }
}
