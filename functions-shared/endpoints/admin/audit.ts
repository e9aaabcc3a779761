/** `GET /audit`, `/audit/export` and `/audit/alerts`: what the trail says. */
import type { AuditTrail } from "../../admin/audit/audit-trail.ts";
import type { EntryFilter } from "../../admin/audit/trail.ts";
import type { AuthenticatedExchange, Route } from "../../http/app.ts";
import { boundCursor, readBoundCursor } from "../../http/bound-cursor.ts";
import { readLimit, readQuery } from "../../http/query.ts";
import { isUuid } from "../../http/uuid.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { defined, invalid, isDay, readDay, readNumber } from "./audit-query.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminAuditServices {
  readonly audit: AuditLog;
  readonly auditTrail: AuditTrail;
}

type AuditExchange = AuthenticatedExchange<AdminAuditServices>;

export function auditRoutes<Services extends AdminAuditServices>(): readonly Route<Services>[] {
  return [
    adminRoute("GET", "/audit", readEntries),
    adminRoute("GET", "/audit/export", exportDay),
    adminRoute("GET", "/audit/alerts", readAlerts),
  ];
}

async function readEntries({ url, actor, services }: AuditExchange): Promise<Response> {
  const { limit, cursor, ...query } = readQuery(url, [
    "limit",
    "cursor",
    "action",
    "actor_id",
    "owner_id",
    "record_id",
    "outcome",
    "from",
    "to",
  ]);
  const filter = readFilter(query);
  const before = readBoundCursor(
    cursor,
    filter,
    (position) => isDay(position.slice(0, 10)) && /^.{10}\|[1-9]\d{0,14}$/.test(position),
  );
  const page = await services.auditTrail.read(actor, filter, readLimit(limit), before);
  return success({ entries: page.entries, next_cursor: boundCursor(page.next, filter) });
}

/** In one order of members, whatever the query's: the cursor is bound to it. */
function readFilter(query: Readonly<Partial<Record<keyof EntryFilter, string>>>): EntryFilter {
  const { action, outcome, from, to } = query;
  if (action !== undefined && !/^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){0,3}$/.test(action)) {
    throw invalid("action", "invalid_action", "must be an action such as payment_method.reveal");
  }
  if (outcome !== undefined && outcome !== "success" && outcome !== "failure") {
    throw invalid("outcome", "invalid_outcome", "must be success or failure");
  }
  if (query.actor_id !== undefined && !/^[\x21-\x7e]{1,128}$/.test(query.actor_id)) {
    throw invalid("actor_id", "invalid_actor_id", "must be a user id or the name of a secret key");
  }
  for (const name of ["owner_id", "record_id"] as const) {
    if (query[name] !== undefined && !isUuid(query[name])) {
      throw invalid(name, "invalid_uuid", "must be a UUID");
    }
  }
  if (from !== undefined && to !== undefined && from > to) {
    throw invalid("to", "out_of_range", "must not be before from");
  }
  return defined({
    action,
    actor_id: query.actor_id,
    owner_id: query.owner_id?.toLowerCase(),
    record_id: query.record_id?.toLowerCase(),
    outcome,
    from: readDay("from", from),
    to: readDay("to", to),
  });
}

async function exportDay({ url, actor, services }: AuditExchange): Promise<Response> {
  const query = readQuery(url, ["day", "cursor"]);
  if (query.day === undefined) throw invalid("day", "missing_parameter", "is required");
  const day = readDay("day", query.day);
  const after = readBoundCursor(
    query.cursor,
    { day },
    (position) => /^[1-9]\d{0,14}$/.test(position),
  );
  const page = await services.auditTrail.exportDay(
    actor,
    day,
    after === undefined ? undefined : Number(after),
  );
  return success({ day, entries: page.entries, next_cursor: boundCursor(page.next, { day }) });
}

async function readAlerts({ url, actor, config, services }: AuditExchange): Promise<Response> {
  const query = readQuery(url, ["hours", "reveals_per_hour", "refusals"]);
  const { alertRevealsPerHour, alertRefusals, cryptoperiodDays } = config.audit;
  const thresholds = {
    hours: readNumber("hours", query.hours, { min: 1, max: 168, fallback: 24 }),
    revealsPerHour: readNumber("reveals_per_hour", query.reveals_per_hour, {
      min: 0,
      max: 1_000_000,
      fallback: alertRevealsPerHour,
    }),
    refusals: readNumber("refusals", query.refusals, {
      min: 0,
      max: 1_000_000,
      fallback: alertRefusals,
    }),
    cryptoperiodDays,
  };
  const { since, alerts, changes } = await services.auditTrail.alerts(actor, thresholds);
  return success({
    since,
    hours: thresholds.hours,
    thresholds: {
      reveals_per_hour: thresholds.revealsPerHour,
      refusals: thresholds.refusals,
      cryptoperiod_days: cryptoperiodDays,
    },
    alerts,
    changes,
  });
}
