/**
 * Structured logs: one JSON object a line, and only fields of an allow-list, so that no later call site
 * can log a card number by accident. Error messages are never logged: parsers and databases quote the
 * values they choke on. Names, codes and stack frames say where it went wrong.
 */
export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LogFields {
  readonly function?: string;
  readonly request_id?: string;
  readonly method?: string;
  /** The route's pattern, never the path that was asked for. */
  readonly route?: string;
  readonly status?: number;
  readonly code?: string;
  readonly duration_ms?: number;
  readonly caller?: "user" | "secret_key" | "none";
  readonly data_class?: string;
  readonly region?: string;
  readonly operation?: string;
  readonly count?: number;
  readonly job_id?: string;
  /** Name of a metric. */
  readonly metric?: string;
  readonly value?: number;
  readonly success?: boolean;
  /** Names of variables and constraints; see `ConfigError`. */
  readonly faults?: readonly string[];
  readonly error?: unknown;
}

const ALLOWED: readonly (keyof LogFields)[] = [
  "function",
  "request_id",
  "method",
  "route",
  "status",
  "code",
  "duration_ms",
  "caller",
  "data_class",
  "region",
  "operation",
  "count",
  "job_id",
  "metric",
  "value",
  "success",
  "faults",
];

const SEVERITY = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 } as const;

export class Logger {
  readonly #threshold: number;
  readonly #write: (line: string) => void;
  readonly #now: () => number;

  constructor(
    level: LogLevel | "silent",
    options: { readonly write?: (line: string) => void; readonly now?: () => number } = {},
  ) {
    this.#threshold = SEVERITY[level];
    this.#write = options.write ?? ((line) => console.log(line));
    this.#now = options.now ?? Date.now;
  }

  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (SEVERITY[level] < this.#threshold) return;
    const entry: Record<string, unknown> = {
      time: new Date(this.#now()).toISOString(),
      level,
      event,
    };
    for (const name of ALLOWED) {
      if (fields[name] !== undefined) entry[name] = fields[name];
    }
    if (fields.error !== undefined) entry.error = describeError(fields.error);
    this.#write(JSON.stringify(entry));
  }
}

const MAX_CAUSES = 5;
const MAX_FRAMES = 8;

/** Names, machine-readable codes and stack frames of an error and its causes; no messages. */
function describeError(error: unknown): unknown {
  const chain = [];
  for (let current = error; current !== undefined && chain.length < MAX_CAUSES;) {
    if (!(current instanceof Error)) {
      chain.push({ name: typeof current });
      break;
    }
    const { code, status } = current as { code?: unknown; status?: unknown };
    chain.push({
      name: identifier(current.name),
      ...identifier(code) !== undefined ? { code: identifier(code) } : {},
      ...typeof status === "number" ? { status } : {},
      ...chain.length === 0 ? { frames: frames(current) } : {},
    });
    current = current.cause;
  }
  return chain;
}

/** Codes and names only when they look like ones: few digits, no text. */
function identifier(value: unknown): string | undefined {
  if (typeof value !== "string" || !/^[\w.-]{1,64}$/.test(value)) return undefined;
  return value.replace(/\D/g, "").length <= MAX_CODE_DIGITS ? value : undefined;
}

/** More than any SQLSTATE or exception name has, fewer than a card number. */
const MAX_CODE_DIGITS = 8;

/** What follows the message: a message may have lines that look like frames. */
function frames({ stack = "", message }: Error): string[] {
  const at = stack.indexOf(message);
  if (at < 0) return [];
  return stack.slice(at + message.length).split("\n").filter((line) => /^\s+at /.test(line))
    .slice(0, MAX_FRAMES).map((line) => line.trim());
}
