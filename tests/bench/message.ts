/**
 * Messages a second: ours, the official AWS Encryption SDK for JavaScript, `@47ng/cloak`, and what
 * node:crypto alone takes; on this Deno, on the edge runtime's (2.1.4) and on Node.
 */
import type { BenchmarkOptions, BenchmarkResult, Table } from "./benchmark.ts";
import { median, pairedRatio } from "./measure.ts";
import type { MessageRun } from "./message_run.ts";
import { onDeno214, onNode, onThisDeno } from "./runtimes.ts";

/** Ratio by suffix: who is compared with whom on equal work. */
const PAIRS = {
  // The same raw AES keyring: a data key per message, wrapped under a local key.
  "vs_official": ["ours: raw AES keyring", "official SDK: raw AES keyring"],
  // A data key per message under a branch key: what the functions do by default.
  "vs_official_hierarchical": [
    "ours: hierarchical, warm",
    "official SDK: hierarchical keyring, warm",
  ],
  // No wrapping on either side: one data key for many messages.
  "vs_official_caching": [
    "ours: data key at hand",
    "official SDK: caching materials manager",
  ],
  "vs_cloak": ["ours: data key at hand", "@47ng/cloak"],
} as const;

/** How many times the bare limit's time: 2.5 is the target. */
const LIMIT = "limit: one KDF'd message (2 HKDF, header tag, body)";
const TIMES_LIMIT = {
  "times_limit": "ours: data key at hand",
  "times_limit_hierarchical": "ours: hierarchical, warm",
} as const;

const SIZES = [[64, "64B"], [1024, "1KiB"], [65536, "64KiB"]] as const;

export async function message({ quick, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const args = [
    SIZES.map(([bytes]) => bytes).join(","),
    ...quick ? ["3", "25", "3"] : ["25", "40", "20"],
  ];
  const runs: MessageRun[] = [];
  const notes: string[] = [];
  for (const runtime of [onThisDeno, onDeno214, onNode]) {
    progress(`on ${runtime.title}`);
    const outcome = await runtime.run("message_run.ts", args);
    if ("skipped" in outcome) {
      notes.push(`${runtime.title}: not measured, ${outcome.skipped}`);
    } else {
      const run = JSON.parse(outcome.stdout) as MessageRun;
      runs.push(run);
      for (const [name, why] of Object.entries(run.missing)) {
        notes.push(`${run.runtime}: ${name} does not run here: ${why}`);
      }
    }
  }
  const [first] = runs;
  if (first === undefined) throw new Error(`no runtime measured anything: ${notes.join("; ")}`);
  return { tables: runs.flatMap(tables), ratios: ratiosOf(first), data: runs, notes };
}

function ratiosOf(run: MessageRun): Record<string, number> {
  const ratios: Record<string, number> = {};
  for (const [bytes, label] of SIZES) {
    const size = run.sizes.find((one) => one.bytes === bytes);
    for (const operation of ["encrypt", "decrypt"] as const) {
      const rates = size?.[operation] ?? {};
      for (const [suffix, [our, their]] of Object.entries(PAIRS)) {
        set(`message.${operation}.${label}.${suffix}`, rates[our], rates[their]);
      }
      for (const [suffix, our] of Object.entries(TIMES_LIMIT)) {
        set(`message.${operation}.${label}.${suffix}`, rates[LIMIT], rates[our]);
      }
      set(
        `message.${operation}.${label}.limit_vs_official`,
        rates[LIMIT],
        rates["official SDK: raw AES keyring"],
      );
    }
  }
  return ratios;

  function set(name: string, rates: number[] | undefined, by: number[] | undefined): void {
    if (rates !== undefined && by !== undefined) ratios[name] = pairedRatio(rates, by);
  }
}

function tables(run: MessageRun): Table[] {
  return (["encrypt", "decrypt"] as const).map((operation) => {
    const names = Object.keys(run.sizes[0]?.[operation] ?? {});
    return {
      title: `${run.runtime}: ${operation}, messages a second`,
      rows: Object.fromEntries(names.map((name) => [
        name,
        Object.fromEntries(SIZES.map(([bytes, label]) => {
          const size = run.sizes.find((one) => one.bytes === bytes);
          return [label, Math.round(median(size?.[operation][name] ?? []))];
        })),
      ])),
    };
  });
}
