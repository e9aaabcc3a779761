/** Workers over real HTTP to a local AWS whose faults and clock a test sets, and the calls they made. */
import type { AwsConfig } from "../../functions-shared/config.ts";
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import type {
  AwsKeyProvider,
  AwsProviderOptions,
} from "../../functions-shared/keys/providers/aws/provider.ts";
import type { FaultRule, LocalAws } from "../../local/aws/mod.ts";
import { awsProvider, type SeededAws, WITH_AWS, withAws } from "../unit/support/aws.ts";
import { APP, bytes, IDENTITY, textOf } from "../unit/support/identity.ts";
import { MemoryRecords } from "../unit/support/memory-records.ts";
import { assertEquals } from "@std/assert";

export const [PRIMARY, SECOND, THIRD] = ["us-east-1", "us-west-2", "eu-west-1"] as const;

export interface WorkerOptions extends Partial<AwsProviderOptions> {
  readonly records?: MemoryRecords;
  readonly config?: Partial<AwsConfig>;
  /** Of branch keys in this worker, milliseconds. */
  readonly ttlMs?: number;
}

/** One isolate's worth of the suite. `direct` asks KMS for every message. */
export function worker(aws: LocalAws, options: WorkerOptions = {}) {
  const { records = new MemoryRecords(), config, ttlMs = 60_000, ...provided } = options;
  const provider = awsProvider(aws, config, { attemptTimeoutMs: 250, ...provided });
  const now = options.now ?? Date.now;
  const cache = new BranchKeyCache({ ttlMs, maxEncryptions: 1000, maxEntries: 10, now });
  const store = new BranchKeyStore({ ...APP, records, provider, readers: [provider], now });
  const hierarchical = new HierarchicalKeyring({
    store,
    cache,
    scopes: { payment: "class", pii: "class", general: "class" },
  });
  const cipher = (keyring: AwsKeyProvider | HierarchicalKeyring) => {
    const fields = new FieldCipher({
      ...APP,
      writers: { payment: keyring, pii: keyring, general: keyring },
      readers: [hierarchical, provider],
    });
    const encrypt = async (text = "4242", signal?: AbortSignal) =>
      (await fields.encrypt(IDENTITY, bytes(text), signal)).message;
    const decrypt = async (message: string, signal?: AbortSignal) =>
      textOf(await fields.decrypt(IDENTITY, message, signal));
    return {
      encrypt,
      decrypt,
      /** There and back. */
      async roundTrip(text = "4242") {
        assertEquals(await decrypt(await encrypt(text)), text);
      },
    };
  };
  return { provider, store, records, direct: cipher(provider), ...cipher(hierarchical) };
}

/** A clock for breakers, sessions and caches that moves when told to. */
export class Clock {
  #now = Date.now();
  readonly now = () => this.#now;
  advance(ms: number): void {
    this.#now += ms;
  }
}

/** Calls since the last reset as `region operation`, with the error or fault that befell them; counted. */
export function counts(aws: LocalAws): Record<string, number> {
  const counted: Record<string, number> = {};
  for (const { region, operation, errorName, fault, status } of aws.calls()) {
    const fate = errorName ?? (status === 0 || status >= 500 ? fault : undefined);
    const name = [region, operation, ...fate === undefined ? [] : [fate]].join(" ");
    counted[name] = (counted[name] ?? 0) + 1;
  }
  return counted;
}

/** How many calls went to a region since the last reset. */
export function callsIn(aws: LocalAws, region: string): number {
  return aws.calls().filter((call) => call.region === region).length;
}

/** Every service of a region fails in one way. */
export function dead(
  region: string,
  effect: FaultRule["effect"] = { kind: "refuse" },
): readonly FaultRule[] {
  return [{ region, effect }];
}

/** Lets probes that go out in the background end. */
export async function settled(provider: AwsKeyProvider): Promise<void> {
  const probing = () =>
    Object.values(provider.regions()).some(({ state }) => state === "HALF_OPEN");
  do await new Promise((resolve) => setTimeout(resolve, 20)); while (probing());
}

export function test(name: string, run: (seeded: SeededAws) => Promise<void>): void {
  Deno.test({ name, ...WITH_AWS, fn: () => withAws(run) });
}
