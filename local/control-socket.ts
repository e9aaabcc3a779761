/**
 * The supervisor's side of the connection that every function process keeps to it. Each process
 * says its token, and `booted` once its code has run; it ends itself when the connection does.
 */
export class ControlSocket {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #waiting = new Map<string, () => void>();

  constructor() {
    void this.#accept();
  }

  /** Value of `STACK_CONTROL` for one process, and a promise for its `booted`. */
  expect(): { address: string; booted: Promise<void>; forget: () => void } {
    const token = crypto.randomUUID();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(token, resolve);
    return {
      address: `${this.#listener.addr.port}:${token}`,
      booted: promise,
      forget: () => void this.#waiting.delete(token),
    };
  }

  close(): void {
    this.#listener.close();
    for (const connection of this.#connections) closeQuietly(connection);
  }

  async #accept(): Promise<void> {
    try {
      for await (const connection of this.#listener) {
        this.#connections.add(connection);
        void this.#serve(connection).catch(() => {}).finally(() => {
          this.#connections.delete(connection);
          closeQuietly(connection);
        });
      }
    } catch {
      // Closed.
    }
  }

  async #serve(connection: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(128);
    let text = "";
    for (let n = await connection.read(buffer); n !== null; n = await connection.read(buffer)) {
      if (text.length > 256) return;
      text += new TextDecoder().decode(buffer.subarray(0, n));
      const [token, word] = text.split("\n");
      if (token && text.includes("\n") && !this.#waiting.has(token)) return;
      if (token && word === "booted") this.#waiting.get(token)?.();
    }
  }
}

function closeQuietly(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // Already closed by the other side.
  }
}
