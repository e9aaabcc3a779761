/** Which branch key a message hangs on: the specification's "branch key supplier". */
import type { DataClass } from "../data-class.ts";

/** One branch key for the whole class, or one per owner, which can be destroyed with that owner. */
export type BranchKeyScope = "class" | "owner";

export function branchKeyId(scope: BranchKeyScope, dataClass: DataClass, owner: string): string {
  return scope === "class" ? dataClass : `${dataClass}:${owner}`;
}

/** Whether a message of this class and owner may name that branch key, whatever the scope was then. */
export function mayUseBranchKey(id: string, dataClass: string, owner: string): boolean {
  return id === dataClass || id === `${dataClass}:${owner}`;
}
