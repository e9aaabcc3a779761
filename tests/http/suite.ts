/** What every test here needs: callers, requests, and the shapes that answers must have. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { call, sharedStack, signUp, WITH_STACK } from "../support/stack.ts";

export const ENCRYPT = "encrypt-payment-data";
export const MANAGE = "manage-payment-methods-kms";
export const HEALTH = "kms-health-check";

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
export const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** The networks' published test card that most tests use. */
export const VISA = "4242424242424242";
export const MASTERCARD = "5555555555554444";
export const AMEX = "378282246310005";

export const NEXT_YEAR = new Date().getUTCFullYear() + 1;

export interface PaymentMethod {
  readonly id: string;
  readonly user_id: string;
  readonly brand: string;
  readonly last4: string;
  readonly exp_month: number;
  readonly exp_year: number;
  readonly nickname: string | null;
  readonly is_default: boolean;
  readonly data_class: string;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface Violation {
  readonly pointer?: string;
  readonly parameter?: string;
  readonly code: string;
  readonly detail?: string;
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly errors?: readonly Violation[];
  readonly request_id?: string;
}

export interface RecordAnswer {
  readonly id: string;
  readonly user_id: string;
  readonly data_class: string;
  readonly label: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface Result {
  readonly index: number;
  readonly status: number;
  readonly payment_method?: PaymentMethod;
  readonly record?: RecordAnswer;
  readonly problem?: Problem;
}

/** Whatever an answer may hold; each test reads the members it expects. */
export interface Body extends Partial<Problem> {
  readonly payment_method?: PaymentMethod & { readonly card?: unknown };
  readonly payment_methods?: readonly PaymentMethod[];
  readonly record?: RecordAnswer & { readonly data?: unknown };
  readonly records?: readonly RecordAnswer[];
  readonly results?: readonly Result[];
  readonly next_cursor?: string | null;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Body;
}

/** A user's token, a server's secret key, or nothing. */
export type Caller = { readonly token?: string; readonly secret?: boolean };
export const SERVER: Caller = { secret: true };

/** What `call` wants of a caller, who may be a whole test user. */
function credentials({ token, secret }: Caller): Caller {
  return { ...token === undefined ? {} : { token }, ...secret ? { secret } : {} };
}

/** A test on the stack of its file. */
export function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, ...WITH_STACK });
}

export async function newUser() {
  return await signUp(await sharedStack());
}

export async function read(response: Response): Promise<Answer> {
  const text = await response.text();
  const { status, headers } = response;
  const isJson = /[/+]json/.test(headers.get("content-type") ?? "");
  return { status, headers, text, body: isJson && text !== "" ? JSON.parse(text) as Body : {} };
}

/** A card as the body of a request. */
export function card(number: string, more: Readonly<Record<string, unknown>> = {}) {
  const { card: cardMore, ...itemMore } = more as { card?: Readonly<Record<string, unknown>> };
  return {
    data_class: "payment",
    card: { number, exp_month: 12, exp_year: NEXT_YEAR, ...cardMore },
    ...itemMore,
  };
}

/** POST to `encrypt-payment-data`, with a new Idempotency-Key unless given; null sends none. */
export async function encrypt(
  caller: Caller,
  json: unknown,
  key: string | null = crypto.randomUUID(),
): Promise<Answer> {
  const headers: Record<string, string> = key === null ? {} : { "idempotency-key": key };
  const init = { ...credentials(caller), json, headers };
  return await read(await call(await sharedStack(), ENCRYPT, "", init));
}

/** Stores a card and gives its payment method. */
export async function store(
  caller: Caller,
  number: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<PaymentMethod> {
  const answer = await encrypt(caller, card(number, more));
  assertEquals(answer.status, 201, answer.text);
  return paymentMethod(answer);
}

export async function manage(
  caller: Caller,
  method: string,
  path: string,
  json?: unknown,
): Promise<Answer> {
  const init = { ...credentials(caller), json, method };
  return await read(await call(await sharedStack(), MANAGE, path, init));
}

export function paymentMethod(answer: Answer): PaymentMethod {
  assert(answer.body.payment_method !== undefined, answer.text);
  return answer.body.payment_method;
}

/** The one shape of every failure; `errors` compares pointers, parameters and codes. */
export function assertProblem(
  answer: Answer,
  status: number,
  code: string,
  errors?: readonly Violation[],
): void {
  assertEquals([answer.status, answer.body.code], [status, code], answer.text);
  assertEquals(answer.headers.get("content-type"), "application/problem+json");
  assertEquals(answer.headers.get("cache-control"), "no-store");
  const { type, title, request_id, ...rest } = answer.body;
  assertEquals(type, `urn:supabase-kms:problem:${code}`);
  assert(title !== undefined && title.length > 0);
  assertMatch(request_id ?? "", UUID);
  assertEquals(answer.headers.get("x-request-id"), request_id);
  const extra = Object.keys(rest).filter((name) => !["status", "code", "errors"].includes(name));
  assertEquals(extra, []);
  assertEquals(rest.status, status);
  if (errors !== undefined) assertEquals(withoutDetail(rest.errors), errors);
}

export function withoutDetail(errors: readonly Violation[] | undefined): Violation[] {
  return (errors ?? []).map(({ detail: _, ...error }) => error);
}

/** Each of the strings, in any letter case, is nowhere in the answer's body or headers. */
export function assertNowhere(
  answer: Pick<Answer, "headers" | "text">,
  values: readonly string[],
): void {
  const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
  const whole = `${headers}\n${answer.text}`.toLowerCase();
  for (const value of values) {
    assert(!whole.includes(value.toLowerCase()), `the answer holds a submitted value: ${whole}`);
  }
}

export async function sql<Row>(query: string, params: unknown[] = []): Promise<Row[]> {
  return await (await sharedStack()).sql<Row>(query, params);
}

/** Rows that a request could leave behind for an owner. */
export async function rowsOf(owner: string): Promise<Record<string, number>> {
  const tables = {
    payment_methods: "public.payment_methods where user_id = $1",
    encrypted_records: "public.encrypted_records where user_id = $1",
    ciphertexts: "kms.ciphertexts where owner_id = $1",
    card_fingerprints: "kms.card_fingerprints where owner_id = $1",
  };
  const counts: Record<string, number> = {};
  for (const [name, from] of Object.entries(tables)) {
    const [row] = await sql<{ count: number }>(`select count(*)::int as count from ${from}`, [
      owner,
    ]);
    counts[name] = row?.count ?? -1;
  }
  return counts;
}

export const NO_ROWS = {
  payment_methods: 0,
  encrypted_records: 0,
  ciphertexts: 0,
  card_fingerprints: 0,
};

export interface AuditRow {
  readonly action: string;
  readonly outcome: string;
  readonly error_code: string | null;
  readonly actor_type: string;
  readonly actor_id: string;
  readonly owner_id: string | null;
  readonly purpose: string | null;
  readonly request_id: string;
}

/** The audit of one row, oldest first. */
export async function auditOf(recordId: string): Promise<AuditRow[]> {
  return await sql<AuditRow>(
    `select action, outcome, error_code, actor_type, actor_id, owner_id::text as owner_id,
       purpose, request_id::text as request_id
     from kms.audit_log where record_id = $1 order by chain_day, seq`,
    [recordId],
  );
}

/** A request with the body as it is. */
export async function send(
  caller: Caller,
  [name, method, path]: readonly [string, string, string],
  body: BodyInit | null,
  headers: Record<string, string> = { "content-type": "application/json" },
): Promise<Answer> {
  const { token, secret } = caller;
  return await read(
    await call(await sharedStack(), name, path, {
      ...token === undefined ? {} : { token },
      ...secret ? { secret } : {},
      method,
      body,
      headers: { "idempotency-key": crypto.randomUUID(), ...headers },
    }),
  );
}

export const POST_ENCRYPT = [ENCRYPT, "POST", ""] as const;

/** Every route that reads a body, for a stored card. */
export async function bodyRoutes(): Promise<
  readonly (readonly [Caller, readonly [string, string, string]])[]
> {
  const user = await newUser();
  const { id } = await store(user, AMEX);
  const named = `?user_id=${user.userId}`;
  return [
    [user, POST_ENCRYPT],
    [user, [MANAGE, "PATCH", `/${id}`]],
    [user, [MANAGE, "POST", `/${id}/default`]],
    [SERVER, [MANAGE, "POST", `/${id}/reveal${named}`]],
  ];
}
