/** `encrypt-payment-data`: takes cards, personal data and general data in, and answers masked metadata. */
import type { Hono } from "hono";
import type { Config } from "../config.ts";
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { SuiteError, validationFailed } from "../errors.ts";
import { type AppOptions, type AuthenticatedExchange, createApp, json } from "../http/app.ts";
import { ownerOf } from "../http/auth.ts";
import { readJson } from "../http/body.ts";
import { idempotencyKey } from "../http/idempotency.ts";
import { problemDocument, toSuiteError } from "../http/problem.ts";
import { readQuery } from "../http/query.ts";
import { parsePayment } from "../payments/card.ts";
import type { Payments } from "../payments/payments.ts";
import { parseRecord, type Records } from "../records/records.ts";
import type { Intake } from "../storage/intake.ts";
import type { PreparedItem, StoredItem } from "../storage/store.ts";

export const NAME = "encrypt-payment-data";

/** Items of one request. */
const MAX_ITEMS = 100;

export interface EncryptServices {
  readonly intake: Intake;
  readonly payments: Payments;
  readonly records: Records;
}

type Body = Readonly<Record<string, unknown>>;
type Prepare = (signal?: AbortSignal) => Promise<PreparedItem>;

export function encryptPaymentDataApp(
  options: Pick<AppOptions<EncryptServices>, "config" | "serving" | "rateLimits" | "afterResponse">,
): Pick<Hono, "fetch"> {
  return createApp({
    name: NAME,
    ...options,
    routes: [{
      method: "POST",
      path: "/",
      handle: { caller: encrypt, limit: "write", early: true },
    }],
  });
}

async function encrypt(exchange: AuthenticatedExchange<EncryptServices>): Promise<Response> {
  const { services, actor, request } = exchange;
  readQuery(exchange.url, []);
  const key = idempotencyKey(request);
  const body = await readJson(request);
  if (!isObject(body)) {
    throw validationFailed([{ pointer: "", code: "wrong_type", detail: "must be a JSON object" }]);
  }
  const batch = "items" in body;
  const prepare = batch ? prepareBatch(exchange, body) : [prepareOne(exchange, body)];
  const result = await services.intake.submit({
    actor,
    scope: `${actor.actor_type}:${actor.actor_id} POST /${NAME}`,
    idempotencyKey: key,
    dataClass: mostSensitiveClass(batch ? body.items : [body]),
    body,
    signal: exchange.signal,
    admitted: exchange.admitted,
    prepare,
  });
  const headers: Record<string, string> = result.replayed ? { "idempotent-replayed": "true" } : {};
  if (batch) return json({ results: result.items.map(toResult) }, 200, headers);
  const [item] = result.items;
  // A token outlives its user; it is worth nothing then.
  if (item?.outcome === "owner_not_found" && exchange.caller.kind === "user") {
    throw new SuiteError("unauthorized");
  }
  return toResponse(item, headers);
}

/** Throws at once: a single item that is wrong is a request that is wrong. */
function prepareOne(
  { caller, config, services }: AuthenticatedExchange<EncryptServices>,
  body: Body,
): Prepare {
  const { user_id: userId, ...item } = body;
  const owner = ownerOf(caller, { userId, at: "body" });
  return prepareItem(services, config, owner, item, "");
}

/** An item that is wrong becomes a problem in its own place; the others go on. */
function prepareBatch(
  { caller, config, services }: AuthenticatedExchange<EncryptServices>,
  body: Body,
): readonly Prepare[] {
  const { items, user_id: userId, ...unknown } = body;
  if (Object.keys(unknown).length > 0) {
    throw validationFailed([{
      pointer: "",
      code: "unknown_field",
      detail: "A body with items may have no other member than user_id.",
    }]);
  }
  if (!Array.isArray(items) || items.length < 1 || items.length > MAX_ITEMS) {
    throw validationFailed([{
      pointer: "/items",
      code: "invalid_length",
      detail: `must be an array of 1 to ${MAX_ITEMS} items`,
    }]);
  }
  const owner = ownerOf(caller, { userId, at: "body" });
  return items.map((item: unknown, index): Prepare => {
    try {
      return prepareItem(services, config, owner, item, `/items/${index}`);
    } catch (error) {
      const problem = toSuiteError(error);
      if (problem.status >= 500) throw problem;
      const dataClass = DATA_CLASSES.find((one) => isObject(item) && item.data_class === one);
      return () =>
        Promise.resolve({
          kind: "problem",
          problem: problemDocument(problem),
          owner_id: owner,
          ...dataClass === undefined ? {} : { data_class: dataClass },
        });
    }
  });
}

/** Validates now, encrypts when called. */
function prepareItem(
  { payments, records }: EncryptServices,
  config: Config,
  owner: string,
  item: unknown,
  base: string,
): Prepare {
  if (!isObject(item)) {
    throw validationFailed([{
      pointer: base,
      code: "wrong_type",
      detail: "must be a JSON object",
    }]);
  }
  switch (item.data_class) {
    case "payment": {
      const input = parsePayment(item, { base, brands: config.cardBrands, now: Date.now() });
      return (signal) => payments.prepare(owner, input, signal);
    }
    case "pii":
    case "general": {
      const input = parseRecord(item, base);
      return (signal) => records.prepare(owner, input, signal);
    }
    default:
      throw validationFailed([{
        pointer: `${base}/data_class`,
        code: item.data_class === undefined ? "missing_field" : "invalid_data_class",
        detail: "must be payment, pii or general",
      }]);
  }
}

/** Of items that may still be anything. */
function mostSensitiveClass(items: unknown): DataClass {
  const classes = Array.isArray(items)
    ? items.map((item) => isObject(item) ? item.data_class : undefined)
    : [];
  return DATA_CLASSES.find((dataClass) => classes.includes(dataClass)) ?? "general";
}

function isObject(value: unknown): value is Body {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const OWNER_NOT_FOUND = () =>
  validationFailed([{
    pointer: "/user_id",
    code: "unknown_user",
    detail: "must be the id of an existing user",
  }]);

function toResponse(item: StoredItem | undefined, headers: Record<string, string>): Response {
  if (item === undefined || item.outcome === "problem") throw new SuiteError("internal_error");
  if (item.outcome === "owner_not_found") throw OWNER_NOT_FOUND();
  if (item.outcome === "gone") throw new SuiteError("not_found");
  if ("record" in item) return json({ record: item.record }, 201, headers);
  const status = item.outcome === "created" ? 201 : 200;
  const location = `/functions/v1/manage-payment-methods-kms/${item.payment_method.id}`;
  return json({ payment_method: item.payment_method }, status, { ...headers, location });
}

function toResult(item: StoredItem, index: number): unknown {
  switch (item.outcome) {
    case "owner_not_found":
      return { index, status: 422, problem: problemDocument(OWNER_NOT_FOUND()) };
    case "gone":
      return { index, status: 404, problem: problemDocument(new SuiteError("not_found")) };
    case "problem":
      return { index, status: item.problem.status, problem: item.problem };
    default: {
      const status = item.outcome === "created" ? 201 : 200;
      return "record" in item
        ? { index, status, record: item.record }
        : { index, status, payment_method: item.payment_method };
    }
  }
}
