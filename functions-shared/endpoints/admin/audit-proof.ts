/** `GET /audit/anchors`, `POST /audit/verify` and `POST /audit/prune`: what proves the trail. */
import * as v from "valibot";
import type { Anchor, DayRange, SignedAnchor } from "../../admin/audit/trail.ts";
import { validationFailed } from "../../errors.ts";
import type { AuthenticatedExchange, Route } from "../../http/app.ts";
import { readJson, readOptionalJson } from "../../http/body.ts";
import { boundCursor, readBoundCursor } from "../../http/bound-cursor.ts";
import { readLimit, readQuery } from "../../http/query.ts";
import { integer, parseInput } from "../../validation.ts";
import type { AdminAuditServices } from "./audit.ts";
import { defined, invalid, isDay, readDay } from "./audit-query.ts";
import { adminRoute, success } from "./route.ts";

/** Of one verification: what fits into a body, and into one statement. */
const MAX_ANCHORS = 200;

type ProofExchange = AuthenticatedExchange<AdminAuditServices>;

export function auditProofRoutes<Services extends AdminAuditServices>(): readonly Route<
  Services
>[] {
  return [
    adminRoute("GET", "/audit/anchors", readAnchors),
    adminRoute("POST", "/audit/verify", verify),
    adminRoute("POST", "/audit/prune", prune),
  ];
}

const day = v.pipe(v.string(), v.check(isDay, "invalid_day: must be a day, YYYY-MM-DD"));
const sha256 = v.pipe(
  v.string(),
  v.regex(/^[0-9a-f]{64}$/, "invalid_hash: must be 64 hexadecimal digits"),
);
const count = integer(1, 999_999_999);

/** As they were exported, whatever else was said of them then. */
const anchorSchema = v.strictObject({
  day,
  entries: count,
  prev_hash: sha256,
  last_seq: count,
  last_hash: sha256,
  finished: v.boolean(),
  pruned: v.optional(v.boolean()),
  signed_at: v.optional(v.pipe(
    v.string(),
    v.regex(
      /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/,
      "invalid_time: must be the time that the anchor was exported with",
    ),
  )),
  signature: v.optional(sha256),
});

const verifySchema = v.strictObject({
  from: v.optional(day),
  to: v.optional(day),
  cursor: v.optional(v.pipe(v.string(), v.maxLength(200, "invalid_cursor: is too long"))),
  anchors: v.optional(v.pipe(
    v.array(anchorSchema),
    v.maxLength(MAX_ANCHORS, `invalid_length: must be at most ${MAX_ANCHORS} anchors`),
  )),
});

const pruneSchema = v.strictObject({ before: day, confirm: v.string() });

async function readAnchors({ url, actor, services }: ProofExchange): Promise<Response> {
  const query = readQuery(url, ["from", "to", "limit", "cursor", "signed"]);
  if (query.signed !== undefined && query.signed !== "true" && query.signed !== "false") {
    throw invalid("signed", "wrong_type", "must be true or false");
  }
  const filter = defined<DayRange>({
    from: readDay("from", query.from),
    to: readDay("to", query.to),
  });
  const from = readBoundCursor(query.cursor, filter, isDay) ?? filter.from;
  const page = await services.auditTrail.anchors(
    actor,
    defined<DayRange>({ ...filter, from }),
    readLimit(query.limit),
    query.signed !== "false",
  );
  return success({ anchors: page.anchors, next_cursor: boundCursor(page.next, filter) });
}

async function verify({ request, url, actor, services }: ProofExchange): Promise<Response> {
  readQuery(url, []);
  const body = await readOptionalJson(request);
  const { cursor, anchors = [], ...rest } = parseInput(verifySchema, body ?? {});
  const range = defined<DayRange>({ from: rest.from, to: rest.to });
  if (range.from !== undefined && range.to !== undefined && range.from > range.to) {
    throw validationFailed([{
      pointer: "/to",
      code: "out_of_range",
      detail: "must not be before from",
    }]);
  }
  const after = readBoundCursor(
    cursor,
    range,
    (position) =>
      isDay(position.slice(0, 10)) && /^.{10}\|[1-9]\d{0,14}\|[0-9a-f]{64}$/.test(position),
  );
  const result = await services.auditTrail.verify(actor, {
    ...range,
    ...after === undefined ? {} : { after },
    anchors: anchors.map(toAnchor),
  });
  return success({
    valid: result.valid,
    days: result.days,
    entries: result.entries,
    faults: result.faults,
    fault_count: result.faultCount,
    anchor: result.anchor,
    next_cursor: boundCursor(result.next, range),
  });
}

/** A signature says nothing without its time. */
function toAnchor(
  { pruned: _, signed_at, signature, ...anchor }: v.InferOutput<typeof anchorSchema>,
  index: number,
): Anchor | SignedAnchor {
  if (signed_at === undefined && signature === undefined) return anchor;
  if (signed_at !== undefined && signature !== undefined) {
    return { ...anchor, signed_at, signature };
  }
  throw validationFailed([{
    pointer: `/anchors/${index}/${signature === undefined ? "signature" : "signed_at"}`,
    code: "missing_field",
    detail: "signed_at and signature belong together",
  }]);
}

async function prune({ request, url, actor, services }: ProofExchange): Promise<Response> {
  readQuery(url, []);
  const { before, confirm } = parseInput(pruneSchema, await readJson(request));
  if (confirm !== before) {
    throw validationFailed([{
      pointer: "/confirm",
      code: "not_confirmed",
      detail: "must repeat the date of before",
    }]);
  }
  const result = await services.auditTrail.prune(actor, before);
  return success({ before, ...result });
}
