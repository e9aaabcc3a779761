/** `/legacy/...`: keys and rows of setups made by the key management guide, imported once. */
import * as v from "valibot";
import { ENCODINGS, isLegacyCiphertext } from "../../admin/legacy/format.ts";
import { DERIVATIONS } from "../../admin/legacy/key.ts";
import type { KeyImport, LegacyKeys } from "../../admin/legacy/keys.ts";
import type { LegacyRows } from "../../admin/legacy/rows.ts";
import { SOURCES, STATUSES } from "../../admin/legacy/store.ts";
import { LEGACY_KEY_ID, LEGACY_KEY_ID_CONSTRAINT } from "../../config.ts";
import { SuiteError, validationFailed } from "../../errors.ts";
import type { Route } from "../../http/app.ts";
import { readJson, readOptionalJson } from "../../http/body.ts";
import { decodeCursor, encodeCursor, readLimit, readQuery } from "../../http/query.ts";
import { isUuid } from "../../http/uuid.ts";
import { expMonth, expYear, nickname } from "../../payments/card.ts";
import { refuseForbidden } from "../../sensitive-data.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { integer, parseInput, passesLuhn, readableText } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

/** Rows of one request. */
const MAX_ITEMS = 100;

/**
 * How long a run begins rows, milliseconds. The default stays below the hosted platform's 2 s of processor
 * time a request, whatever the rows cost; the most, below its 150 s to the first byte.
 */
const BUDGET_MS = { default: 1_500, max: 100_000 };

/** Not to be looked into for track data: see `readJson`. */
const OPAQUE = new Set(["ciphertext", "key"]);

export interface AdminLegacyServices {
  readonly audit: AuditLog;
  readonly legacyKeys: LegacyKeys;
  readonly legacyRows: LegacyRows;
}

export function legacyRoutes<Services extends AdminLegacyServices>(): readonly Route<Services>[] {
  return [
    adminRoute("POST", "/legacy/keys", async (exchange) => {
      const { url, request, config, services, actor, signal } = exchange;
      readQuery(url, []);
      const body = parseInput(keySchema, await readJson(request, { opaque: OPAQUE }));
      const { existing, key } = await services.legacyKeys.import(
        actor,
        toKeyImport(body, config.legacy.keyId),
        signal,
      );
      return success({ ...key, existing }, {
        message: "Encryption key imported successfully",
        status: existing ? 200 : 201,
      });
    }),
    adminRoute("GET", "/legacy/keys", async ({ url, services }) => {
      readQuery(url, []);
      return success({ keys: await services.legacyKeys.list() });
    }),
    adminRoute("DELETE", "/legacy/keys/:key_id", async ({ url, param, services, actor }) => {
      readQuery(url, []);
      const keyId = param("key_id");
      if (!LEGACY_KEY_ID.test(keyId)) throw new SuiteError("not_found");
      await services.legacyKeys.destroy(actor, keyId);
      return success({ key_id: keyId }, { message: "Encryption key destroyed" });
    }),
    adminRoute("POST", "/legacy/rows", async ({ url, request, config, services, actor }) => {
      readQuery(url, []);
      const body = parseInput(rowsSchema, await readJson(request, { opaque: OPAQUE }));
      const { key_id: keyId = config.legacy.keyId, encoding, items } = body;
      items.forEach((item, index) => checkItem(item, encoding, `/items/${index}`));
      const results = await services.legacyRows.stage(
        actor,
        keyId,
        encoding,
        items.map(({ as, user_id, ...item }) => ({
          ...item,
          user_id: user_id.toLowerCase(),
          target: as as never,
        })),
      );
      return success({ results });
    }),
    adminRoute("GET", "/legacy/rows", async ({ url, services }) => {
      const query = readQuery(url, ["status", "limit", "cursor"]);
      const { items, next } = await services.legacyRows.list(
        readStatus(query.status),
        readLimit(query.limit),
        decodeCursor(query.cursor),
      );
      return success({ rows: items, next_cursor: encodeCursor(next) });
    }),
    adminRoute("DELETE", "/legacy/rows/:id", async ({ url, param, services, actor }) => {
      readQuery(url, []);
      const id = param("id");
      if (!isUuid(id)) throw new SuiteError("not_found");
      await services.legacyRows.discard(actor, id.toLowerCase());
      return success({ id: id.toLowerCase() });
    }),
    adminRoute("POST", "/legacy/run", async ({ url, request, services, actor }) => {
      readQuery(url, []);
      const body = parseInput(runSchema, await readOptionalJson(request) ?? {});
      // The client's own end only: the deadline of a request's key work is one of each row's here.
      return success(
        await services.legacyRows.run(actor, body.budget_ms ?? BUDGET_MS.default, request.signal),
      );
    }),
  ];
}

const keyId = v.pipe(v.string(), v.regex(LEGACY_KEY_ID, `invalid_id: ${LEGACY_KEY_ID_CONSTRAINT}`));

function oneOf<const Values extends readonly string[]>(values: Values, code: string) {
  return v.pipe(
    v.string(),
    v.check((value) => values.includes(value), `${code}: must be one of ${values.join(", ")}`),
    v.transform((value) => value as Values[number]),
  );
}

const keySchema = v.strictObject({
  key_id: v.optional(keyId),
  source: oneOf(SOURCES, "invalid_source"),
  name: v.optional(
    v.pipe(
      v.string(),
      v.regex(
        /^\/?(?!\.{1,2}(?:\/|$))[\w.-]+(?:\/(?!\.{1,2}(?:\/|$))[\w.-]+)*$/,
        "invalid_name: must be names of letters, digits, dots, underscores or hyphens between slashes",
      ),
      v.maxLength(512, "invalid_length: must be 1 to 512 characters"),
    ),
  ),
  version: v.optional(integer(1, 999_999_999)),
  derivation: v.optional(oneOf(DERIVATIONS, "invalid_derivation")),
  key: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => text.length >= 1 && text.length <= 1024,
        "invalid_length: must be 1 to 1024 characters",
      ),
    ),
  ),
});

/** @throws {SuiteError} validation_failed, when members do not go together. */
function toKeyImport(body: v.InferOutput<typeof keySchema>, defaultId: string): KeyImport {
  const { key_id, source, name, version, derivation = "none", key } = body;
  const at = { keyId: key_id ?? defaultId, derivation };
  const outOfPlace = Object.entries({ key, name, version })
    .filter(([member, value]) =>
      value !== undefined && (member === "key" ? source !== "inline" : !isPlace(source))
    );
  if (outOfPlace.length > 0) {
    throw validationFailed(outOfPlace.map(([member]) => ({
      pointer: `/${member}`,
      code: "contradiction",
      detail: "does not go with this source",
    })));
  }
  if (source !== "inline") return { ...at, source, name, version };
  if (key !== undefined) return { ...at, source, key };
  throw validationFailed([{
    pointer: "/key",
    code: "missing_field",
    detail: "This field is required when the source is inline.",
  }]);
}

function isPlace(source: string): boolean {
  return source === "aws" || source === "gcp" || source === "vault";
}

const field = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z_][A-Za-z0-9_]{0,63}$/,
    "invalid_name: must be 1 to 64 letters, digits or underscores, the first no digit",
  ),
);

const record = { label: v.optional(readableText(64)), field: v.optional(field) };

const itemSchema = v.strictObject({
  user_id: v.pipe(v.string(), v.check((value) => isUuid(value), "invalid_uuid: must be a UUID")),
  source_id: v.pipe(
    v.string(),
    v.regex(
      /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/,
      "invalid_id: must be 1 to 128 letters, digits or any of ._:/-, the first a letter or digit",
    ),
    v.check(
      (value) => isUuid(value) || !holdsCardNumber(value),
      "card_number_in_text: must not contain a card number",
    ),
  ),
  ciphertext: v.string(),
  as: v.variant("data_class", [
    v.strictObject({
      data_class: v.literal("payment"),
      exp_month: expMonth,
      exp_year: expYear,
      nickname: v.optional(nickname),
    }),
    v.strictObject({ data_class: v.literal("pii"), ...record }),
    v.strictObject({ data_class: v.literal("general"), ...record }),
  ]),
});

const rowsSchema = v.strictObject({
  key_id: v.optional(keyId),
  encoding: oneOf(ENCODINGS, "invalid_encoding"),
  items: v.pipe(
    v.array(itemSchema),
    v.check(
      (items) => items.length >= 1 && items.length <= MAX_ITEMS,
      `invalid_length: must be an array of 1 to ${MAX_ITEMS} items`,
    ),
  ),
});

const runSchema = v.strictObject({ budget_ms: v.optional(integer(0, BUDGET_MS.max)) });

/**
 * Ids are kept readable. Serial numbers have long runs of digits as well: a card's begins as the networks'
 * do and has the right check digit.
 */
function holdsCardNumber(id: string): boolean {
  const runs = id.match(/(?<!\d)[2-6](?:\d{12,18}|\d{3}(?:[._:/-]\d{4}){3})(?!\d)/g) ?? [];
  return runs.some((run) => passesLuhn(run.replace(/\D/g, "")));
}

function checkItem(
  item: v.InferOutput<typeof itemSchema>,
  encoding: (typeof ENCODINGS)[number],
  base: string,
): void {
  if (!isLegacyCiphertext(item.ciphertext, encoding)) {
    throw validationFailed([{
      pointer: `${base}/ciphertext`,
      code: "invalid_ciphertext",
      detail: "must be an IV of 16 bytes, a tag and a ciphertext in the encoding named",
    }]);
  }
  if (item.as.data_class !== "payment" && item.as.field !== undefined) {
    // What may not be a member of data may not become one.
    refuseForbidden({ [item.as.field]: "" });
  }
}

function readStatus(value: string | undefined) {
  const status = STATUSES.find((one) => one === value);
  if (value === undefined || status !== undefined) return status;
  throw validationFailed([{
    parameter: "status",
    code: "invalid_status",
    detail: `must be one of ${STATUSES.join(", ")}`,
  }]);
}
