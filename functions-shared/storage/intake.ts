/** Takes validated items in: idempotency, encryption, one transaction. */
import type { DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import type { Fingerprints } from "../keys/fingerprints.ts";
import type { Actor } from "../telemetry/audit.ts";
import { inTurns } from "./in-turns.ts";
import type { IntakeStore, PreparedItem, StoredItem } from "./store.ts";

/** Longer than any request may run: after it, another request with the same key takes over. */
const LEASE_SECONDS = 60;

export interface IntakeRequest {
  readonly actor: Actor;
  /** Who and where: an idempotency key means nothing outside its scope. */
  readonly scope: string;
  readonly idempotencyKey: string;
  /** The most sensitive class among the items: the payload's fingerprint is kept under its key. */
  readonly dataClass: DataClass;
  /** The submitted JSON. */
  readonly body: unknown;
  /** The client's end, or the end of the time for key work. */
  readonly signal?: AbortSignal;
  /** Resolves when the request may go on; until then nothing but the key's lease is taken. */
  readonly admitted?: Promise<void>;
  /** Encrypts one item each; nothing is stored by it. */
  readonly prepare: readonly ((signal?: AbortSignal) => Promise<PreparedItem>)[];
}

export interface IntakeResult {
  readonly replayed: boolean;
  readonly items: readonly StoredItem[];
}

export class Intake {
  readonly #store: IntakeStore;
  readonly #fingerprints: Fingerprints;
  readonly #retentionSeconds: number;

  constructor(options: {
    readonly store: IntakeStore;
    readonly fingerprints: Fingerprints;
    readonly retentionSeconds: number;
  }) {
    this.#store = options.store;
    this.#fingerprints = options.fingerprints;
    this.#retentionSeconds = options.retentionSeconds;
  }

  /**
   * All items or none, once per idempotency key.
   *
   * @throws {SuiteError} idempotency_key_reused, idempotency_in_flight, kms_*, database_unavailable.
   */
  async submit(request: IntakeRequest): Promise<IntakeResult> {
    const { scope, actor, signal } = request;
    const keyHash = this.#fingerprints.handle([scope, request.idempotencyKey]);
    const requestHash = await this.#fingerprints.payload(
      request.dataClass,
      [scope, canonicalJson(request.body)],
      signal,
    );
    const started = await this.#store.begin(
      { scope, keyHash },
      requestHash,
      LEASE_SECONDS,
      this.#retentionSeconds,
    );
    switch (started.state) {
      case "replay":
        return { replayed: true, items: started.results };
      case "mismatch":
        throw new SuiteError("idempotency_key_reused");
      case "in_flight":
        throw new SuiteError("idempotency_in_flight", {
          retryAfterSeconds: started.retryAfterSeconds,
        });
    }
    const lease = { scope, keyHash, token: started.token };
    try {
      await request.admitted;
      const items = await inTurns(request.prepare.map((prepare) => () => prepare(signal)));
      return { replayed: false, items: await this.#store.store(actor, items, lease) };
    } catch (error) {
      // Only an unfinished lease can be given back: a transaction that did commit stays committed.
      await this.#store.abandon(lease).catch(() => {});
      throw error;
    }
  }
}

/** Equal for bodies that differ only in the order of members or in white space. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, member) => {
    if (typeof member !== "object" || member === null || Array.isArray(member)) return member;
    const entries = Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1));
    // A null prototype, so that a submitted "__proto__" stays a member.
    return Object.assign(Object.create(null), Object.fromEntries(entries));
  });
}
