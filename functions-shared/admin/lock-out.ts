/**
 * What a change would make unreadable: of what is in use, and of what workers that have not followed yet go
 * on wrapping as before.
 */
import type { Config } from "../config.ts";
import type { Environment } from "../environment.ts";
import { SuiteError, type Violation } from "../errors.ts";
import type { SettingsSeal } from "../keys/settings-seal.ts";
import { type CandidateKeys, lockedOut, wrapSamples } from "./candidate.ts";
import type { SealedRevision, SettingsStore } from "./settings-store.ts";
import { settle, type Settled } from "./stored-settings.ts";

/** The settings in force; without a row the environment alone. */
export interface Present extends Settled {
  readonly row: SealedRevision | undefined;
}

/** Settings that workers may still wrap under. */
export interface Writer {
  readonly config: Config;
  /** For how much longer, milliseconds; undefined = they are in force. */
  readonly leftMs: number | undefined;
}

export interface LockOutOptions {
  /** Of the process, without anything stored. */
  readonly environment: Environment;
  /** Of the environment alone. */
  readonly config: Config;
  readonly seal: SettingsSeal;
  readonly store: SettingsStore;
  /** Keys of their own, with short deadlines, which tell other workers nothing. */
  readonly keysOf: (config: Config) => CandidateKeys;
  readonly now?: () => number;
}

/**
 * A worker that could not ask goes on for five seconds; and what it began then may have to be stored, which
 * may take ten.
 */
const LATE_MS = 15_000;
/** Of the longest request, which makes a branch key: its wrapping key's name, the key, and wrapping it anew. */
const KEY_CALLS = 3;

/** Settings of older revisions are forgotten. */
const MAX_WRITERS = 20;

export class LockOut {
  readonly #options: LockOutOptions;

  constructor(options: LockOutOptions) {
    this.#options = options;
  }

  /**
   * The settings in force, then those they replaced not longer ago than a worker may take: one cache time,
   * and the longest request that it began then.
   */
  async writers(present: Present): Promise<readonly Writer[]> {
    const { environment, config, seal, store, now = Date.now } = this.#options;
    const followMs = config.configCacheMs + LATE_MS + KEY_CALLS * config.kmsTimeoutMs;
    const writers: Writer[] = [{ config: present.config, leftMs: undefined }];
    const known = new Set([JSON.stringify(present.variables)]);
    let { row } = present;
    for (let revisions = 1; row !== undefined && revisions < MAX_WRITERS; revisions++) {
      const leftMs: number = Date.parse(row.created_at) + followMs - now();
      if (leftMs <= 0) break;
      row = row.revision === 1 ? undefined : await store.read(row.revision - 1);
      const { config: older, variables } = settle(
        environment,
        config,
        seal,
        row ?? { revision: 0, message: null },
      );
      const settings = JSON.stringify(variables);
      if (!known.has(settings)) writers.push({ config: older, leftMs });
      known.add(settings);
    }
    return writers;
  }

  /**
   * The error that says what `keys` could not open; undefined when nobody is locked out. As long as nothing
   * was ever wrapped by anybody, nobody is.
   */
  async by(
    keys: CandidateKeys,
    writers: readonly Writer[],
    signal: AbortSignal,
  ): Promise<SuiteError | undefined> {
    const { store, keysOf } = this.#options;
    const inUse = await store.keysInUse();
    if (inUse.branch_keys.length + inUse.messages.length === 0) return undefined;
    const [present, ...before] = writers.map(({ config }) => keysOf(config));
    if (present === undefined) return undefined;
    const [lost, ...losesSoon] = await Promise.all([
      lockedOut(inUse, keys, present, signal),
      ...[present, ...before].map((writer) => losesWhatIsWrapped(keys, writer, signal)),
    ]);
    const lostSoon = writers.filter((_, index) => losesSoon[index]);
    const violations = [...lost.map(unreadable), ...lostSoon.map(unreadableSoon)];
    if (violations.length === 0) return undefined;
    // Where waiting helps at all.
    const waitMs = lost.length > 0
      ? Infinity
      : Math.max(...lostSoon.map(({ leftMs }) => leftMs ?? Infinity));
    return new SuiteError("configuration_locks_out", {
      violations,
      ...waitMs === Infinity ? {} : { retryAfterSeconds: Math.ceil(waitMs / 1000) },
    });
  }
}

/** Of a writer that is down it is only asked that it stays known: it may come back in time. */
async function losesWhatIsWrapped(
  keys: CandidateKeys,
  writer: CandidateKeys,
  signal: AbortSignal,
): Promise<boolean> {
  if (!keys.providers.some(({ name }) => name === writer.provider.name)) return true;
  const samples = await wrapSamples(writer, signal);
  return (await lockedOut(samples, keys, writer, signal)).length > 0;
}

const unreadable = (by: string): Violation => ({
  pointer: "/provider",
  code: "key_unreadable",
  detail: `What was wrapped by ${by} is in use and could no longer be opened.`,
});

const unreadableSoon = ({ config, leftMs }: Writer): Violation => ({
  pointer: "/provider",
  code: "key_still_written",
  detail: `What workers wrap by ${config.provider} until all have followed could not be opened` +
    (leftMs === undefined ? "." : `; they will have in ${Math.ceil(leftMs / 1000)} seconds.`),
});
