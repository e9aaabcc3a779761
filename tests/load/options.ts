import { parseArgs } from "node:util";

export interface LoadOptions {
  /** A running stack; undefined starts a fresh one. */
  readonly url: URL | undefined;
  /** Its `stack.json`, for the keys. */
  readonly stackFile: string;
  /** Requests a second after the ramp, 1 to 500. */
  readonly rate: number;
  /** Seconds from nothing to that rate, 0 to 600. */
  readonly rampSeconds: number;
  /** Seconds at that rate, 1 to 3600. */
  readonly seconds: number;
  /** Requests without an answer at a time, 1 to 2000; those beyond are not sent, and counted. */
  readonly maxInFlight: number;
  /** Error classes that are no reason to fail. */
  readonly expected: readonly string[];
}

export const USAGE = `Usage: deno task test:load-kms [options]

An open-loop load on encrypt-payment-data, manage-payment-methods-kms and kms-health-check: requests
are sent when they are due, whether or not earlier ones were answered.

  --url URL          a running stack on this machine (default: a fresh one, PGlite and local AWS)
  --stack-file FILE  its keys (default .local/stack.json)
  --rate N           requests a second after the ramp, 1 to 500 (default 10)
  --ramp N           seconds from nothing to that rate, 0 to 600 (default 10)
  --seconds N        seconds at that rate, 1 to 3600 (default 30)
  --in-flight N      unanswered requests at a time, 1 to 2000 (default 100)
  --expect CLASS,..  error classes that are no failure, such as 503_kms_unavailable
  --help             print this

It ends with 1 when an error of another class occurred, with 2 when it was called wrongly.`;

/** @throws TypeError that says which argument makes no sense */
export function readOptions(args: readonly string[]): LoadOptions | null {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      url: text,
      "stack-file": { ...text, default: ".local/stack.json" },
      rate: { ...text, default: "10" },
      ramp: { ...text, default: "10" },
      seconds: { ...text, default: "30" },
      "in-flight": { ...text, default: "100" },
      expect: { ...text, default: "" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  return {
    url: values.url === undefined ? undefined : loopback(values.url),
    stackFile: values["stack-file"],
    rate: within("--rate", values.rate, 1, 500),
    rampSeconds: within("--ramp", values.ramp, 0, 600),
    seconds: within("--seconds", values.seconds, 1, 3600),
    maxInFlight: within("--in-flight", values["in-flight"], 1, 2000),
    expected: values.expect.split(",").filter((name) => name !== ""),
  };
}

/** How many requests are due `elapsed` seconds after the start. */
export function due(elapsed: number, { rate, rampSeconds, seconds }: LoadOptions): number {
  const ramped = Math.min(elapsed, rampSeconds);
  const steady = Math.min(Math.max(0, elapsed - rampSeconds), seconds);
  // The rate grows in a straight line: its integral is the area of a triangle.
  const ramp = rampSeconds === 0 ? 0 : rate * ramped * ramped / (2 * rampSeconds);
  return Math.floor(ramp + rate * steady);
}

function within(name: string, value: string, min: number, max: number): number {
  const number = /^\d{1,6}$/.test(value) ? Number(value) : NaN;
  if (number >= min && number <= max) return number;
  throw new TypeError(`${name} must be a whole number from ${min} to ${max}`);
}

/** A load is an attack on a machine whose owner did not ask for it. */
function loopback(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.protocol !== "http:") {
    throw new TypeError("--url must be an http URL");
  }
  if (!["localhost", "[::1]"].includes(url.hostname) && !/^127(\.\d+){3}$/.test(url.hostname)) {
    throw new TypeError(`--url must be of this machine (127.0.0.1), not ${url.hostname}`);
  }
  return url;
}
