/**
 * Calls to the functions: one place for the key, deadlines and failures. A problem document becomes an
 * `ApiError`; no answer, or one that is not the suite's, becomes a `CliError` of its own.
 */
import { ApiError, CliError, EXIT, type Violation } from "./errors.ts";

/** Where the suite answers, and as whom to call it. */
export interface Target {
  /** Without a trailing slash. */
  readonly apiUrl: string;
  readonly secretKey: string;
  readonly publishableKey: string | undefined;
}

export type Query = Readonly<Record<string, string | number | undefined>>;

export interface CallOptions {
  readonly query?: Query;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Deadline of the whole answer, milliseconds. Default 60 000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Longest answer that is no stream, in bytes. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export class Client {
  readonly #target: Target;

  constructor(target: Target) {
    this.#target = target;
  }

  /**
   * `data` of a success of a function that answers `{success, data}`.
   * @throws {CliError} what to tell the operator
   */
  async data<Data>(
    method: string,
    functionPath: string,
    options: CallOptions = {},
  ): Promise<Data> {
    const response = await this.#send(method, functionPath, options);
    const answer = await readJson(response);
    if (!response.ok) throw problem(response, answer);
    const { success, data } = (answer ?? {}) as { success?: unknown; data?: Data };
    if (success !== true) throw foreign(response);
    return data as Data;
  }

  /** The answer of any status and its JSON; undefined when it is none. */
  async json(
    method: string,
    functionPath: string,
    options: CallOptions = {},
  ): Promise<{ readonly response: Response; readonly body: unknown }> {
    const response = await this.#send(method, functionPath, options);
    return { response, body: await readJson(response) };
  }

  /** The failure that a response stands for. */
  failure(response: Response, body: unknown): CliError {
    return problem(response, body);
  }

  async #send(
    method: string,
    functionPath: string,
    { query = {}, body, timeoutMs = 60_000, signal }: CallOptions,
  ): Promise<Response> {
    const { apiUrl, secretKey } = this.#target;
    const url = new URL(`${apiUrl}/functions/v1/${functionPath}`);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      return await fetch(url, {
        method,
        headers: {
          apikey: secretKey,
          ...body === undefined ? {} : { "content-type": "application/json" },
        },
        ...body === undefined ? {} : { body: JSON.stringify(body) },
        // The key goes nowhere but where the operator sends it.
        redirect: "manual",
        signal: signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
      });
    } catch (cause) {
      if (signal?.aborted) throw new CliError(EXIT.interrupted, "interrupted", "interrupted");
      const why = deadline.aborted
        ? `did not answer within ${Math.round(timeoutMs / 1000)} s`
        : "cannot be reached";
      throw new CliError(EXIT.unavailable, "unreachable", `${url.origin} ${why}`, { cause });
    }
  }
}

async function readJson(response: Response): Promise<unknown> {
  const text = await readText(response);
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body ?? []) {
      size += chunk.length;
      if (size > MAX_ANSWER_BYTES) throw foreign(response);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError(EXIT.unavailable, "unreachable", "the answer broke off", { cause });
  }
  return await new Blob(chunks).text();
}

function problem(response: Response, body: unknown): CliError {
  const { type, code, title, errors, request_id } = (body ?? {}) as Record<string, unknown>;
  const ours = typeof type === "string" && type.startsWith("urn:supabase-kms:problem:");
  if (!ours || typeof code !== "string") return foreign(response);
  const retryAfter = Number(response.headers.get("retry-after") ?? NaN);
  return new ApiError({
    status: response.status,
    code,
    title: typeof title === "string" ? title : code,
    violations: Array.isArray(errors) ? errors as Violation[] : [],
    requestId: typeof request_id === "string" ? request_id : undefined,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
  });
}

/** An answer by somebody else: a gateway, or a function that is not deployed. */
function foreign(response: Response): CliError {
  const { pathname } = new URL(response.url);
  const what = response.status === 404
    ? "is not there: is the function deployed?"
    : `answered ${response.status}, and not as the suite does`;
  const exit = response.status === 401 || response.status === 403
    ? EXIT.unauthorized
    : EXIT.unavailable;
  return new CliError(exit, "unexpected_answer", `${pathname} ${what}`);
}
