/** `deno task test:load-kms`: see options.ts for its flags. */
import { startStack } from "../../local/stack.ts";
import { AMPLE_LIMITS } from "../support/stack.ts";
import { pick, send, signUp, type Target } from "./operations.ts";
import { due, type LoadOptions, readOptions, USAGE } from "./options.ts";
import { Statistics } from "./statistics.ts";

const PROGRESS_EVERY_MS = 2000;

async function run(options: LoadOptions, target: Target): Promise<Statistics> {
  const statistics = new Statistics();
  const { rampSeconds, seconds, maxInFlight } = options;
  const pending = new Set<Promise<void>>();
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  let reached = 0;
  const progress = setInterval(() => {
    const seen = statistics.answered;
    console.log(
      `${elapsed().toFixed(0).padStart(4)} s  sent ${statistics.sent}  answered ${seen}  ` +
        `in flight ${pending.size}  errors ${statistics.errorCount}`,
    );
  }, PROGRESS_EVERY_MS);
  try {
    while (elapsed() < rampSeconds + seconds) {
      for (; reached < due(elapsed(), options); reached++) {
        if (pending.size >= maxInFlight) {
          statistics.addError("not_sent_too_many_in_flight");
          continue;
        }
        const operation = pick();
        const since = performance.now();
        statistics.sent++;
        const request = send(operation, target).then((error) => {
          statistics.add(operation.name, performance.now() - since, error);
          pending.delete(request);
        });
        pending.add(request);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await Promise.all(pending);
  } finally {
    clearInterval(progress);
  }
  return statistics;
}

/** A stack that runs, with the keys of its file, or a fresh one. */
async function withTarget<T>(
  options: LoadOptions,
  use: (url: string, publishableKey: string) => Promise<T>,
): Promise<T> {
  if (options.url !== undefined) {
    const file = JSON.parse(await Deno.readTextFile(options.stackFile)) as {
      publishable_key: string;
    };
    return await use(options.url.origin, file.publishable_key);
  }
  const dataDir = await Deno.makeTempDir({ prefix: "load-" });
  try {
    const onProgress = (line: string) => console.log(line);
    // The load is one user's, far beyond what a user may.
    const functionEnv = AMPLE_LIMITS;
    const stack = await startStack({
      port: 0,
      awsPort: 0,
      dataDir,
      envFile: null,
      functionEnv,
      onProgress,
    });
    try {
      return await use(stack.apiUrl, stack.publishableKey);
    } finally {
      await stack.close();
    }
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
}

async function main(args: readonly string[]): Promise<number> {
  let options: LoadOptions | null;
  try {
    options = readOptions(args);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (options === null) {
    console.log(USAGE);
    return 0;
  }
  const { rate, rampSeconds, seconds, expected } = options;
  const statistics = await withTarget(options, async (url, publishableKey) => {
    const token = await signUp(url, publishableKey);
    console.log(`${url}: up to ${rate} requests/s, ramp ${rampSeconds} s, then ${seconds} s`);
    return await run(options, { url, publishableKey, token });
  });
  console.log(statistics.report());
  const unexpected = statistics.unexpected(expected);
  if (unexpected > 0) console.error(`\n${unexpected} errors that were not expected`);
  return unexpected > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
