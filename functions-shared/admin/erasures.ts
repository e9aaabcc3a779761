/**
 * Erasing a person, with a proof. The database erases, counts and audits in one transaction; only then is
 * there something to sign, by a key that the database does not hold. Whatever comes between the two leaves
 * an erasure that is complete but for its proof, which any later call here adds, and every health check.
 */
import { SuiteError } from "../errors.ts";
import type { ProofKey, Proofs } from "../keys/proofs.ts";
import type { Actor } from "../telemetry/audit.ts";

/** As the database has it, and as the proof states it. */
export interface Erasure {
  readonly id: string;
  readonly user_id: string;
  readonly erased_at: string;
  readonly actor: Actor;
  /** Null when the user was deleted elsewhere. */
  readonly purpose: string | null;
  /** How many of what were deleted. */
  readonly erased: Readonly<Record<string, number>>;
  /** Destroyed with all their versions. */
  readonly branch_keys: readonly { readonly id: string; readonly versions: readonly string[] }[];
  readonly audit: { readonly day: string; readonly seq: number; readonly hash: string };
}

export interface StoredProof {
  readonly id: string;
  readonly proof: string;
}

/** All methods throw `SuiteError` database_unavailable or internal_error. */
export interface ErasureStore {
  /** One transaction. Again, with nothing new to erase, it is the last erasure. */
  erase(
    actor: Actor,
    userId: string,
    purpose: string,
  ): Promise<{ readonly erasure: Erasure; readonly proof: string | undefined }>;
  /** The oldest erasures without a proof. */
  unsigned(limit: number): Promise<readonly Erasure[]>;
  /** Adds proofs where there are none; answers those that stand. */
  sign(proofs: readonly StoredProof[]): Promise<readonly StoredProof[]>;
}

/** A proof, and what it states. */
export interface ErasureProof {
  readonly proof: string;
  readonly erasure: Readonly<Record<string, unknown>>;
}

const MAX_SIGNED_AT_ONCE = 100;
/** Of one `signPending`, whose work no request waits for: as many users as are deleted at a time. */
const MAX_BATCHES = 10;

const KIND = "erasure";

export class Erasures {
  readonly #store: ErasureStore;
  readonly #proofs: Proofs;
  readonly #suite: { readonly app: string; readonly environment: string };
  readonly #now: () => number;

  constructor(options: {
    readonly store: ErasureStore;
    readonly proofs: Proofs;
    readonly appName: string;
    readonly environment: string;
    readonly now?: () => number;
  }) {
    this.#store = options.store;
    this.#proofs = options.proofs;
    this.#suite = { app: options.appName, environment: options.environment };
    this.#now = options.now ?? Date.now;
  }

  /**
   * Deletes all that is stored of a user, who need not exist any more, and destroys the user's own branch
   * keys. Nothing is erased while the key that signs cannot be had.
   *
   * @throws {SuiteError} kms_*, database_unavailable.
   */
  async erase(
    actor: Actor,
    userId: string,
    purpose: string,
    signal?: AbortSignal,
  ): Promise<ErasureProof> {
    return await this.#proofs.withKey(async (key) => {
      const { erasure, proof } = await this.#store.erase(actor, userId, purpose);
      const [standing] = proof === undefined ? await this.#sign(key, [erasure]) : [{ proof }];
      if (standing === undefined) throw new SuiteError("internal_error");
      return { proof: standing.proof, erasure: key.verify(standing.proof) ?? { ...erasure } };
    }, signal);
  }

  /**
   * What a proof states, or undefined when this suite did not sign it. Signs, while the key is here, what
   * is still unsigned.
   *
   * @throws {SuiteError} kms_*, database_unavailable.
   */
  async verify(
    proof: string,
    signal?: AbortSignal,
  ): Promise<Readonly<Record<string, unknown>> | undefined> {
    return await this.#proofs.withKey(async (key) => {
      const unsigned = await this.#store.unsigned(MAX_SIGNED_AT_ONCE);
      if (unsigned.length > 0) await this.#sign(key, unsigned);
      const claims = key.verify(proof);
      return claims?.kind === KIND ? claims : undefined;
    }, signal);
  }

  /**
   * Signs what is unsigned, such as erasures of users who were deleted elsewhere: the oldest thousand. When
   * there is nothing, no key is asked for. How many.
   *
   * @throws {SuiteError} kms_*, database_unavailable.
   */
  async signPending(): Promise<number> {
    let pending = await this.#store.unsigned(MAX_SIGNED_AT_ONCE);
    if (pending.length === 0) return 0;
    return await this.#proofs.withKey(async (key) => {
      let signed = 0;
      for (let batch = 0; batch < MAX_BATCHES && pending.length > 0; batch++) {
        signed += (await this.#sign(key, pending)).length;
        pending = await this.#store.unsigned(MAX_SIGNED_AT_ONCE);
      }
      return signed;
    });
  }

  #sign(key: ProofKey, erasures: readonly Erasure[]): Promise<readonly StoredProof[]> {
    const signedAt = new Date(this.#now()).toISOString();
    return this.#store.sign(erasures.map((erasure) => ({
      id: erasure.id,
      proof: key.sign({ kind: KIND, ...this.#suite, ...erasure, signed_at: signedAt }),
    })));
  }
}
