/** A fresh embedded stack on a throw-away Postgres, with a signed-in user. */
import { type Stack, type StackOptions, startStack } from "../../local/stack.ts";
import { functionEnvironment, localSecrets, platformEnv } from "../../local/platform-env.ts";
import { startCluster } from "../postgres/cluster.ts";
import { AMPLE_LIMITS, signUp, type TestUser } from "../support/stack.ts";
import { randomCardNumber } from "./cards.ts";

export interface BenchStack {
  readonly stack: Stack;
  readonly user: TestUser;
  /** What a client sends to be the user. */
  readonly userHeaders: Readonly<Record<string, string>>;
  /** What a function is given. */
  readonly functionEnv: Readonly<Record<string, string>>;
  readonly denoDir: string;
  /** Body of a card to store; another number each time. */
  card(): unknown;
}

export async function withBenchStack<T>(
  { progress, ...options }: StackOptions & { readonly progress: (line: string) => void },
  run: (stack: BenchStack) => Promise<T>,
): Promise<T> {
  progress("starting Postgres and the stack");
  const cluster = await startCluster();
  const dataDir = await Deno.makeTempDir({ prefix: "bench-stack-" });
  try {
    const dbUrl = cluster.url("postgres");
    const stack = await startStack({
      ...{ port: 0, awsPort: 0, envFile: null, dataDir, dbUrl },
      // Counted as in production, but for one user who asks as fast as anybody can.
      functionEnv: AMPLE_LIMITS,
      ...options,
    });
    try {
      const user = await signUp(stack);
      const platform = await platformEnv({
        apiUrl: stack.apiUrl,
        dbUrl,
        identity: stack.identity,
      });
      return await run({
        stack,
        user,
        userHeaders: { apikey: stack.publishableKey, authorization: `Bearer ${user.token}` },
        functionEnv: functionEnvironment(platform, localSecrets(stack.aws), {}, AMPLE_LIMITS),
        denoDir: await denoDirectory(),
        card: () => ({
          data_class: "payment",
          card: { number: randomCardNumber(), exp_month: 12, exp_year: 2030 },
        }),
      });
    } finally {
      await stack.close();
    }
  } finally {
    await Deno.remove(dataDir, { recursive: true }).catch(() => {});
    await cluster.close();
  }
}

async function denoDirectory(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--no-config"],
  }).output();
  return (JSON.parse(new TextDecoder().decode(stdout)) as { denoDir: string }).denoDir;
}
