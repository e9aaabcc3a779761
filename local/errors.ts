/**
 * A fault the person at the terminal can mend: the command line prints its message alone, without a
 * stack trace, and exits with 1.
 */
export class StackError extends Error {
  override readonly name = "StackError";
}

/** The message of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
