/**
 * Signatures of anchors: HMAC-SHA256 under a key derived from the payment class's beacon key.
 *
 * Not from the platform's secret key: every server of the project holds that one, and it is replaced when
 * it leaks, which would leave old anchors without proof. The beacon key is in the database only as KMS
 * wrapped it, never rotates, and moves between providers; who can write to the database, or holds a secret
 * key, or both, cannot sign without KMS.
 */
import type { Anchor, SignedAnchor } from "./trail.ts";

/** HMAC-SHA256 in hexadecimal digits over a list of texts. */
export type SignParts = (parts: readonly string[]) => Promise<string>;

export class AnchorSignatures {
  readonly #sign: SignParts;
  readonly #project: readonly string[];
  readonly #now: () => number;

  constructor(options: {
    readonly sign: SignParts;
    readonly appName: string;
    readonly environment: string;
    readonly now?: () => number;
  }) {
    this.#sign = options.sign;
    this.#project = [options.appName, options.environment];
    this.#now = options.now ?? Date.now;
  }

  /** @throws {SuiteError} kms_*, database_unavailable. */
  async sign({ day, entries, prev_hash, last_seq, last_hash, finished }: Anchor) {
    const anchor = { day, entries, prev_hash, last_seq, last_hash, finished };
    const signed_at = new Date(this.#now()).toISOString();
    return { ...anchor, signed_at, signature: await this.#sign(this.#parts(anchor, signed_at)) };
  }

  /** @throws {SuiteError} as `sign`. */
  async holds({ signed_at, signature, ...anchor }: SignedAnchor): Promise<boolean> {
    return await this.#sign(this.#parts(anchor, signed_at)) === signature;
  }

  #parts(anchor: Anchor, signedAt: string): readonly string[] {
    const { day, entries, prev_hash, last_seq, last_hash, finished } = anchor;
    return [
      "kms-audit-anchor-v1",
      ...this.#project,
      day,
      String(entries),
      prev_hash,
      String(last_seq),
      last_hash,
      String(finished),
      signedAt,
    ];
  }
}
