/**
 * Configuration by administrators: what is stored is laid over the environment by every worker within one
 * cache time. Nothing is stored that was not tried, or under which something could no longer be read.
 */
import type { Config } from "../config.ts";
import { DATA_CLASSES } from "../data-class.ts";
import { ConfigError } from "../environment.ts";
import { SuiteError, validationFailed } from "../errors.ts";
import type { Actor, AuditLog } from "../telemetry/audit.ts";
import { tryKeys } from "./candidate.ts";
import { LockOut, type LockOutOptions, type Present, type Writer } from "./lock-out.ts";
import {
  type Candidate,
  credentialsSet,
  merge,
  type ProviderName,
  PROVIDERS,
  restore,
  shownSettings,
  type Variables,
  violationsOf,
} from "./settings-fields.ts";
import type { NewRevision, Revision } from "./settings-store.ts";
import { openSettings, overlay, sealSettings, settle } from "./stored-settings.ts";

/** What a writer knew, and why. */
export interface Change {
  /** The revision that is to be replaced; without one, whichever there is when the request begins. */
  readonly expected?: number | undefined;
  readonly reason?: string | undefined;
  readonly signal: AbortSignal;
}

export class Configuration {
  readonly #options: ConfigurationOptions;
  readonly #lockOut: LockOut;

  constructor(options: ConfigurationOptions) {
    this.#options = options;
    this.#lockOut = new LockOut(options);
  }

  /** What counts now, without any secret. */
  async get() {
    return this.#show(await this.#present());
  }

  /** @throws {SuiteError} validation_failed. */
  async test(actor: Actor, candidate: Candidate, signal: AbortSignal) {
    return await this.#audited(actor, "config.test", async () => {
      const present = await this.#present();
      const { config } = this.#candidate(present, candidate);
      const keys = this.#options.keysOf(config);
      const writers = await this.#lockOut.writers(present);
      const [classes, lockOut] = await Promise.all([
        tryKeys(keys, signal),
        this.#lockOut.by(keys, writers, signal),
      ]);
      const healthy = DATA_CLASSES.every((name) => classes[name].healthy);
      await this.#options.audit.append(actor, [{
        action: "config.test",
        ...healthy
          ? { outcome: "success" }
          : { outcome: "failure", error_code: "configuration_test_failed" },
      }]);
      return { provider: config.provider, healthy, classes, locks_out: lockOut !== undefined };
    });
  }

  /**
   * @throws {SuiteError} validation_failed, configuration_test_failed, configuration_locks_out,
   * configuration_conflict.
   */
  async put(actor: Actor, candidate: Candidate, change: Change) {
    return await this.#audited(actor, "config.update", async () => {
      const present = await this.#expected(change);
      const checked = this.#candidate(present, candidate);
      const writers = await this.#lockOut.writers(present);
      return await this.#save(actor, { ...checked, present, writers }, change);
    });
  }

  /** @throws {SuiteError} as `put`. */
  async rollback(
    actor: Actor,
    to: { readonly revision: number; readonly remove?: readonly ProviderName[] | undefined },
    change: Change,
  ) {
    return await this.#audited(actor, "config.rollback", async () => {
      const present = await this.#expected(change);
      const older = await this.#stored(to.revision);
      const named = older.KMS_PROVIDER as ProviderName | undefined;
      const provider = named ?? this.#options.config.provider;
      requireRemovable(to.remove, [provider, present.config.provider]);
      const writers = await this.#lockOut.writers(present);
      const variables = restore(present.variables, older, provider, {
        writing: writers.map(({ config }) => config.provider),
        removed: to.remove,
      });
      const checked = this.#check(variables, provider);
      return await this.#save(actor, { ...checked, present, writers }, change, to.revision);
    });
  }

  async history(limit: number, before?: number) {
    const { revisions, next } = await this.#options.store.history(limit, before);
    return { revisions: revisions.map(showRevision), next };
  }

  async #present(): Promise<Present> {
    const { environment, config, seal, store } = this.#options;
    const row = await store.read();
    return { row, ...settle(environment, config, seal, row ?? { revision: 0, message: null }) };
  }

  async #expected({ expected }: Change): Promise<Present> {
    const present = await this.#present();
    if (expected !== undefined && expected !== revisionOf(present)) {
      throw new SuiteError("configuration_conflict");
    }
    return present;
  }

  /** The variables of an older revision. */
  async #stored(revision: number): Promise<Variables> {
    if (revision === 0) return {};
    const row = await this.#options.store.read(revision);
    if (row === undefined) throw refusedRevision("unknown_revision", "must have been stored once");
    try {
      return openSettings(this.#options.seal, row);
    } catch (error) {
      if (!(error instanceof SuiteError || error instanceof ConfigError)) throw error;
      throw refusedRevision("not_restorable", "must be one whose settings can still be opened");
    }
  }

  #candidate(present: Present, candidate: Candidate) {
    requireRemovable(candidate.remove, [candidate.provider, present.config.provider]);
    const checked = this.#check(merge(present.variables, candidate), candidate.provider);
    // A token is sent to the address: one that nobody may read goes to none that anybody may name.
    if (
      candidate.provider === "vault" && candidate.credentials === undefined &&
      checked.config.vault?.address !== knownAddress(present)
    ) {
      throw validationFailed([{
        pointer: "/credentials",
        code: "missing_field",
        detail: "must be given with another address",
      }]);
    }
    return checked;
  }

  /** By the one validator there is. */
  #check(variables: Variables, provider: ProviderName) {
    if (JSON.stringify(variables).length > MAX_STORED_CHARACTERS) {
      throw validationFailed([{
        pointer: "",
        code: "too_large",
        detail: `must be at most ${MAX_STORED_CHARACTERS} characters with what is kept`,
      }]);
    }
    let config: Config;
    try {
      config = overlay(this.#options.environment, variables);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw validationFailed(violationsOf(error, provider));
    }
    this.#requireAllowed(config);
    return { variables, config };
  }

  /**
   * A migration hands every branch key to the new provider, and a Vault sees them as they are: with a stolen
   * administrator's token alone nobody shall name one. The environment is not the administrators' to write.
   */
  #requireAllowed({ vault }: Config): void {
    const { config: own } = this.#options;
    const allowed = [own.vault?.address, ...own.vaultAllowedAddresses];
    if (!own.isProduction || vault === undefined || allowed.includes(vault.address)) return;
    throw validationFailed([{
      pointer: "/addr",
      code: "address_not_allowed",
      detail: "must be VAULT_ADDR or one of VAULT_ALLOWED_ADDRS of the environment in production",
    }]);
  }

  async #save(
    actor: Actor,
    { variables, config, present, writers }: {
      readonly variables: Variables;
      readonly config: Config;
      readonly present: Present;
      readonly writers: readonly Writer[];
    },
    { reason, signal }: Change,
    restores?: number,
  ) {
    const keys = this.#options.keysOf(config);
    const classes = await tryKeys(keys, signal);
    const failures = DATA_CLASSES.flatMap((name) => {
      const report = classes[name];
      return report.healthy ? [] : [{
        pointer: "/provider",
        code: report.error,
        detail: `The key of the class ${name} could not be used.`,
      }];
    });
    if (failures.length > 0) {
      throw new SuiteError("configuration_test_failed", { violations: failures });
    }
    const lockOut = await this.#lockOut.by(keys, writers, signal);
    if (lockOut !== undefined) throw lockOut;
    const { store, seal, renew } = this.#options;
    const expected = revisionOf(present);
    const settings: NewRevision = {
      provider: config.provider,
      message: sealSettings(seal, expected + 1, variables),
      ...restores === undefined ? {} : { restores },
      ...reason === undefined ? {} : { reason },
    };
    if (!await store.put(actor, settings, expected)) {
      throw new SuiteError("configuration_conflict");
    }
    // This worker at once; should it fail, it is as late as the others.
    await renew().catch(() => {});
    return await this.get();
  }

  /** A refusal is in the audit as well; what succeeds is audited with what it changes. */
  async #audited<T>(actor: Actor, action: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof SuiteError && error.status < 500) {
        await this.#options.audit.append(actor, [{
          action,
          outcome: "failure",
          error_code: error.code,
        }]);
      }
      throw error;
    }
  }

  #show(present: Present) {
    const { config, variables, row, fault } = present;
    const environment = {
      ...this.#options.environment,
      ...fault === undefined ? variables : {},
    };
    // By what was read: of a provider that was removed an external id may be left in the environment.
    const { aws, gcp, vault, encryptionKey: env } = config;
    const configured: Readonly<Record<ProviderName, unknown>> = { aws, gcp, vault, env };
    return {
      revision: revisionOf(present),
      source: row === undefined || fault !== undefined ? "environment" : "database",
      everywhere: this.#isEverywhere(row),
      provider: config.provider,
      settings: shownSettings(config),
      credentials: { set: credentialsSet(config.provider, environment) },
      /** Others that read what they wrapped before. */
      readers: PROVIDERS.filter((name) =>
        name !== config.provider && configured[name] !== undefined
      ),
      ...row === undefined ? {} : { stored: showRevision(row) },
      warnings: warningsOf(present),
    };
  }

  /** Whether no request begins under older settings any more: workers ask at least once in a cache time. */
  #isEverywhere(row: Revision | undefined): boolean {
    const { config, now = Date.now } = this.#options;
    return row === undefined || now() - Date.parse(row.created_at) >= config.configCacheMs;
  }
}

export interface ConfigurationOptions extends LockOutOptions {
  readonly audit: AuditLog;
  /** Lets this worker take what was stored. */
  readonly renew: () => Promise<unknown>;
  readonly now?: () => number;
}

/** With all that a message may have around it, below what its column takes. */
const MAX_STORED_CHARACTERS = 65_536;

/** Workers write under the present provider for one more cache time: it goes with the next change. */
function requireRemovable(
  removed: readonly ProviderName[] | undefined,
  needed: readonly ProviderName[],
): void {
  if (!removed?.some((name) => needed.includes(name))) return;
  throw validationFailed([{
    pointer: "/remove",
    code: "contradiction",
    detail: "must name neither the provider that wraps new keys now nor the one that is to",
  }]);
}

/** Where the Vault credentials that are kept belong; undefined when that cannot be said for certain. */
function knownAddress({ config, variables, fault }: Present): string | undefined {
  return fault !== undefined && "VAULT_ADDR" in variables ? undefined : config.vault?.address;
}

function revisionOf({ row }: Present): number {
  return row?.revision ?? 0;
}

function showRevision(row: Revision) {
  const { revision, provider, restores, reason, actor_type, actor_id, created_at, restorable } =
    row;
  return {
    revision,
    provider,
    restores,
    reason,
    created_by: { type: actor_type, id: actor_id },
    created_at,
    restorable,
  };
}

function refusedRevision(code: string, detail: string): SuiteError {
  return validationFailed([{ pointer: "/revision", code, detail }]);
}

function warningsOf({ row, fault }: Present): string[] {
  const warnings = [];
  if (fault !== undefined) {
    warnings.push(
      "The stored settings cannot be opened or are not valid here: the environment alone counts.",
    );
  }
  if (row !== undefined && !row.in_vault) {
    warnings.push(
      "There is no Supabase Vault: the credentials lie in kms.settings, encrypted under the functions' " +
        "own keys. Whoever has a copy of the database and ENCRYPTION_KEY, or without one a secret key of " +
        "the project, can read them.",
    );
  }
  return warnings;
}
