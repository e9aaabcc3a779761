/**
 * The layers of the functions' code and what each may import: only itself and layers below it, and
 * only the packages named here. Outer packages (database client, key service, web framework) are
 * named where their adapter lives, so that replacing one touches one folder.
 */

export interface Layer {
  readonly name: string;
  /** Matches paths relative to the repository's root; the first layer that matches owns the file. */
  readonly files: RegExp;
  /** Other layers it may import. Its own files are always allowed. */
  readonly imports: readonly string[];
  /** Import map names it may import; a trailing `*` stands for any ending. */
  readonly packages: readonly string[];
  /** Globals it may not use, beyond those that nothing but the composition root may use. */
  readonly forbidden?: readonly string[];
  /** Globals that only this layer may use. */
  readonly allowed?: readonly string[];
}

/** Environment, files, processes: known to the composition root only. */
export const HOST_GLOBALS = ["Deno", "process", "EdgeRuntime", "globalThis"] as const;

/** A clock, timers, randomness without a seed, network, output: inputs of pure code, if anything. */
const IMPURE = [
  ...["Date", "performance", "Temporal", "setTimeout", "setInterval", "queueMicrotask"],
  ...["fetch", "WebSocket", "XMLHttpRequest", "Worker", "console", "Math.random", "navigator"],
];

const BASE = ["base"];
const USE_CASES = ["payments", "records", "health", "wallets", "admin"];
const BELOW_USE_CASES = [...BASE, "validation", "message", "telemetry", "keys", "storage"];

const useCase = (name: string): Layer => ({
  name,
  files: new RegExp(`^functions-shared/${name}/`),
  imports: [...BELOW_USE_CASES, ...USE_CASES.filter((other) => other !== name)],
  packages: ["valibot", "card-validator", "node:crypto"],
});

export const LAYERS: readonly Layer[] = [
  {
    name: "functions",
    files: /^supabase\/functions\/[^_/][^/]*\/index\.ts$/,
    imports: ["runtime", "endpoints"],
    packages: [],
  },
  {
    name: "runtime",
    files: /^functions-shared\/(runtime\.ts$|assembly\/)/,
    imports: [
      ...BELOW_USE_CASES,
      ...USE_CASES,
      ...[
        "key providers",
        "aws",
        "database",
        "http",
        "authentication",
        "rate limit store",
        "endpoints",
      ],
    ],
    packages: [],
    allowed: ["Deno", "Deno.env", "EdgeRuntime", "EdgeRuntime.waitUntil"],
  },
  {
    name: "endpoints",
    files: /^functions-shared\/endpoints\//,
    imports: [...BELOW_USE_CASES, ...USE_CASES, "http", "authentication"],
    packages: ["hono", "hono/*", "valibot"],
  },
  {
    name: "authentication",
    files: /^functions-shared\/http\/auth\.ts$/,
    imports: [...BASE, "telemetry", "http"],
    packages: ["hono", "hono/*", "@supabase/server/*"],
  },
  {
    // The port of `http` that the database implements.
    name: "rate limit store",
    files: /^functions-shared\/http\/rate-limit-store\.ts$/,
    imports: [],
    packages: [],
  },
  {
    name: "http",
    files: /^functions-shared\/http\//,
    imports: [...BASE, "validation", "telemetry", "storage", "authentication", "rate limit store"],
    packages: ["hono", "hono/*", "valibot", "node:crypto"],
  },
  {
    name: "database",
    files: /^functions-shared\/database(\.ts$|\/)/,
    imports: [...BELOW_USE_CASES, ...USE_CASES, "rate limit store"],
    packages: ["@supabase/server/*", "@supabase/supabase-js"],
  },
  ...USE_CASES.map(useCase),
  {
    name: "storage",
    files: /^functions-shared\/storage\//,
    imports: [...BASE, "message", "telemetry", "keys"],
    packages: ["node:crypto"],
  },
  {
    name: "aws",
    files: /^functions-shared\/keys\/providers\/aws\//,
    imports: [...BASE, "message", "telemetry", "keys", "key providers"],
    packages: ["@aws-sdk/*", "@smithy/fetch-http-handler", "aws4fetch"],
  },
  {
    name: "key providers",
    files: /^functions-shared\/keys\/providers\//,
    imports: [...BASE, "message", "telemetry", "keys"],
    packages: ["node:crypto"],
  },
  {
    name: "keys",
    files: /^functions-shared\/keys\//,
    imports: [...BASE, "message", "telemetry"],
    packages: ["node:crypto"],
  },
  {
    name: "validation",
    files: /^functions-shared\/(validation|sensitive-data)\.ts$/,
    imports: BASE,
    packages: ["valibot"],
  },
  {
    name: "telemetry",
    files: /^functions-shared\/telemetry\//,
    imports: BASE,
    packages: ["node:async_hooks"],
  },
  {
    name: "message",
    files: /^functions-shared\/message\//,
    imports: [],
    packages: ["node:crypto", "node:buffer"],
    forbidden: IMPURE,
  },
  {
    name: "base",
    files:
      /^functions-shared\/(config(-audit|-aws|-gcp|-rate-limits|-vault)?|environment|errors|data-class)\.ts$/,
    imports: [],
    packages: [],
    forbidden: IMPURE,
  },
];
