/**
 * The HTTP side: reads a request, finds its service, applies faults, checks the signature, answers.
 * node:http, because it lets a connection be cut without an answer.
 */

import type { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { TrailEvent } from "./cloudtrail/trail.ts";
import { AwsError, defaultMessage, statusOf } from "./errors.ts";
import type { Faults } from "./faults.ts";
import type { Identities } from "./iam/identities.ts";
import { answerLocalApi, LOCAL_PREFIX, type LocalApi } from "./local-api.ts";
import { isRegion } from "./regions.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "./service.ts";
import { parseAuthorization, SignatureError, verifySignature } from "./sigv4.ts";
import type { CallRecord } from "./types.ts";

/** Far above what any operation here takes: Encrypt's 4 KiB and a 128 KiB policy are the largest. */
const MAX_BODY_BYTES = 1024 * 1024;
const KEEP_ALIVE_MS = 65_000;

/** The client went away before its request was complete. */
class ClientLeft extends Error {}

export interface ServerOptions {
  readonly services: readonly Service[];
  readonly identities: Identities;
  readonly faults: Faults;
  readonly now: () => number;
  readonly record: (call: CallRecord) => void;
  /** Told of every call by somebody who is known, once it was answered. */
  readonly trail: (event: TrailEvent) => void;
  readonly log: (line: string) => void;
  readonly localApi: LocalApi;
}

export class AwsServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #stopping = new AbortController();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch((error) => {
        if (!(error instanceof ClientLeft)) {
          options.log(`internal error: ${error instanceof Error ? error.stack : error}`);
        }
        response.destroy();
      });
    });
    // AWS keeps idle connections long; a short limit would cut one just as a client reuses it.
    this.#server.keepAliveTimeout = KEEP_ALIVE_MS;
    // HTTP clients send again by themselves what a reused connection lost. On a connection of its
    // own, a request that is cut stays lost, and calls can be counted.
    options.faults.onChange(() => {
      if (options.faults.cutsConnections) this.#server.closeIdleConnections();
    });
  }

  /** Resolves to the port. Rejects when the port is taken. */
  listen(port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", () => {
        const address = this.#server.address();
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("the server has no port"));
      });
    });
  }

  close(): Promise<void> {
    this.#stopping.abort();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = "/", query = ""] = split(incoming.url ?? "/", "?");
    const body = await readBody(incoming);
    const request: AwsRequest = {
      id: randomUUID(),
      method: incoming.method ?? "GET",
      path,
      query,
      headers: headersOf(incoming),
      body: body ?? new Uint8Array(),
    };
    if (path.startsWith(LOCAL_PREFIX)) {
      this.#send(response, request, answerLocalApi(request, this.#options.localApi));
    } else {
      await this.#answer(request, body === null, response);
    }
  }

  async #answer(request: AwsRequest, tooLarge: boolean, response: ServerResponse): Promise<void> {
    const { faults, now, record, log } = this.#options;
    const at = now();
    const { service, operation } = this.#find(request);
    const claim = readClaim(request);
    const region = claim?.region ?? "";
    const plan = faults.plan({ service: service.name, region, operation });
    const note = (status: number, errorName?: string) => {
      const call: CallRecord = {
        service: service.name,
        operation,
        region,
        accessKeyId: claim?.accessKeyId ?? "",
        status,
        ...(errorName === undefined ? {} : { errorName }),
        ...(plan.effect === null
          ? plan.delayMs > 0 ? { fault: "latency" as const } : {}
          : { fault: plan.effect.kind }),
        at,
      };
      record(call);
      log(`${service.name} ${operation} ${region} ${status}${errorName ? ` ${errorName}` : ""}`);
    };
    if (plan.delayMs > 0) await this.#sleep(plan.delayMs);
    switch (plan.effect?.kind) {
      case "blackhole":
        note(0);
        return;
      case "refuse":
        note(0);
        cut(response);
        return;
      case "error": {
        const { name, status, message } = plan.effect;
        const error = new AwsError(name, message ?? defaultMessage(name), status ?? statusOf(name));
        const reply = service.refuse(error, request);
        note(reply.status, reply.errorName);
        this.#send(response, request, reply);
        return;
      }
    }
    const reply = await this.#authenticate(request, service, operation, tooLarge, at);
    if (plan.effect?.kind === "drop_after") {
      note(0, reply.errorName);
      cut(response);
      return;
    }
    note(reply.status, reply.errorName);
    this.#send(response, request, reply);
  }

  async #authenticate(
    request: AwsRequest,
    service: Service,
    operation: string,
    tooLarge: boolean,
    now: number,
  ): Promise<AwsReply> {
    try {
      if (tooLarge) {
        throw new AwsError(
          "RequestEntityTooLargeException",
          `The request exceeds ${MAX_BODY_BYTES} bytes.`,
        );
      }
      service.checkOperation(operation, request);
      const claim = parseAuthorization(request);
      const token = request.headers.get("x-amz-security-token");
      const { identities } = this.#options;
      const { secret, caller } = identities.credentials(claim.accessKeyId, token, now);
      verifySignature(request, claim, {
        service: service.signingName ?? service.name,
        isRegion: (name) => isRegion(name) && name === (service.onlyRegion ?? name),
        secretAccessKey: secret,
        now,
      });
      const { region } = claim;
      identities.used(claim.accessKeyId, { at: now, service: service.name, region });
      return await this.#perform({ operation, region, caller, now, request }, service);
    } catch (error) {
      if (error instanceof AwsError) return service.refuse(error, request);
      if (error instanceof SignatureError) {
        const name = service.authenticationErrors[error.fault];
        return service.refuse(new AwsError(name, error.message), request);
      }
      this.#options.log(`internal error: ${error instanceof Error ? error.stack : error}`);
      const name = service.name === "kms" ? "KMSInternalException" : "InternalFailure";
      return service.refuse(new AwsError(name), request);
    }
  }

  /** Throws AwsError; either way the call goes into the trail. */
  async #perform(call: AwsCall, service: Service): Promise<AwsReply> {
    const { operation, region, caller, now: at, request: { id } } = call;
    const event = { id, service: service.name, operation, region, caller, at };
    try {
      const reply = await service.perform(call);
      this.#options.trail({ ...event, ...reply.opened ? { opened: reply.opened } : {} });
      return reply;
    } catch (error) {
      if (error instanceof AwsError) {
        this.#options.trail({ ...event, error: { code: error.code, message: error.message } });
      }
      throw error;
    }
  }

  /** A request that no service claims is answered by the first, as an operation it lacks. */
  #find(request: AwsRequest): { service: Service; operation: string } {
    for (const service of this.#options.services) {
      const operation = service.claim(request);
      if (operation !== null) return { service, operation };
    }
    const [service] = this.#options.services;
    if (service === undefined) throw new Error("there is no service");
    return { service, operation: "" };
  }

  #send(response: ServerResponse, request: AwsRequest, reply: AwsReply): void {
    const { body } = reply;
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
    response.writeHead(reply.status, {
      ...reply.headers,
      ...(this.#options.faults.cutsConnections ? { "connection": "close" } : {}),
      "content-type": reply.contentType,
      "content-length": String(bytes.length),
      "x-amzn-requestid": request.id,
      // SDKs correct their clocks by this header.
      "date": new Date(this.#options.now()).toUTCString(),
    });
    response.end(bytes);
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const { signal } = this.#stopping;
      function done() {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
      signal.addEventListener("abort", done);
    });
  }
}

function cut(response: ServerResponse): void {
  response.socket?.destroy();
}

function readClaim(request: AwsRequest): { accessKeyId: string; region: string } | null {
  try {
    return parseAuthorization(request);
  } catch {
    return null;
  }
}

function headersOf(incoming: IncomingMessage): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(",") : value);
  }
  return headers;
}

/** Null when the body is too large; the rest of it is read and thrown away. */
function readBody(incoming: IncomingMessage): Promise<Uint8Array | null> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    incoming.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= MAX_BODY_BYTES) chunks.push(chunk);
      else chunks.length = 0;
    });
    incoming.on("error", () => reject(new ClientLeft()));
    incoming.on("close", () => reject(new ClientLeft()));
    incoming.on("end", () => {
      if (length > MAX_BODY_BYTES) return resolve(null);
      const body = new Uint8Array(length);
      let at = 0;
      for (const chunk of chunks) {
        body.set(chunk, at);
        at += chunk.length;
      }
      resolve(body);
    });
  });
}

function split(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
