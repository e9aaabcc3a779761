/**
 * `encrypt-payment-data` without its encryption: the same routes, checks, calls of the database and
 * transaction, but what is stored is the plaintext in base64, and fingerprints are bare hashes.
 * For the benchmark only; the embedded stack serves it from a temporary folder.
 */
import { createHash } from "node:crypto";
import { loadConfig } from "../../functions-shared/config.ts";
import { rateLimitStore } from "../../functions-shared/database/rate-limits.ts";
import { supabaseRpc } from "../../functions-shared/database/rpc.ts";
import {
  auditLog,
  intakeStore,
  paymentMethodStore,
  recordStore,
} from "../../functions-shared/database/stores.ts";
import { encryptPaymentDataApp } from "../../functions-shared/endpoints/encrypt-payment-data.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import {
  type EncryptedField,
  FieldCipher,
  type FieldIdentity,
} from "../../functions-shared/keys/field-cipher.ts";
import { Fingerprints } from "../../functions-shared/keys/fingerprints.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { encodeMessage } from "../../functions-shared/message/mod.ts";
import { Payments } from "../../functions-shared/payments/payments.ts";
import { Records } from "../../functions-shared/records/records.ts";
import { Intake } from "../../functions-shared/storage/intake.ts";

/** The start of every message; the column takes nothing else. */
const START = Uint8Array.from([2, 4, 0x78]);

class NoCipher extends FieldCipher {
  override encrypt(identity: FieldIdentity, plaintext: Uint8Array): Promise<EncryptedField> {
    // As long as a message of this size, so that Postgres has the same to write.
    const stored = new Uint8Array(520 + plaintext.length);
    stored.set(START);
    stored.set(plaintext, START.length);
    return Promise.resolve({
      field: identity.field,
      message: encodeMessage(stored),
      keyId: "none",
    });
  }
}

class BareHashes extends Fingerprints {
  override card(number: string): Promise<string> {
    return Promise.resolve(sha256(number));
  }

  override payload(_dataClass: unknown, parts: readonly string[]): Promise<string> {
    return Promise.resolve(sha256(JSON.stringify(parts)));
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export function plaintextTwin(environment: Readonly<Record<string, string>>) {
  const config = loadConfig(environment);
  const rpc = supabaseRpc(config.supabase);
  const provider = new EnvKeyProvider(new Uint8Array(32));
  const cipher = new NoCipher({
    ...config,
    writers: { payment: provider, pii: provider, general: provider },
    readers: [],
  });
  const fingerprints = new BareHashes(
    new BranchKeyStore({ ...config, records: NO_RECORDS, provider, readers: [] }),
    { ttlMs: 0, workerSecret: "twin" },
  );
  const audit = auditLog(rpc);
  const services = {
    intake: new Intake({
      store: intakeStore(rpc),
      fingerprints,
      retentionSeconds: config.idempotencyRetentionSeconds,
    }),
    payments: new Payments({ cipher, fingerprints, store: paymentMethodStore(rpc), audit }),
    records: new Records({ cipher, store: recordStore(rpc), audit }),
  };
  const rateLimits = rateLimitStore(rpc);
  return encryptPaymentDataApp({
    config: () => config,
    serving: () => Promise.resolve({ config, services }),
    rateLimits: () => rateLimits,
  });
}

const refuse = () => Promise.reject(new Error("the twin has no branch keys"));
const NO_RECORDS = { get: refuse, create: refuse, rotate: refuse };
