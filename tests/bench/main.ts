/**
 * All benchmarks side by side, as tables.
 *
 *     deno task bench [--only message,kms-calls,request,cold-start,failover,growth]
 *                     [--quick] [--json FILE]
 *
 * Nothing is asserted: on a shared machine only ratios of one run mean something. `request`,
 * `failover` (its picture) and `growth` need a Postgres installed; they start their own server.
 */
import type { Benchmark, Table } from "./benchmark.ts";
import { coldStart } from "./cold_start.ts";
import { failover } from "./failover.ts";
import { growth } from "./growth.ts";
import { kmsCalls } from "./kms_calls.ts";
import { message } from "./message.ts";
import { request } from "./request.ts";

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  "message": message,
  "kms-calls": kmsCalls,
  "cold-start": coldStart,
  "request": request,
  "failover": failover,
  "growth": growth,
};

const USAGE = `deno task bench [--only ${
  Object.keys(BENCHMARKS).join(",")
}] [--quick] [--json FILE]`;

interface Arguments {
  readonly only: readonly string[];
  readonly quick: boolean;
  readonly json?: string;
}

/** @throws Error that says how to call it */
function parse(args: readonly string[]): Arguments {
  let only = Object.keys(BENCHMARKS);
  let quick = false;
  let json: string | undefined;
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--quick") quick = true;
    else if (args[i] === "--json" && args[i + 1]) json = args[++i];
    else if (args[i] === "--only" && args[i + 1]) only = args[++i]!.split(",");
    else throw new Error(USAGE);
  }
  const unknown = only.filter((name) => !Object.hasOwn(BENCHMARKS, name));
  if (unknown.length > 0) throw new Error(`no benchmark ${unknown.join(", ")}; ${USAGE}`);
  return { only, quick, ...json === undefined ? {} : { json } };
}

function machine(): Record<string, string | number> {
  const cpu = Deno.readTextFileSync("/proc/cpuinfo").match(/^model name\s*: (.*)$/m)?.[1];
  return {
    cpu: cpu ?? Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memory_gib: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    os: `${Deno.build.os} ${Deno.osRelease()}`,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
    load_average_before: Math.round((Deno.loadavg()[0] ?? 0) * 100) / 100,
    at: new Date().toISOString(),
  };
}

function print({ title, rows }: Table): void {
  console.log(`\n${title}`);
  console.table(rows);
}

if (import.meta.main) {
  const { only, quick, json } = parse(Deno.args);
  const about = machine();
  console.log(
    `${about.cpu}, ${about.cores} cores, ${about.memory_gib} GiB; Deno ${about.deno}` +
      (quick ? "; quick: these figures mean little" : ""),
  );
  const ratios: Record<string, number> = {};
  const runs: unknown[] = [];
  const failures: string[] = [];
  for (const name of only) {
    const started = performance.now();
    try {
      const progress = (line: string) => console.error(`${name}: ${line}`);
      const result = await BENCHMARKS[name]!({ quick, progress });
      result.tables.forEach(print);
      for (const note of result.notes ?? []) console.log(note);
      Object.assign(ratios, result.ratios);
      const seconds = Math.round((performance.now() - started) / 1000);
      runs.push({ name, quick, seconds, data: result.data, notes: result.notes ?? [] });
    } catch (error) {
      console.error(`${name} failed:`, error);
      failures.push(name);
    }
  }
  print({
    title: "ratios",
    rows: Object.fromEntries(
      Object.entries(ratios).map((
        [name, value],
      ) => [name, { value: Number(value.toPrecision(3)) }]),
    ),
  });
  if (json !== undefined) {
    const report = { machine: about, ratios, runs, ...failures.length > 0 ? { failures } : {} };
    await Deno.writeTextFile(json, `${JSON.stringify(report, null, 2)}\n`);
  }
  if (failures.length > 0) Deno.exitCode = 1;
}
