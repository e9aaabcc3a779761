/**
 * AWS's hierarchical keyring with Postgres as its key store: each message has a data key of its own,
 * under a branch key that KMS unwraps about once per worker, class and five minutes.
 *
 * Source: AWS Encryption SDK specification, framework/aws-kms/aws-kms-hierarchical-keyring.md.
 */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { SuiteError } from "../errors.ts";
import {
  type EncryptedDataKey,
  type EncryptionContext,
  HIERARCHY_PROVIDER_ID,
  MessageError,
  referencedBranchKey,
  unwrapDataKeyHierarchical,
  wrapDataKeyHierarchical,
} from "../message/mod.ts";
import { randomBytes } from "../message/primitives.ts";
import type { BranchKeyCache } from "./branch-key-cache.ts";
import { branchKeyId, type BranchKeyScope, mayUseBranchKey } from "./branch-key-id.ts";
import type { BranchKeyStore } from "./branch-key-store.ts";
import type { GeneratedDataKey, Keyring, OpenedDataKey } from "./keyring.ts";

export class HierarchicalKeyring implements Keyring {
  readonly #store: BranchKeyStore;
  readonly #cache: BranchKeyCache;
  readonly #scopes: Readonly<Record<DataClass, BranchKeyScope>>;

  constructor(options: {
    readonly store: BranchKeyStore;
    readonly cache: BranchKeyCache;
    readonly scopes: Readonly<Record<DataClass, BranchKeyScope>>;
  }) {
    this.#store = options.store;
    this.#cache = options.cache;
    this.#scopes = options.scopes;
  }

  async generateDataKey(
    dataClass: DataClass,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<GeneratedDataKey> {
    const id = branchKeyId(this.#scopes[dataClass], dataClass, context.owner ?? "");
    return await this.#cache.lend(
      `${id} active`,
      "encrypt",
      (waiting) => this.#store.active(id, dataClass, waiting),
      (branchKey) => {
        const plaintext = randomBytes(32);
        return {
          plaintext,
          encrypted: wrapDataKeyHierarchical(branchKey, plaintext, context),
          keyId: branchKey.wrappingKeyId,
          region: branchKey.region,
          branchKey: { id, version: branchKey.version },
        };
      },
      signal,
    );
  }

  recognises(encrypted: EncryptedDataKey): boolean {
    return encrypted.providerId === HIERARCHY_PROVIDER_ID;
  }

  async decryptDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return (await this.openDataKey(encrypted, context, signal)).plaintext;
  }

  async openDataKey(
    encrypted: EncryptedDataKey,
    context: EncryptionContext,
    signal?: AbortSignal,
  ): Promise<OpenedDataKey> {
    const dataClass = DATA_CLASSES.find((candidate) => candidate === context["data-class"]);
    try {
      const { branchKeyId: id, version } = referencedBranchKey(encrypted);
      // The message may be an attacker's: it chooses among the branch keys of its own row, no others.
      if (dataClass === undefined || !mayUseBranchKey(id, dataClass, context.owner ?? "")) {
        throw new SuiteError("decryption_failed");
      }
      return await this.#cache.lend(
        `${id} ${version}`,
        "decrypt",
        (waiting) => this.#store.version(id, version, dataClass, waiting),
        (branchKey) => ({
          plaintext: unwrapDataKeyHierarchical(branchKey, encrypted, context),
          keyId: branchKey.wrappingKeyId,
          region: branchKey.region,
          branchKey: { id, version },
        }),
        signal,
      );
    } catch (cause) {
      if (cause instanceof MessageError) throw new SuiteError("decryption_failed", { cause });
      throw cause;
    }
  }
}
