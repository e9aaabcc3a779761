/** `manage-payment-methods-kms`: everything that happens to stored cards and records later. */
import type { Hono } from "hono";
import * as v from "valibot";
import type { RouteClass } from "../config-rate-limits.ts";
import { SuiteError, validationFailed } from "../errors.ts";
import {
  type AppOptions,
  type AuthenticatedExchange,
  createApp,
  json,
  type Route,
} from "../http/app.ts";
import { ownerOf } from "../http/auth.ts";
import { readJson, readOptionalJson } from "../http/body.ts";
import { problemDocument } from "../http/problem.ts";
import { decodeCursor, encodeCursor, readLimit, readQuery } from "../http/query.ts";
import { isUuid } from "../http/uuid.ts";
import type { Payments } from "../payments/payments.ts";
import type { Records } from "../records/records.ts";
import type { RecordClass } from "../records/store.ts";
import type { AuditLog } from "../telemetry/audit.ts";
import { parseInput, purpose } from "../validation.ts";

export const NAME = "manage-payment-methods-kms";

/** Cards of one batch reveal. */
const MAX_REVEALS = 100;

export interface ManageServices {
  readonly payments: Payments;
  readonly records: Records;
  readonly audit: AuditLog;
}

type ManageExchange = AuthenticatedExchange<ManageServices>;
type Handler = (exchange: ManageExchange) => Promise<Response>;

export function managePaymentMethodsApp(
  options: Pick<AppOptions<ManageServices>, "config" | "serving" | "rateLimits" | "afterResponse">,
): Pick<Hono, "fetch"> {
  return createApp({
    name: NAME,
    ...options,
    routes: [
      // Records first: their path would pass for an id.
      keyless("read", "GET", "/records", listRecords),
      keyless("read", "GET", "/records/:id", getRecord),
      keyless("write", "DELETE", "/records/:id", deleteRecord),
      route("reveal", "POST", "/records/:id/reveal", revealRecord),
      keyless("read", "GET", "/", listPaymentMethods),
      route("reveal", "POST", "/reveal", revealPaymentMethods),
      keyless("read", "GET", "/:id", getPaymentMethod),
      route("write", "PATCH", "/:id", updatePaymentMethod),
      keyless("write", "DELETE", "/:id", deletePaymentMethod),
      keyless("write", "POST", "/:id/default", setDefaultPaymentMethod),
      route("reveal", "POST", "/:id/reveal", revealPaymentMethod),
    ],
  });
}

function route(
  limit: RouteClass,
  method: Route<ManageServices>["method"],
  path: string,
  caller: Handler,
): Route<ManageServices> {
  return { method, path, handle: { caller, limit, early: limit === "read" || limit === "reveal" } };
}

/** What works on masked rows alone. */
const keyless: typeof route = (...args) => ({ ...route(...args), keyless: true });

async function listPaymentMethods({ url, caller, services }: ManageExchange): Promise<Response> {
  const query = readQuery(url, ["limit", "cursor", "user_id"]);
  const owner = ownerOf(caller, { userId: query.user_id, at: "query" });
  const page = await services.payments.list(
    owner,
    readLimit(query.limit),
    decodeCursor(query.cursor),
  );
  return json({ payment_methods: page.items, next_cursor: encodeCursor(page.next) });
}

async function getPaymentMethod(exchange: ManageExchange): Promise<Response> {
  const { owner, id } = addressed(exchange);
  return json({ payment_method: await exchange.services.payments.get(owner, id) });
}

async function updatePaymentMethod(exchange: ManageExchange): Promise<Response> {
  const { owner, id, body } = await addressedBody(exchange);
  const { services, actor, signal } = exchange;
  return json({ payment_method: await services.payments.update(actor, owner, id, body, signal) });
}

async function setDefaultPaymentMethod(exchange: ManageExchange): Promise<Response> {
  const { owner, id } = await addressedOptionalBody(exchange);
  const { services, actor } = exchange;
  return json({ payment_method: await services.payments.setDefault(actor, owner, id) });
}

async function deletePaymentMethod(exchange: ManageExchange): Promise<Response> {
  const { owner, id } = addressed(exchange);
  await exchange.services.payments.delete(exchange.actor, owner, id);
  return new Response(null, { status: 204 });
}

async function revealPaymentMethod(exchange: ManageExchange): Promise<Response> {
  const { owner, id, purpose } = await revealRequest(exchange, "payment_method.reveal");
  const { services, actor, signal, admitted } = exchange;
  const row = { ownerId: owner, id };
  return json({
    payment_method: await services.payments.reveal(actor, row, purpose, signal, admitted),
  });
}

/** Many cards at once, for servers: `{purpose, user_id?, items: [{id, user_id?}]}`, 1 to 100 items. */
async function revealPaymentMethods(exchange: ManageExchange): Promise<Response> {
  const { caller, services, actor, signal, admitted } = exchange;
  await requireMayReveal(exchange, "payment_method.reveal", caller.kind === "secret_key");
  readQuery(exchange.url, []);
  const body = parseInput(revealManySchema, await readJson(exchange.request));
  const rows = body.items.map(({ id, user_id: userId = body.user_id }) => ({
    ownerId: ownerOf(caller, { userId, at: "body" }),
    id: id.toLowerCase(),
  }));
  const revealed = await services.payments.revealMany(actor, rows, body.purpose, signal, admitted);
  return json({
    results: revealed.map((item, index) =>
      item instanceof SuiteError
        ? { index, status: item.status, problem: problemDocument(item) }
        : { index, status: 200, payment_method: item }
    ),
  });
}

async function listRecords({ url, caller, services }: ManageExchange): Promise<Response> {
  const query = readQuery(url, ["limit", "cursor", "user_id", "data_class"]);
  const owner = ownerOf(caller, { userId: query.user_id, at: "query" });
  const page = await services.records.list(
    owner,
    readRecordClass(query.data_class),
    readLimit(query.limit),
    decodeCursor(query.cursor),
  );
  return json({ records: page.items, next_cursor: encodeCursor(page.next) });
}

async function getRecord(exchange: ManageExchange): Promise<Response> {
  const { owner, id } = addressed(exchange);
  return json({ record: await exchange.services.records.get(owner, id) });
}

async function deleteRecord(exchange: ManageExchange): Promise<Response> {
  const { owner, id } = addressed(exchange);
  await exchange.services.records.delete(exchange.actor, owner, id);
  return new Response(null, { status: 204 });
}

async function revealRecord(exchange: ManageExchange): Promise<Response> {
  const { owner, id, purpose } = await revealRequest(exchange, "record.reveal");
  const { services, actor, signal, admitted } = exchange;
  const row = { ownerId: owner, id };
  return json({
    record: await services.records.reveal(actor, row, purpose, signal, admitted),
  });
}

interface Address {
  readonly owner: string;
  readonly id: string;
}

/** Whose row, and which. What is no id names no row: 404, as for a row of somebody else. */
function addressed(exchange: ManageExchange): Address {
  const { user_id: userId } = readQuery(exchange.url, ["user_id"]);
  return { owner: ownerOf(exchange.caller, { userId, at: "query" }), id: rowId(exchange) };
}

/** As `addressed`; a server may name the user in the body instead. */
async function addressedBody(
  exchange: ManageExchange,
): Promise<Address & { readonly body: Readonly<Record<string, unknown>> }> {
  return addressedBy(exchange, await readJson(exchange.request));
}

/** For requests that need no body: an absent one is an empty one. */
async function addressedOptionalBody(exchange: ManageExchange): Promise<Address> {
  const parsed = await readOptionalJson(exchange.request);
  const { body, ...address } = addressedBy(exchange, parsed === undefined ? {} : parsed);
  parseInput(v.strictObject({}), body);
  return address;
}

function addressedBy(
  exchange: ManageExchange,
  parsed: unknown,
): Address & { readonly body: Readonly<Record<string, unknown>> } {
  const query = readQuery(exchange.url, ["user_id"]);
  const { user_id: inBody, ...body } = parseInput(jsonObject, parsed);
  if (query.user_id !== undefined && inBody !== undefined && query.user_id !== inBody) {
    throw validationFailed([{
      pointer: "/user_id",
      code: "contradiction",
      detail: "must equal the query parameter user_id",
    }]);
  }
  const owner = inBody === undefined
    ? ownerOf(exchange.caller, { userId: query.user_id, at: "query" })
    : ownerOf(exchange.caller, { userId: inBody, at: "body" });
  return { owner, id: rowId(exchange), body };
}

const jsonObject = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
);

function rowId(exchange: ManageExchange): string {
  const id = exchange.param("id");
  if (!isUuid(id)) throw new SuiteError("not_found");
  return id.toLowerCase();
}

const revealSchema = v.strictObject({ purpose });

const uuid = v.pipe(v.string(), v.check((value) => isUuid(value), "invalid_uuid: must be a UUID"));

const revealManySchema = v.strictObject({
  purpose,
  user_id: v.optional(uuid),
  items: v.pipe(
    v.array(v.strictObject({ id: uuid, user_id: v.optional(uuid) })),
    v.check(
      (items) => items.length >= 1 && items.length <= MAX_REVEALS,
      `invalid_length: must be an array of 1 to ${MAX_REVEALS} items`,
    ),
  ),
});

/** Who may see plaintext at all is decided before anything is said about the row. */
async function revealRequest(
  exchange: ManageExchange,
  action: string,
): Promise<Address & { readonly purpose: string }> {
  const { caller, config } = exchange;
  const allowed = caller.kind === "secret_key" ||
    (config.userReveal === "aal2" && caller.assurance === "aal2");
  await requireMayReveal(exchange, action, allowed);
  const { body, ...address } = await addressedBody(exchange);
  return { ...address, ...parseInput(revealSchema, body) };
}

async function requireMayReveal(
  { services, actor, param, admitted }: ManageExchange,
  action: string,
  allowed: boolean,
): Promise<void> {
  if (allowed) return;
  await admitted;
  const id = param("id");
  await services.audit.append(actor, [{
    action,
    outcome: "failure",
    error_code: "reveal_not_allowed",
    // As asked for: whose row it is, if it is one, is not looked up for somebody who may not know.
    table_name: action === "record.reveal" ? "encrypted_records" : "payment_methods",
    ...action === "record.reveal" ? {} : { data_class: "payment" },
    ...isUuid(id) ? { record_id: id.toLowerCase() } : {},
  }]);
  throw new SuiteError("reveal_not_allowed");
}

function readRecordClass(value: string | undefined): RecordClass | undefined {
  if (value === undefined || value === "pii" || value === "general") return value;
  throw validationFailed([{
    parameter: "data_class",
    code: "invalid_data_class",
    detail: "must be pii or general",
  }]);
}
