/** The variables of the audit trail: how long it is kept, and what is worth an alert. */
import type { DataClass } from "./data-class.ts";
import { type EnvironmentReader, perClass } from "./environment.ts";

export interface AuditConfig {
  /** Days that are younger cannot be pruned; 90 to 36500. */
  readonly retentionDays: number;
  /** Records that one actor may decrypt in any hour before it is an alert. */
  readonly alertRevealsPerHour: number;
  /** Refused accesses of one kind in the period asked for before it is an alert. */
  readonly alertRefusals: number;
  /** Age at which the active version of a class's branch keys is overdue for rotation, days. */
  readonly cryptoperiodDays: Readonly<Record<DataClass, number>>;
}

/** The database itself keeps this much, whatever is configured (kms.audit_anchors_check). */
const MIN_RETENTION_DAYS = 90;

export function readAudit(read: EnvironmentReader): AuditConfig {
  return {
    retentionDays: read.integer("KMS_AUDIT_RETENTION_DAYS", {
      min: MIN_RETENTION_DAYS,
      max: 36_500,
      fallback: 365,
    }),
    alertRevealsPerHour: read.integer("KMS_ALERT_REVEALS_PER_HOUR", {
      min: 0,
      max: 1_000_000,
      fallback: 100,
    }),
    alertRefusals: read.integer("KMS_ALERT_REFUSALS", { min: 0, max: 1_000_000, fallback: 10 }),
    cryptoperiodDays: perClass((name) =>
      read.integer(`KMS_${name}_CRYPTOPERIOD_DAYS`, { min: 1, max: 3_650, fallback: 365 })
    ),
  };
}
