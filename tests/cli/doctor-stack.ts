/** `kms doctor` at an embedded stack of this test file's own. */
import { writeStackFile } from "../../local/stack-file.ts";
import type { Stack } from "../../local/stack.ts";
import type { Line } from "../../cli/doctor/report.ts";
import { startTestStack } from "../support/stack.ts";
import { type Finished, kms } from "./cli.ts";

let started: Promise<Stack> | undefined;

/** Health is not cached: what the functions see of a fault ends with it. */
export async function runningStack(): Promise<Stack> {
  started ??= startTestStack({ functionEnv: { KMS_HEALTH_CACHE_MS: "0" } });
  const stack = await started;
  await writeStackFile(stack, { userId: crypto.randomUUID(), running: true });
  return stack;
}

export async function doctor(...args: string[]): Promise<Finished & { lines: Line[] }> {
  const { dataDir } = await runningStack();
  const finished = await kms(["doctor", "--json", "--data-dir", dataDir, ...args]);
  return { ...finished, lines: finished.json().checks };
}

export function failed(lines: readonly Line[]): string[] {
  return lines.filter(({ status }) => status === "fail").map(({ check }) => check);
}
