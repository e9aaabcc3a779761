import { createHash, timingSafeEqual } from "node:crypto";
import { Exclusive } from "./exclusive.ts";
import type { Identity } from "./identity.ts";

/** The roles that API keys stand for. */
export type ApiKeyKind = "publishable" | "secret";

/** Told of a change before it is in force here, or after; what they do is waited for. */
export interface KeyFollower {
  before?(next: Identity): Promise<void>;
  after?(): Promise<void>;
}

/** The keys of the running project, and the one way to change them. */
export class ProjectKeys {
  #identity: Identity;
  readonly #followers: KeyFollower[] = [];
  readonly #save: (identity: Identity) => Promise<void>;
  readonly #turn = new Exclusive();

  constructor(identity: Identity, save: (identity: Identity) => Promise<void>) {
    this.#identity = identity;
    this.#save = save;
  }

  /** As it is now: ask again rather than keep it. */
  get identity(): Identity {
    return this.#identity;
  }

  follow(follower: KeyFollower): void {
    this.#followers.push(follower);
  }

  /** What this API key stands for; null when it is none of this project's, or no longer. */
  kindOf(key: string): ApiKeyKind | null {
    const { publishableKey, secretKeys } = this.#identity;
    if (secretKeys.some((secret) => sameText(secret.key, key))) return "secret";
    return sameText(publishableKey, key) ? "publishable" : null;
  }

  /**
   * Changes keys, one change at a time; `edit` may throw to refuse. Kept on the disk first, then with the
   * functions, then here: a worker's own key must open the database for as long as the worker runs.
   * What is kept is in force, whatever followers do: a revoked key opens nothing because one of them failed.
   *
   * @throws {AggregateError} after the change, with the failures of followers
   */
  change(edit: (now: Identity) => Identity): Promise<Identity> {
    return this.#turn.run(async () => {
      const next = edit(this.#identity);
      await this.#save(next);
      const failures = await this.#tell((follower) => follower.before?.(next));
      this.#identity = next;
      failures.push(...await this.#tell((follower) => follower.after?.()));
      if (failures.length > 0) {
        throw new AggregateError(failures, "the keys are changed, but not everybody follows");
      }
      return next;
    });
  }

  /** One after the other, each whatever became of those before it. Answers what was thrown. */
  async #tell(news: (follower: KeyFollower) => Promise<void> | undefined): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const follower of this.#followers) {
      try {
        await news(follower);
      } catch (error) {
        failures.push(error);
      }
    }
    return failures;
  }
}

/** In a time that tells nothing of how much is equal. */
export function sameText(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
