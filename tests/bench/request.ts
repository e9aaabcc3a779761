/**
 * A whole request of `encrypt-payment-data` against its twin that stores plaintext: same HTTP, same
 * checks, same calls of the database, real Postgres, local KMS at 0, 10 and 50 ms. Both run in
 * processes of their own and are asked in turns.
 */
import type { BenchmarkOptions, BenchmarkResult } from "./benchmark.ts";
import { median, percentile } from "./measure.ts";
import { programPath, ROOT } from "./repository.ts";
import { type BenchStack, withBenchStack } from "./stack.ts";

const NAME = "encrypt-payment-data";
/** Names of the two in the stack. */
const OURS = "encrypting";
const TWIN = "plaintext";
const CONCURRENCY = 8;
const KMS_LATENCIES_MS = [0, 10, 50] as const;

export async function request(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { quick, progress } = options;
  const root = await tree({
    [OURS]: `import ours from ${url(`${ROOT}/supabase/functions/${NAME}/index.ts`)};\n` +
      `const { fetch } = ours;\n`,
    [TWIN]: `import { plaintextTwin } from ${url(programPath("plaintext_twin.ts"))};\n` +
      `const { fetch } = plaintextTwin(Deno.env.toObject());\n`,
  });
  try {
    return await withBenchStack({ progress, functionsDir: root }, async (stack) => {
      const results: LatencyResult[] = [];
      for (const latency of KMS_LATENCIES_MS) {
        progress(`KMS at ${latency} ms`);
        stack.stack.aws.faults.set(
          latency === 0 ? [] : [{ service: "kms", effect: { kind: "latency", ms: latency } }],
        );
        for (const name of [OURS, TWIN]) await stack.stack.restartFunction(name);
        const cold = await timed(stack, OURS);
        const pairs = await interleaved(stack, quick ? 20 : 400, quick ? 5 : 100);
        const throughput = await interleavedThroughput(stack, quick ? 1 : 7);
        results.push({ latency, cold, ...pairs, throughput });
      }
      return summary(results);
    });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

interface LatencyResult {
  readonly latency: number;
  readonly cold: number;
  readonly ours: readonly number[];
  readonly twin: readonly number[];
  /** Requests a second. */
  readonly throughput: { readonly ours: number; readonly twin: number };
}

function summary(results: readonly LatencyResult[]): BenchmarkResult {
  // Of a pair, since the machine is as busy for both; more than 1 is what encryption adds.
  const share = ({ ours, twin }: LatencyResult) =>
    median(ours.map((ms, index) => ms - twin[index]!)) / median(twin);
  const ms = (value: number) => Number(value.toFixed(2));
  const rows = results.flatMap((result) => {
    const { latency, ours, twin, throughput } = result;
    const row = (times: readonly number[], rate: number) => ({
      "p50 ms": ms(median(times)),
      "p99 ms": ms(percentile(times, 99)),
      [`requests/s at ${CONCURRENCY}`]: Math.round(rate),
    });
    return [
      [`KMS ${latency} ms: plaintext twin`, row(twin, throughput.twin)],
      [`KMS ${latency} ms: encrypting`, row(ours, throughput.ours)],
    ] as const;
  });
  const [warm] = results;
  return {
    tables: [
      { title: "a request, warm", rows: Object.fromEntries(rows) },
      {
        title: "encryption's share, and the first request of a new process",
        rows: Object.fromEntries(results.map((result) => [`KMS ${result.latency} ms`, {
          "share of the twin's time": `${(100 * share(result)).toFixed(1)} %`,
          "first request ms": Math.round(result.cold),
        }])),
      },
    ],
    ratios: {
      "request.encryption_share": share(warm!),
      ...Object.fromEntries(results.map((result) => [
        `request.encryption_share.kms_${result.latency}ms`,
        share(result),
      ])),
      "request.throughput_vs_plaintext": warm!.throughput.ours / warm!.throughput.twin,
    },
    data: results,
  };
}

async function timed(stack: BenchStack, name: string): Promise<number> {
  const body = JSON.stringify(stack.card());
  const started = performance.now();
  const response = await fetch(`${stack.stack.apiUrl}/functions/v1/${name}`, {
    method: "POST",
    headers: {
      ...stack.userHeaders,
      "content-type": "application/json",
      "idempotency-key": crypto.randomUUID(),
    },
    body,
  });
  const text = await response.text();
  const ms = performance.now() - started;
  if (response.status !== 201) throw new Error(`${name} answered ${response.status}: ${text}`);
  return ms;
}

async function interleaved(stack: BenchStack, rounds: number, warmUp: number) {
  const times = { ours: [] as number[], twin: [] as number[] };
  for (let round = -warmUp; round < rounds; round++) {
    const [first, second] = round % 2 === 0 ? [OURS, TWIN] as const : [TWIN, OURS] as const;
    const a = await timed(stack, first);
    const b = await timed(stack, second);
    if (round < 0) continue;
    times.ours.push(first === OURS ? a : b);
    times.twin.push(first === OURS ? b : a);
  }
  return times;
}

async function interleavedThroughput(stack: BenchStack, rounds: number) {
  const rates = { ours: [] as number[], twin: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    rates.ours.push(await throughput(stack, OURS));
    rates.twin.push(await throughput(stack, TWIN));
  }
  return { ours: median(rates.ours), twin: median(rates.twin) };
}

async function throughput(stack: BenchStack, name: string): Promise<number> {
  const each = 12;
  const started = performance.now();
  await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
    for (let i = 0; i < each; i++) await timed(stack, name);
  }));
  return CONCURRENCY * each / (performance.now() - started) * 1000;
}

/**
 * A tree with these functions, resolved and locked as the repository's are. Each text defines `fetch`,
 * which is called as the function that it is a kind of.
 */
async function tree(functions: Readonly<Record<string, string>>): Promise<string> {
  const root = await Deno.makeTempDir({ prefix: "bench-functions-" });
  let config = await Deno.readTextFile(`${ROOT}/supabase/config.toml`);
  for (const [name, text] of Object.entries(functions)) {
    await Deno.mkdir(`${root}/supabase/functions/${name}`, { recursive: true });
    await Deno.writeTextFile(
      `${root}/supabase/functions/${name}/index.ts`,
      `${text}export default {
  fetch: (request: Request) =>
    fetch(new Request(request.url.replace("/${name}", "/${NAME}"), request)),
};
`,
    );
    config += `\n[functions.${name}]\nverify_jwt = false\nimport_map = "../import_map.json"\n`;
  }
  await Deno.writeTextFile(`${root}/supabase/config.toml`, config);
  for (const file of ["import_map.json", "deno.lock"]) {
    await Deno.copyFile(`${ROOT}/${file}`, `${root}/${file}`);
  }
  return root;
}

function url(path: string): string {
  return JSON.stringify(new URL(`file://${path}`).href);
}
