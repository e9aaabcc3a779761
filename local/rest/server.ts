/**
 * The HTTP side of the local Cloud KMS and the local Vault: reads a request, applies faults, lets the
 * service answer. node:http, because it lets a connection be cut without an answer.
 */
import type { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { RestFaults } from "./faults.ts";

/** As both services: far above what any operation of the suite takes. */
const MAX_BODY_BYTES = 1024 * 1024;

export interface RestRequest {
  readonly method: string;
  /** As sent, without the query. */
  readonly path: string;
  readonly query: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RestReply {
  readonly status: number;
  /** Sent as JSON; a text is sent as it is, as HTML. */
  readonly body: Record<string, unknown> | string;
}

export interface RestService {
  /** What the request asks for, in the words of the record of calls. */
  operation(request: RestRequest): string;
  /** Never throws: refusals are replies. */
  answer(request: RestRequest): Promise<RestReply> | RestReply;
  /** Resolves when what was done is kept; nothing is answered before. */
  keep(): Promise<void>;
}

export interface RestCall {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  /** 0 when nothing was answered. */
  readonly status: number;
}

/** A running local service. */
export interface RestServer {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  readonly port: number;
  readonly faults: RestFaults;
  calls(): readonly RestCall[];
  resetCalls(): void;
  close(): Promise<void>;
}

/** `port` 0 takes a free one. Rejects when the port is taken. */
export async function startRestServer(port: number, service: RestService): Promise<RestServer> {
  const faults = new RestFaults();
  let calls: RestCall[] = [];
  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => response.destroy());
  });

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = "/", query = ""] = (incoming.url ?? "/").split("?", 2);
    const body = await readBody(incoming);
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(incoming.headers)) headers[name] = String(value);
    const request = { method: incoming.method ?? "GET", path, query, headers, body };
    const operation = service.operation(request);
    const note = (status: number) =>
      calls.push({ operation, method: request.method, path, status });
    const fault = faults.take(operation);
    switch (fault?.kind) {
      case "refuse":
        note(0);
        response.socket?.destroy();
        return;
      case "blackhole":
        note(0);
        return;
      case "status":
        note(fault.status);
        send(response, { status: fault.status, body: (fault.body ?? "unavailable") as string });
        return;
      case "malformed":
        note(200);
        send(response, { status: 200, body: fault.text ?? "<!doctype html><title>Proxy</title>" });
        return;
      case "latency":
        await new Promise((resolve) => setTimeout(resolve, fault.ms));
    }
    const reply = await service.answer(request);
    await service.keep();
    if (fault?.kind === "drop_after") {
      note(0);
      response.socket?.destroy();
      return;
    }
    note(reply.status);
    const changed = fault?.kind === "change" && typeof reply.body !== "string"
      ? { ...reply, body: fault.change(reply.body) }
      : reply;
    send(response, changed);
  }

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the server has no port");
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    port: address.port,
    faults,
    calls: () => [...calls],
    resetCalls: () => {
      calls = [];
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function send(response: ServerResponse, { status, body }: RestReply): void {
  const isText = typeof body === "string";
  const bytes = new TextEncoder().encode(isText ? body : JSON.stringify(body));
  response.writeHead(status, {
    "content-type": isText ? "text/html; charset=utf-8" : "application/json; charset=utf-8",
    "content-length": String(bytes.length),
  });
  response.end(bytes);
}

function readBody(incoming: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    incoming.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) reject(new Error("the body is too large"));
      else chunks.push(chunk);
    });
    incoming.on("error", reject);
    incoming.on("close", () => reject(new Error("the client went away")));
    incoming.on("end", () => {
      const whole = new Uint8Array(length);
      let at = 0;
      for (const chunk of chunks) {
        whole.set(chunk, at);
        at += chunk.length;
      }
      resolve(new TextDecoder().decode(whole));
    });
  });
}

/** Bytes of base64 in any of the spellings the services take; null when it is none. */
export function base64Bytes(text: string): Uint8Array | null {
  const standard = text.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, "");
  if (!/^[A-Za-z0-9+/]*$/.test(standard) || standard.length % 4 === 1) return null;
  return Uint8Array.from(atob(standard), (character) => character.charCodeAt(0));
}

export function base64Text(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
