/** A stack in a checkout of its own, started as its user does, and looked into past its commands. */

import { assert, assertEquals } from "@std/assert";
import type { CallRecord } from "../../local/aws/types.ts";
import { signUp } from "../../local/auth-client.ts";
import { OPERATOR_HEADER } from "../../local/operator.ts";
import { readStackFile, type StackFile } from "../../local/stack-file.ts";
import { ForegroundCommand } from "./session.ts";

/** Downloads on a slow line included. */
const START_MS = 180_000;

/** What the tests read of an answer of the functions. */
interface Answer {
  readonly code?: string;
  readonly status?: string;
  readonly metadata: { readonly region: string };
  readonly payment_method?: { readonly id: string; readonly card?: { readonly number: string } };
  readonly record?: { readonly data: unknown };
  readonly data?: { readonly source?: string; readonly warnings?: readonly string[] };
}

interface Session {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly error_code?: string;
}

export class StackUnderTest {
  readonly #folder: string;
  #command: ForegroundCommand | undefined;
  #file: StackFile | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  get file(): StackFile {
    assert(this.#file, "the stack runs");
    return this.#file;
  }

  async start(): Promise<void> {
    const start = "npx -y deno@2.9.6 task start --port 0 --aws-port 0";
    this.#command = new ForegroundCommand(start, this.#folder);
    await this.#command.printed("Ctrl-C ends it", START_MS);
    await this.readFile();
  }

  /** Its addresses and keys, as they are now. */
  async readFile(): Promise<void> {
    this.#file = await readStackFile(`${this.#folder}/.local`) ?? undefined;
  }

  /** Ctrl-C. */
  async stop(): Promise<void> {
    await this.#command?.interrupt();
  }

  async whileStopped(work: () => Promise<unknown>): Promise<void> {
    await this.stop();
    await work();
    await this.end();
    await this.start();
  }

  async end(): Promise<void> {
    await this.#command?.[Symbol.asyncDispose]();
    this.#command = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  async newUser(): Promise<string> {
    const { api_url: apiUrl, publishable_key: publishableKey } = this.file;
    const credentials = {
      email: `${crypto.randomUUID()}@example.com`,
      password: crypto.randomUUID(),
    };
    return (await signUp({ apiUrl, publishableKey }, credentials)).userId;
  }

  /** @returns the payment method's id */
  async storeCard(user_id: string, number: string): Promise<string> {
    const card = { number, exp_month: 12, exp_year: new Date().getUTCFullYear() + 3 };
    const body = { user_id, data_class: "payment", card };
    const { payment_method: stored, ...rest } = await this.#post("encrypt-payment-data", body);
    assert(stored, JSON.stringify(rest));
    return stored.id;
  }

  /** `path`: the id of a payment method, or `records/<id>`. */
  async reveal(user_id: string, path: string, purpose: string): Promise<Answer> {
    return await this.#post(`manage-payment-methods-kms/${path}/reveal`, { user_id, purpose });
  }

  async health(): Promise<Answer> {
    return await this.#call("kms-health-check", {});
  }

  /** `path` of a function. */
  async get(path: string): Promise<Answer> {
    return await this.#call(path, {});
  }

  /** The status of a GET with an API key and a user's token; empty ones are not sent. */
  async status(path: string, apikey: string, token = ""): Promise<number> {
    const headers = {
      ...apikey === "" ? {} : { apikey },
      ...token === "" ? {} : { authorization: `Bearer ${token}` },
    };
    const response = await fetch(this.file.api_url + path, { headers });
    await response.body?.cancel();
    return response.status;
  }

  /** Asks the auth server for a session, or whatever else it answers. */
  async signIn(path: string, body: object): Promise<Session> {
    const { api_url, publishable_key: apikey } = this.file;
    const headers = { apikey, "content-type": "application/json" };
    const init = { method: "POST", headers, body: JSON.stringify(body) };
    return await (await fetch(`${api_url}/auth/v1/${path}`, init)).json();
  }

  /** One statement, read past row level security. */
  async sql<Row>(query: string, params: unknown[] = []): Promise<Row[]> {
    const response = await fetch(`${this.file.api_url}/_local/sql`, {
      method: "POST",
      headers: { [OPERATOR_HEADER]: this.file.operator_token },
      body: JSON.stringify({ query, params }),
    });
    const answer = await response.json();
    assertEquals(response.status, 200, JSON.stringify(answer));
    return answer.rows;
  }

  /** Ids of all stored cards, sorted. */
  async cards(): Promise<string[]> {
    const rows = await this.sql<{ id: string }>(
      "select id from public.payment_methods order by id",
    );
    return rows.map(({ id }) => id);
  }

  /** Versions of a class's branch key, in the database. */
  async versions(branchKey: string): Promise<string[]> {
    const rows = await this.sql<{ version: string }>(
      "select version from kms.branch_keys where branch_key_id = $1 and version is not null",
      [branchKey],
    );
    return rows.map(({ version }) => version);
  }

  async versionsOfRows(branchKey: string): Promise<string[]> {
    const rows = await this.sql<{ version: string }>(
      "select distinct branch_key_version as version from kms.ciphertexts where branch_key_id = $1",
      [branchKey],
    );
    return rows.map(({ version }) => version);
  }

  /** Who wraps branch keys, or their copies. */
  async holders(column: "record" | "copy"): Promise<string[]> {
    const rows = await this.sql<{ name: string }>(
      `select distinct kms.provider_of(${column} ->> 'kms-arn') as name from kms.branch_keys
       where ${column} is not null order by 1`,
    );
    return rows.map(({ name }) => name);
  }

  /** What the local AWS was asked since the last reset. */
  async calls(): Promise<CallRecord[]> {
    return (await (await fetch(`${this.file.aws_endpoint}/_local/calls`)).json()).calls;
  }

  async resetCalls(): Promise<void> {
    const response = await fetch(`${this.file.aws_endpoint}/_local/calls`, { method: "DELETE" });
    await response.body?.cancel();
  }

  async #post(path: string, body: object): Promise<Answer> {
    const headers = {
      "content-type": "application/json",
      "idempotency-key": crypto.randomUUID(),
    };
    return await this.#call(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async #call(path: string, init: RequestInit): Promise<Answer> {
    const { api_url, secret_key } = this.file;
    const headers = { ...init.headers as Record<string, string>, apikey: secret_key };
    return await (await fetch(`${api_url}/functions/v1/${path}`, { ...init, headers })).json();
  }
}
