/**
 * Database errors as PostgREST shows them. `@supabase/lite` 0.10 answers 500 with the code `SUP`
 * for every SQLSTATE it does not know, so that a function's own code would be lost; and it prints
 * the error with the statement's parameters.
 */
interface DriverError {
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** SQLSTATE, or the first characters of one, to HTTP status (PostgREST, "HTTP Status Codes"). */
const STATUS_BY_PREFIX: ReadonlyArray<readonly [string, number]> = [
  ["P0001", 400],
  ["57P01", 503],
  ["08", 503],
  ["09", 500],
  ["0L", 403],
  ["0P", 403],
  ["25", 500],
  ["28", 403],
  ["2D", 500],
  ["38", 500],
  ["39", 500],
  ["3B", 500],
  ["40", 500],
  ["53", 503],
  ["54", 500],
  ["57", 500],
  ["58", 500],
  ["F0", 500],
  ["HV", 500],
  ["P0", 500],
  ["XX", 500],
];
/** SQLSTATEs whose answer depends on more than the code, and which lite answers as PostgREST does. */
const LEFT_TO_LITE = /^(42|22|21|55|PT|PGRST|2350[235]|25006)/;
/** Codes of the sockets and of postgres.js for a server that is not there. */
const UNREACHABLE = /^(ECONN|EPIPE|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT|CONNECT|57P0[123]$)/;

/** The method by which Deno's console prints an object. */
const PRINTED = Symbol.for("Deno.customInspect");

/** What `@supabase/lite` may do with an error: read these fields, and print it. */
class DataApiError implements DriverError {
  constructor(
    readonly code: string,
    readonly message: string,
    readonly detail?: string,
    readonly hint?: string,
    private readonly line = `${code} ${message}`,
  ) {}

  /** One line, without the statement and its parameters. */
  [PRINTED](): string {
    return `[data api] ${this.line}`;
  }
}

/** Replacement for the connection's `normalizeDbError`. */
export function asPostgrestError(error: unknown): unknown {
  if (!isDriverError(error)) {
    // One of lite's own; it tells them by their class.
    if (!(error instanceof Error)) return error;
    return Object.defineProperty(error, PRINTED, { value: () => `[data api] ${error.message}` });
  }
  const { code, message, detail, hint } = error;
  if (UNREACHABLE.test(code)) {
    const text = "Database connection error. Retrying the connection.";
    return raise(503, "PGRST000", text, { detail: message }, code);
  }
  if (LEFT_TO_LITE.test(code)) return new DataApiError(code, message, detail, hint);
  const status = STATUS_BY_PREFIX.find(([prefix]) => code.startsWith(prefix))?.[1] ?? 400;
  return raise(status, code, message, error, code);
}

/** The form in which PostgREST, and lite with it, takes a whole answer from an error. */
function raise(
  status: number,
  code: string,
  message: string,
  { detail, hint }: Pick<DriverError, "detail" | "hint">,
  logged: string,
): DataApiError {
  return new DataApiError(
    "PGRST",
    JSON.stringify({ code, message, details: detail, hint }),
    JSON.stringify({ status, headers: {} }),
    undefined,
    `${logged} ${message}`,
  );
}

function isDriverError(error: unknown): error is DriverError {
  if (typeof error !== "object" || error === null || !("code" in error)) return false;
  const fromServer = "severity" in error;
  return typeof error.code === "string" && (fromServer || UNREACHABLE.test(error.code));
}
