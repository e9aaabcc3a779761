/** How a command ends: its exit code, and what went wrong. */
import { printable } from "./text.ts";

/** Documented in docs/command-line.md; scripts depend on them. */
export const EXIT = {
  ok: 0,
  /** The answer is no: a check failed, the audit is not valid, a job has failures. */
  negative: 1,
  /** Nothing was sent: arguments, files or settings are wrong. */
  usage: 2,
  /** The key is missing or refused. */
  unauthorized: 3,
  /** No answer, or one that says to try later. */
  unavailable: 4,
  /** The suite refuses the request as it is. */
  refused: 5,
  /** A fault of the command line itself. */
  internal: 70,
  /** Ctrl-C. */
  interrupted: 130,
} as const;

export type ExitCode = typeof EXIT[keyof typeof EXIT];

/** Ends the command. The message is for people and holds no secret. */
export class CliError extends Error {
  override readonly name: string = "CliError";
  readonly exit: ExitCode;
  /** For scripts. */
  readonly code: string;

  constructor(exit: ExitCode, code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
    this.code = code;
  }
}

/** A fault in what the operator gave. */
export function usage(message: string): CliError {
  return new CliError(EXIT.usage, "usage", message);
}

/** One field that the suite rejected: where it is and why, never what was sent. */
export interface Violation {
  readonly pointer?: string;
  readonly parameter?: string;
  readonly code: string;
  readonly detail: string;
}

/** A problem document of the suite (README, "Error codes"). */
export class ApiError extends CliError {
  override readonly name = "ApiError";
  readonly status: number;
  readonly violations: readonly Violation[];
  readonly requestId: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(problem: {
    readonly status: number;
    readonly code: string;
    readonly title: string;
    readonly violations?: readonly Violation[];
    readonly requestId?: string | undefined;
    readonly retryAfterSeconds?: number | undefined;
  }) {
    super(exitOf(problem.status), problem.code, problem.title);
    this.status = problem.status;
    this.violations = problem.violations ?? [];
    this.requestId = problem.requestId;
    this.retryAfterSeconds = problem.retryAfterSeconds;
  }
}

function exitOf(status: number): ExitCode {
  if (status === 401 || status === 403) return EXIT.unauthorized;
  if (status === 429 || status >= 500) return EXIT.unavailable;
  return EXIT.refused;
}

/** What `--json` prints in place of an answer. */
export function errorDocument(error: CliError): unknown {
  if (!(error instanceof ApiError)) return { error: { code: error.code, title: error.message } };
  return {
    error: {
      code: error.code,
      title: error.message,
      status: error.status,
      ...error.violations.length === 0 ? {} : { errors: error.violations },
      ...error.requestId === undefined ? {} : { request_id: error.requestId },
    },
  };
}

/** The same for people. */
export function errorText(error: CliError): string {
  const lines = [`error: ${error.message}`];
  if (error instanceof ApiError) {
    lines[0] += ` (${error.code})`;
    for (const { pointer, parameter, detail, code } of error.violations) {
      lines.push(`  ${pointer ?? parameter ?? "request"}: ${detail || code}`);
    }
    if (error.requestId !== undefined) lines.push(`  request ${error.requestId}`);
  }
  return lines.map(printable).join("\n");
}
