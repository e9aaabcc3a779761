/** The branch key store, and what workers tell each other about regions, on the database's functions. */
import type { BranchKeyRecord, BranchKeyRecords } from "../keys/branch-key-store.ts";
import type { DeadRegion } from "../keys/key-provider.ts";
import { currentRequestId } from "../telemetry/request.ts";
import type { Rpc } from "./rpc.ts";

export interface KeyNews {
  /** Branch keys were rotated or revoked since this worker last asked. */
  readonly onRotation: () => void;
  readonly onDeadRegions: (dead: readonly DeadRegion[]) => void;
}

/** As the database tells it (kms.worker_news): clocks differ, so it says how long and not until when. */
export interface WorkerNews {
  readonly epoch: number;
  readonly dead_regions: readonly { readonly region: string; readonly for_ms: number }[];
}

/** Every read also brings the news: no call of its own, and never older than one cache time. */
export function branchKeyRecords(
  rpc: Rpc,
  news: KeyNews,
  now: () => number = Date.now,
): BranchKeyRecords & { hear(news: WorkerNews): void } {
  let epoch: number | undefined;
  const hear = (heard: WorkerNews) => {
    // Answers may overtake each other: an older one is no news.
    if (epoch !== undefined && heard.epoch > epoch) news.onRotation();
    epoch = Math.max(epoch ?? heard.epoch, heard.epoch);
    if (heard.dead_regions.length > 0) {
      const at = now();
      news.onDeadRegions(
        heard.dead_regions.map(({ region, for_ms }) => ({ region, until: at + for_ms })),
      );
    }
  };
  return {
    hear,
    async get(branchKeyId, type) {
      const answer = await rpc<
        { record: BranchKeyRecord | null; copy?: BranchKeyRecord } & WorkerNews
      >("kms_branch_key_get", { p_branch_key_id: branchKeyId, p_type: type });
      hear(answer);
      const { record, copy } = answer;
      return [...record === null ? [] : [record], ...copy === undefined ? [] : [copy]];
    },
    create(records) {
      return rpc("kms_branch_key_create", {
        p_records: JSON.stringify(records),
        p_request_id: currentRequestId() ?? null,
      });
    },
    rotate(actor, records, expectedVersion) {
      return rpc("kms_branch_key_rotate", {
        p_actor: JSON.stringify(actor),
        p_records: JSON.stringify(records),
        p_expected_version: expectedVersion,
      });
    },
  };
}

/** Tells other workers that a region is dead, or well again. */
export async function shareRegionHealth(
  rpc: Rpc,
  region: string,
  dead: DeadRegion | undefined,
): Promise<void> {
  const forMs = dead === undefined ? null : Math.max(1, Math.round(dead.until - Date.now()));
  await rpc("kms_region_report", { p_region: region, p_dead_for_ms: forMs });
}
