import { StackError } from "./errors.ts";

/** A TCP port that was free on 127.0.0.1 a moment ago. */
export function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  try {
    return listener.addr.port;
  } finally {
    listener.close();
  }
}

/**
 * Fails early and in words when `port` cannot be bound on 127.0.0.1. 0 (any free port) passes.
 *
 * @throws {StackError} naming the port and the flag that chooses another
 */
export function assertPortFree(port: number, what: string, flag: string): void {
  if (port === 0) return;
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw portTaken(port, what, flag);
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new StackError(
        `port ${port} for ${what} needs more rights than this user has: ` +
          `choose another with ${flag}`,
      );
    }
    throw error;
  }
}

/** The fault of a port in use. */
export function portTaken(port: number, what: string, flag: string): StackError {
  return new StackError(
    `port ${port} for ${what} is taken by another process: stop it, or choose another port ` +
      `with ${flag}`,
  );
}

/** Whether something accepts TCP connections on 127.0.0.1:`port`. */
export async function accepts(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch {
    return false;
  }
}
