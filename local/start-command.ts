import { signInOrUp } from "./auth-client.ts";
import { demoToken } from "./demo-token.ts";
import { readyText } from "./ready-text.ts";
import { readStackFile, writeStackFile } from "./stack-file.ts";
import { type StackOptions, startStack } from "./stack.ts";

/**
 * `deno task start`: runs the stack until a signal ends it.
 *
 * @throws {StackError} when it cannot start
 */
export async function runStart(options: StackOptions): Promise<void> {
  const startedAt = performance.now();
  const progress = (line: string) => {
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
    console.log(`[${seconds} s] ${line}`);
  };
  const ended = nextSignal();
  const stack = await startStack({
    ...options,
    watch: true,
    onProgress: progress,
    onFunctionLine: (name, line) => console.log(`[${name}] ${line}`),
  });
  try {
    const { userId } = await signInOrUp(stack, stack.identity.demo);
    const write = () => writeStackFile(stack, { userId, running: true });
    await write();
    stack.onKeysChanged(write);
    const file = await readStackFile(stack.dataDir);
    progress("ready");
    if (file) console.log(readyText(file, await demoToken(file), stack.functions));
    await ended;
    progress("stopping");
    await writeStackFile(stack, { userId, running: false });
  } finally {
    await stack.close();
  }
  progress("stopped");
}

/** Signals this close together, in milliseconds, are one: wrappers such as npx pass them on too. */
const SAME_SIGNAL_MS = 1500;

/** Resolves at the first signal that asks to end; a second one, later, ends at once. */
function nextSignal(): Promise<void> {
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  let askedAt: number | null = null;
  return new Promise((resolve) => {
    for (const signal of signals) {
      Deno.addSignalListener(signal, () => {
        if (askedAt !== null && Date.now() - askedAt > SAME_SIGNAL_MS) Deno.exit(130);
        askedAt ??= Date.now();
        resolve();
      });
    }
  });
}
