/** The audit trail of readers and keepers, on the database's functions. */
import type { AuditTrailStore, DayRange } from "../admin/audit/trail.ts";
import type { Rpc } from "./rpc.ts";

export function auditTrailStore(rpc: Rpc): AuditTrailStore {
  return {
    entries: (filter, limit, before) =>
      rpc("kms_audit_entries", {
        p_filter: JSON.stringify(filter),
        p_limit: limit,
        p_before: before ?? null,
      }),
    exportDay: (day, after, limit) =>
      rpc("kms_audit_export", { p_day: day, p_after: after ?? null, p_limit: limit }),
    anchors: (range, limit, pruned) =>
      rpc("kms_audit_anchors", { ...days(range), p_limit: limit, p_pruned: pruned }),
    async points(places) {
      const answer = await rpc<{ points: Awaited<ReturnType<AuditTrailStore["points"]>> }>(
        "kms_audit_points",
        { p_points: JSON.stringify(places) },
      );
      return answer.points;
    },
    verifyPage: (range, after, limit) =>
      rpc("kms_audit_verify_page", { ...days(range), p_after: after ?? null, p_limit: limit }),
    async prune(actor, { finished: _, ...anchor }) {
      const answer = await rpc<{ pruned: boolean }>("kms_audit_prune", {
        p_actor: JSON.stringify(actor),
        p_anchor: JSON.stringify(anchor),
      });
      return answer.pruned;
    },
    alerts: ({ hours, revealsPerHour, refusals, cryptoperiodDays }) =>
      rpc("kms_audit_alerts", {
        p_hours: hours,
        p_reveals_per_hour: revealsPerHour,
        p_refusals: refusals,
        p_cryptoperiods: JSON.stringify(cryptoperiodDays),
      }),
  };
}

function days({ from, to }: DayRange) {
  return { p_from: from ?? null, p_to: to ?? null };
}
