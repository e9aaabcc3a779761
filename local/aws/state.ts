/**
 * The state file: one JSON document, mode 0600, replaced as a whole so that a crash leaves the old
 * one or the new one. Writes in flight at once are joined; nobody is answered before what they
 * changed is on disk.
 */

import { createIdentityState, type IamState, type IdentityState } from "./iam/records.ts";
import type { KmsState } from "./kms/model.ts";
import type { SsmState } from "./ssm/store.ts";

export interface AwsState {
  readonly version: 1;
  readonly identities: IdentityState;
  readonly kms: KmsState;
  /** These are absent from files that an earlier local AWS wrote. */
  readonly iam?: IamState;
  readonly ssm?: SsmState;
}

export class StateFileError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StateFileError";
  }
}

export function createState(): AwsState {
  return {
    version: 1,
    identities: createIdentityState(),
    kms: { families: [], keys: [], aliases: [] },
  };
}

/** Where state goes; the memory one forgets. */
export interface StateKeeper {
  /** To be called after a change. */
  markStale(): void;
  /** Resolves when all changes made before the call are kept. Rejects when they could not be. */
  durable(): Promise<void>;
  close(): Promise<void>;
}

export const memoryKeeper: StateKeeper = {
  markStale() {},
  durable: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

export class StateFile implements StateKeeper {
  readonly #path: string;
  readonly #lock: Deno.FsFile;
  readonly #snapshot: () => AwsState;
  #changes = 0;
  #kept = 0;
  #writing: Promise<void> | null = null;

  private constructor(path: string, lock: Deno.FsFile, snapshot: () => AwsState) {
    this.#path = path;
    this.#lock = lock;
    this.#snapshot = snapshot;
  }

  /**
   * Reads the state, or null for a new file, and keeps others out until `close`.
   * Throws StateFileError when another process holds the file or it cannot be read.
   */
  static async open(path: string): Promise<{
    readonly state: AwsState | null;
    readonly keep: (snapshot: () => AwsState) => StateFile;
    readonly release: () => void;
  }> {
    const folder = path.slice(0, Math.max(path.lastIndexOf("/"), 0));
    if (folder !== "") await Deno.mkdir(folder, { recursive: true });
    const lock = await Deno.open(`${path}.lock`, { create: true, write: true, mode: 0o600 });
    try {
      if (!await lock.tryLock(true)) {
        throw new StateFileError(`${path} is in use by another local AWS.`);
      }
      const state = await readState(path);
      return {
        state,
        keep: (snapshot) => new StateFile(path, lock, snapshot),
        release: () => lock.close(),
      };
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  markStale(): void {
    this.#changes++;
  }

  async durable(): Promise<void> {
    const target = this.#changes;
    while (this.#kept < target) {
      this.#writing ??= this.#write().finally(() => this.#writing = null);
      await this.#writing;
    }
  }

  async close(): Promise<void> {
    try {
      await this.durable();
    } finally {
      this.#lock.close();
    }
  }

  async #write(): Promise<void> {
    const covers = this.#changes;
    const bytes = new TextEncoder().encode(JSON.stringify(this.#snapshot(), null, 1) + "\n");
    const draft = `${this.#path}.draft`;
    // A draft that a crash left behind may carry another mode.
    await Deno.remove(draft).catch(() => {});
    const file = await Deno.open(draft, { createNew: true, write: true, mode: 0o600 });
    try {
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(draft, this.#path);
    await syncFolder(this.#path);
    this.#kept = covers;
  }
}

/** Makes the rename itself durable. */
async function syncFolder(path: string): Promise<void> {
  const slash = path.lastIndexOf("/");
  const folder = await Deno.open(slash < 0 ? "." : path.slice(0, slash) || "/");
  try {
    await folder.sync();
  } catch {
    // Some file systems do not sync folders; the file's own sync has been done.
  } finally {
    folder.close();
  }
}

async function readState(path: string): Promise<AwsState | null> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new StateFileError(`${path} holds no JSON.`, { cause });
  }
  const state = json as Partial<AwsState> | null;
  if (
    state?.version !== 1 || state.identities === undefined || !Array.isArray(state.kms?.keys) ||
    !Array.isArray(state.kms?.families) || !Array.isArray(state.kms?.aliases)
  ) {
    throw new StateFileError(`${path} is no state of this version of the local AWS.`);
  }
  return state as AwsState;
}
