/** How often who may call what: `KMS_RATE_LIMIT_*`. */
import type { EnvironmentReader } from "./environment.ts";

/** What a route does to the data, which is what a limit is about. */
export const ROUTE_CLASSES = ["read", "write", "reveal", "admin"] as const;
export type RouteClass = typeof ROUTE_CLASSES[number];

export interface Limit {
  /** Requests that pass in a window. */
  readonly count: number;
  /** Length of the window. */
  readonly seconds: number;
}

/** Undefined where there is no limit. */
type Limits = Readonly<Record<RouteClass, Limit | undefined>>;

export interface RateLimitConfig {
  /** Of each user. */
  readonly user: Limits;
  /** Of each secret key. */
  readonly server: Limits;
  /** Of all users behind one address together. */
  readonly address: Limits;
  /** Of requests from one address whose credentials are none or wrong. */
  readonly authFailure: Limit | undefined;
}

const PATTERN = /^([1-9]\d{0,8})\/([1-9]\d{0,4})$/;
const MAX_COUNT = 1_000_000;
const MAX_SECONDS = 86_400;

export function readRateLimits(read: EnvironmentReader): RateLimitConfig {
  const limits = (prefix: string, defaults: Readonly<Record<RouteClass, string>>): Limits => ({
    read: readLimit(read, `${prefix}_READ`, defaults.read),
    write: readLimit(read, `${prefix}_WRITE`, defaults.write),
    reveal: readLimit(read, `${prefix}_REVEAL`, defaults.reveal),
    admin: readLimit(read, `${prefix}_ADMIN`, defaults.admin),
  });
  return {
    user: limits("KMS_RATE_LIMIT", {
      read: "120/60",
      write: "60/60",
      reveal: "20/60",
      admin: "60/60",
    }),
    server: limits("KMS_RATE_LIMIT_SERVER", {
      read: "6000/60",
      write: "3000/60",
      reveal: "1200/60",
      admin: "600/60",
    }),
    address: limits("KMS_RATE_LIMIT_ADDRESS", {
      read: "1200/60",
      write: "600/60",
      reveal: "100/60",
      admin: "300/60",
    }),
    authFailure: readLimit(read, "KMS_RATE_LIMIT_AUTH_FAILURE", "30/60"),
  };
}

function readLimit(read: EnvironmentReader, name: string, fallback: string): Limit | undefined {
  const value = read.text(name, {
    matches: (text) => text === "off" || parse(text) !== undefined,
    constraint:
      `must be off, or requests/seconds: 1 to ${MAX_COUNT} in 1 to ${MAX_SECONDS}, such as ` +
      fallback,
    fallback,
  });
  return parse(value);
}

function parse(text: string): Limit | undefined {
  const [, count, seconds] = (PATTERN.exec(text) ?? []).map(Number);
  if (count === undefined || seconds === undefined) return undefined;
  return count <= MAX_COUNT && seconds <= MAX_SECONDS ? { count, seconds } : undefined;
}
