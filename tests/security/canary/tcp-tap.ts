/** A loopback port that passes connections on and keeps a copy of every byte that clients send. */
import type { Sink } from "./sinks.ts";

export class TcpTap {
  /** Port that connections are passed on to. */
  target = 0;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #chunks: Uint8Array[] = [];
  readonly #connections = new Set<Deno.Conn>();
  readonly #closed = this.#accept();

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  sink(): Sink {
    return { name: "bytes sent to AWS", content: concat(this.#chunks) };
  }

  async close(): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) close(connection);
    await this.#closed;
  }

  async #accept(): Promise<void> {
    const passing: Promise<void>[] = [];
    for await (const client of this.#listener) passing.push(this.#pass(client));
    await Promise.all(passing);
  }

  async #pass(client: Deno.Conn): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.target });
    this.#connections.add(client).add(server);
    const keep = (chunk: Uint8Array) => this.#chunks.push(chunk.slice());
    await Promise.all([copy(client, server, keep), copy(server, client, () => {})]);
  }
}

async function copy(
  from: Deno.Conn,
  to: Deno.Conn,
  keep: (chunk: Uint8Array) => void,
): Promise<void> {
  try {
    for await (const chunk of from.readable) {
      keep(chunk);
      for (let written = 0; written < chunk.length;) {
        written += await to.write(chunk.subarray(written));
      }
    }
  } catch {
    // A fault of the local AWS, or the end of the test, cut the connection: pass that on.
  }
  close(from);
  close(to);
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // Closed from the other side already.
  }
}

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
