/**
 * Cold start: from the start of a process to its first answered request, for each function and for
 * one that only uses supabase-js. And what each import costs a process that does nothing else.
 */
import { ENCRYPT, HEALTH, MANAGE } from "../security/canary/traffic.ts";
import type { BenchmarkOptions, BenchmarkResult } from "./benchmark.ts";
import { median, pairedRatio } from "./measure.ts";
import { ROOT } from "./repository.ts";
import { type BenchStack, withBenchStack } from "./stack.ts";

/** Reads the caller's cards by supabase-js: what a function without encryption would start as. */
const SUPABASE_JS_ONLY = `
import { createClient } from "@supabase/supabase-js";

export default {
  fetch: async (request: Request): Promise<Response> => {
    const client = createClient(
      Deno.env.get("SUPABASE_URL")!,
      JSON.parse(Deno.env.get("SUPABASE_PUBLISHABLE_KEYS")!).default,
      { global: { headers: { authorization: request.headers.get("authorization")! } } },
    );
    const { data, error } = await client.from("payment_methods").select("id").limit(1);
    return Response.json(error ?? data, { status: error ? 500 : 200 });
  },
};
`;

const BASELINE = "supabase-js only";

/** Modules that the functions load, by what a process pays for them. */
const IMPORTS = [
  "@supabase/supabase-js",
  "@supabase/server/core",
  "hono",
  "hono/cors",
  "valibot",
  "card-validator",
  "@aws-sdk/client-kms",
  "@aws-sdk/client-sts",
] as const;

interface Starter {
  readonly name: string;
  readonly entrypoint: string;
  readonly request: () => readonly [path: string, init: RequestInit];
}

export async function coldStart(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const { quick, progress } = options;
  return await withBenchStack({ progress }, async (stack) => {
    const folder = await Deno.makeTempDir({ prefix: "bench-cold-" });
    try {
      const baseline = `${folder}/index.ts`;
      await Deno.writeTextFile(baseline, SUPABASE_JS_ONLY);
      const rounds = quick ? 3 : 15;
      progress("first answers");
      const starts = await measureStarts(stack, starters(stack, baseline), rounds);
      progress("imports");
      const imports = await measureImports(folder, rounds);
      const bare = imports.get("nothing")!;
      return {
        tables: [{
          title: "process start to first answered request, milliseconds (median)",
          rows: Object.fromEntries([...starts].map(([name, times]) => [name, {
            "ms": Math.round(median(times)),
            "times supabase-js": round2(pairedRatio(times, starts.get(BASELINE)!)),
          }])),
        }, {
          title: `one import in a process of its own, milliseconds over an empty one's ${
            Math.round(median(bare))
          } (median)`,
          rows: Object.fromEntries(
            [...imports].filter(([name]) => name !== "nothing").map((
              [name, times],
            ) => [name, { ms: Math.round(median(times) - median(bare)) }]),
          ),
        }],
        ratios: Object.fromEntries(
          [...starts].filter(([name]) => name !== BASELINE).flatMap(([name, times]) => {
            const ratio = pairedRatio(times, starts.get(BASELINE)!);
            return name === ENCRYPT
              ? [["cold_start.vs_supabase_js", ratio], [`cold_start.${name}`, ratio]]
              : [[`cold_start.${name}`, ratio]];
          }),
        ),
        data: { starts: Object.fromEntries(starts), imports: Object.fromEntries(imports) },
      };
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

function starters(stack: BenchStack, baseline: string): Starter[] {
  const function_ = (name: string) => `${ROOT}/supabase/functions/${name}/index.ts`;
  const as = stack.userHeaders;
  return [
    { name: BASELINE, entrypoint: baseline, request: () => ["/", { headers: as }] },
    {
      name: MANAGE,
      entrypoint: function_(MANAGE),
      request: () => [`/${MANAGE}`, { headers: as }],
    },
    {
      name: ENCRYPT,
      entrypoint: function_(ENCRYPT),
      request: () => [`/${ENCRYPT}`, {
        method: "POST",
        headers: {
          ...as,
          "content-type": "application/json",
          "idempotency-key": crypto.randomUUID(),
        },
        body: JSON.stringify(stack.card()),
      }],
    },
    { name: HEALTH, entrypoint: function_(HEALTH), request: () => [`/${HEALTH}`, {}] },
  ];
}

async function measureStarts(
  stack: BenchStack,
  all: readonly Starter[],
  rounds: number,
): Promise<Map<string, number[]>> {
  const times = new Map(all.map(({ name }) => [name, [] as number[]]));
  for (let round = -1; round < rounds; round++) {
    for (const starter of all) {
      const ms = await firstAnswer(stack, starter);
      if (round >= 0) times.get(starter.name)!.push(ms); // the first one compiles
    }
  }
  return times;
}

/** @throws Error when the first answer is no success */
async function firstAnswer(stack: BenchStack, starter: Starter): Promise<number> {
  const port = freePort();
  const [path, init] = starter.request();
  const started = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["serve", "--host=127.0.0.1", `--port=${port}`, "--allow-net", "--allow-env"],
      ...["--no-prompt", "--no-check", "--quiet", "--no-config", "--node-modules-dir=none"],
      ...[`--import-map=${ROOT}/import_map.json`, `--lock=${ROOT}/deno.lock`],
      starter.entrypoint,
    ],
    clearEnv: true,
    env: { ...stack.functionEnv, DENO_DIR: stack.denoDir, NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  try {
    let alive = true;
    void child.status.then(() => alive = false);
    while (alive) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, init).catch(() => undefined);
      if (response === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        continue;
      }
      const text = await response.text();
      const ms = performance.now() - started;
      if (!response.ok) throw new Error(`${starter.name} answered ${response.status}: ${text}`);
      return ms;
    }
    throw new Error(`${starter.name} did not start: ${await stderr}`);
  } finally {
    try {
      child.kill("SIGKILL");
    } catch { /* has ended */ }
    await child.status;
    await stderr.catch(() => {});
  }
}

async function measureImports(folder: string, rounds: number): Promise<Map<string, number[]>> {
  const programs = new Map([["nothing", ""]]);
  for (const name of IMPORTS) programs.set(name, `import ${JSON.stringify(name)};\n`);
  for (const name of [ENCRYPT, MANAGE, HEALTH]) {
    programs.set(name, `import "${ROOT}/supabase/functions/${name}/index.ts";\n`);
  }
  const times = new Map([...programs.keys()].map((name) => [name, [] as number[]]));
  let index = 0;
  const paths = new Map(
    [...programs.keys()].map((name) => [name, `${folder}/import${index++}.ts`]),
  );
  for (const [name, text] of programs) await Deno.writeTextFile(paths.get(name)!, text);
  for (let round = -1; round < rounds; round++) {
    for (const [name, path] of paths) {
      const started = performance.now();
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--allow-env", "--no-check", "--quiet", "--no-config"],
          ...["--node-modules-dir=none", `--import-map=${ROOT}/import_map.json`],
          ...[`--lock=${ROOT}/deno.lock`, path],
        ],
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).output();
      if (!success) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
      if (round >= 0) times.get(name)!.push(performance.now() - started);
    }
  }
  return times;
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
