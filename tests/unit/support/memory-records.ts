import type {
  BranchKeyRecord,
  BranchKeyRecords,
} from "../../../functions-shared/keys/branch-key-store.ts";
import type { Actor } from "../../../functions-shared/telemetry/audit.ts";

export const ACTOR: Actor = {
  actor_type: "system",
  actor_id: "tests",
  request_id: "0b9bd1a5-3333-4333-8333-333333333333",
  function: "tests",
};

/** Branch key records in memory; creates and rotates as the table's functions do. */
export class MemoryRecords implements BranchKeyRecords {
  readonly stored = new Map<string, BranchKeyRecord>();
  /** Records once more, under another provider, by the same names. */
  readonly copies = new Map<string, BranchKeyRecord>();
  /** Every set of records that was offered, stored or not. */
  readonly offered: (readonly BranchKeyRecord[])[] = [];
  reads = 0;

  async get(branchKeyId: string, type: string): Promise<readonly BranchKeyRecord[]> {
    this.reads++;
    await Promise.resolve();
    const name = `${branchKeyId} ${type}`;
    return [this.stored.get(name), this.copies.get(name)].filter((record) => record !== undefined);
  }

  async create(records: readonly BranchKeyRecord[]) {
    this.offered.push(records);
    await Promise.resolve();
    const id = records[0]?.["branch-key-id"] ?? "";
    const exists = [...this.stored.keys()].some((name) => name.startsWith(`${id} `));
    if (!exists) { for (const record of records) this.put(record); }
    return { active: this.of(id, "branch:ACTIVE"), beacon: this.of(id, "beacon:ACTIVE") };
  }

  async rotate(_actor: Actor, records: readonly BranchKeyRecord[], expectedVersion: string) {
    this.offered.push(records);
    await Promise.resolve();
    const id = records[0]?.["branch-key-id"] ?? "";
    const rotated = this.of(id, "branch:ACTIVE").version === expectedVersion;
    if (rotated) {
      for (const record of records) this.put(record);
      this.copies.delete(`${id} branch:ACTIVE`);
    }
    return { rotated, active: this.of(id, "branch:ACTIVE") };
  }

  /** Stores a record over whatever stands in its place. */
  put(record: BranchKeyRecord): void {
    this.stored.set(`${record["branch-key-id"]} ${record.type}`, record);
  }

  of(branchKeyId: string, type: string): BranchKeyRecord {
    const record = this.stored.get(`${branchKeyId} ${type}`);
    if (record === undefined) throw new Error(`no ${type} of ${branchKeyId}`);
    return record;
  }

  /** Types that stand for a branch key, versions by that word. */
  types(branchKeyId: string): string[] {
    return [...this.stored.values()]
      .filter((record) => record["branch-key-id"] === branchKeyId)
      .map(({ type = "" }) => type.replace(/^(branch:version):.*/, "$1"))
      .sort();
  }
}
