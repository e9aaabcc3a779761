/**
 * Keyed fingerprints (HMAC-SHA256) of values that must be recognised but not stored: card numbers, and
 * the payloads behind idempotency keys; and signatures of the audit trail's anchors. PCI DSS 4.0.1, 3.5.1.1: such a hash is keyed, and its key is not
 * the data key.
 */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { hkdfSha512, hmacSha256 } from "../message/primitives.ts";
import { timed } from "../telemetry/timing.ts";
import { abortable } from "./abortable.ts";
import type { BranchKeyStore } from "./branch-key-store.ts";
import { KeyCache } from "./key-cache.ts";

interface FingerprintKeys {
  readonly card: Uint8Array;
  readonly payload: Uint8Array;
  readonly anchor: Uint8Array;
}

export class Fingerprints {
  readonly #store: BranchKeyStore;
  readonly #keys: KeyCache<FingerprintKeys>;
  readonly #handles: Uint8Array;

  constructor(
    store: BranchKeyStore,
    options: {
      /** How long the derived keys stay in this worker, milliseconds; 0 = each use fetches its own. */
      readonly ttlMs: number;
      /** A secret that all workers hold, and the database does not. */
      readonly workerSecret: string;
      readonly now?: () => number;
    },
  ) {
    this.#store = store;
    this.#keys = new KeyCache({
      ...options,
      maxEncryptions: Infinity,
      maxEntries: DATA_CLASSES.length,
      wipe: (keys) => Object.values(keys).forEach((key: Uint8Array) => key.fill(0)),
    });
    this.#handles = derive(new TextEncoder().encode(options.workerSecret), "handle");
  }

  /** 64 hexadecimal digits; equal for equal numbers. `number`: digits only. */
  async card(number: string, signal?: AbortSignal): Promise<string> {
    return await this.#use("payment", ({ card }) => hmacHex(card, [number]), signal);
  }

  /** 64 hexadecimal digits over data of a class: under its own key, so that no class needs another's. */
  async payload(
    dataClass: DataClass,
    parts: readonly string[],
    signal?: AbortSignal,
  ): Promise<string> {
    return await this.#use(dataClass, ({ payload }) => hmacHex(payload, parts), signal);
  }

  /** 64 hexadecimal digits: the signature of an anchor of the audit trail. */
  async anchor(parts: readonly string[]): Promise<string> {
    return await this.#use("payment", ({ anchor }) => hmacHex(anchor, parts), undefined);
  }

  /**
   * 64 hexadecimal digits over a client's own name for something, such as an idempotency key. It is no
   * data, but nothing keeps a client from making one of data.
   */
  handle(parts: readonly string[]): string {
    return hmacHex(this.#handles, parts);
  }

  /** Zeroes and forgets the derived keys. */
  clear(): void {
    this.#keys.clear();
  }

  /** As `clear`, for good: nothing is kept any more. */
  retire(): void {
    this.#keys.retire();
  }

  async #use(
    dataClass: DataClass,
    use: (keys: FingerprintKeys) => string,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const fetch = (waiting: AbortSignal) => this.#derive(dataClass, waiting);
    const fingerprint = this.#keys.lend(dataClass, "decrypt", fetch, use, signal);
    return await timed("keys", abortable(fingerprint, signal));
  }

  async #derive(dataClass: DataClass, signal: AbortSignal): Promise<FingerprintKeys> {
    const beacon = await this.#store.beacon(dataClass, dataClass, signal);
    try {
      return {
        card: derive(beacon, "card"),
        payload: derive(beacon, "payload"),
        anchor: derive(beacon, "anchor"),
      };
    } finally {
      beacon.fill(0);
    }
  }
}

/** Each purpose has a key of its own: a fingerprint of one kind says nothing about another. */
function derive(secret: Uint8Array, purpose: string): Uint8Array {
  const info = new TextEncoder().encode(`supabase-kms/fingerprint/v1/${purpose}`);
  return hkdfSha512(secret, new Uint8Array(0), info, 32);
}

function hmacHex(key: Uint8Array, parts: readonly string[]): string {
  const digest = hmacSha256(key, new TextEncoder().encode(JSON.stringify(parts)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
