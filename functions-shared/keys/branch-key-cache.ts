/** Unwrapped branch keys of this worker. */
import type { UnwrappedBranchKey } from "./branch-key-store.ts";
import { KeyCache, type KeyCacheOptions } from "./key-cache.ts";

export type BranchKeyCacheOptions = Omit<KeyCacheOptions<UnwrappedBranchKey>, "wipe">;

export class BranchKeyCache extends KeyCache<UnwrappedBranchKey> {
  constructor(options: BranchKeyCacheOptions) {
    super({ ...options, wipe: ({ branchKey }) => branchKey.fill(0) });
  }
}
