/**
 * Signed statements about what this suite did: JWS in the compact serialization (RFC 7515), HS256.
 *
 * The key is derived from a beacon key, which never rotates, moves along when the provider changes, and is
 * in the database only as KMS wrapped it: whoever may write the database, but not use the KMS key, can
 * neither forge nor alter a proof. It is a MAC: who verifies could sign as well, so only the suite does.
 */
import type { DataClass } from "../data-class.ts";
import { decodeMessage, encodeMessage } from "../message/mod.ts";
import { hkdfSha512, hmacSha256, timingSafeEqual } from "../message/primitives.ts";
import { abortable } from "./abortable.ts";
import type { BranchKeyStore } from "./branch-key-store.ts";

/** Of the class of least consequence: proofs hold ids and numbers only. */
const DATA_CLASS: DataClass = "general";

const HEADER = base64Url(utf8(JSON.stringify({ alg: "HS256", typ: "kms-proof+jws" })));

export interface ProofKey {
  /** @returns the JWS of these claims, which are JSON. */
  sign(claims: Readonly<Record<string, unknown>>): string;
  /** The claims of a JWS that this key signed, else undefined. */
  verify(proof: string): Readonly<Record<string, unknown>> | undefined;
}

export class Proofs {
  readonly #store: Pick<BranchKeyStore, "beacon">;

  constructor(store: Pick<BranchKeyStore, "beacon">) {
    this.#store = store;
  }

  /**
   * Fetches the key, lends it to `work` and wipes it: proofs are rare. `signal` ends the fetch only.
   * @throws {SuiteError} what the provider and the key store throw, before `work` begins.
   */
  async withKey<T>(work: (key: ProofKey) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const fetched = this.#store.beacon(DATA_CLASS, DATA_CLASS, signal);
    const beacon = await abortable(fetched, signal, (late) => late.fill(0));
    const key = hkdfSha512(beacon, new Uint8Array(0), utf8("supabase-kms/proof/v1"), 32);
    beacon.fill(0);
    try {
      return await work({
        sign: (claims) => {
          const signed = `${HEADER}.${base64Url(utf8(JSON.stringify(claims)))}`;
          return `${signed}.${mac(key, signed)}`;
        },
        verify: (proof) => {
          const [header, payload = "", signature = "", ...more] = proof.split(".");
          // One header is ever written: which algorithm checks a proof is not for the proof to say.
          if (header !== HEADER || more.length > 0) return undefined;
          const expected = mac(key, `${header}.${payload}`);
          return timingSafeEqual(utf8(signature), utf8(expected)) ? claimsOf(payload) : undefined;
        },
      });
    } finally {
      key.fill(0);
    }
  }
}

function mac(key: Uint8Array, text: string): string {
  return base64Url(hmacSha256(key, utf8(text)));
}

/** Of a payload that this key signed, hence one that was made here. */
function claimsOf(payload: string): Readonly<Record<string, unknown>> {
  const padded = payload.replaceAll("-", "+").replaceAll("_", "/") +
    "=".repeat((4 - payload.length % 4) % 4);
  return JSON.parse(new TextDecoder().decode(decodeMessage(padded)));
}

function base64Url(bytes: Uint8Array): string {
  return encodeMessage(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
