/** Tries a configuration's keys before anything depends on them, and on what was written before. */
import { DATA_CLASSES, type DataClass } from "../data-class.ts";
import { type ErrorCode, SuiteError } from "../errors.ts";
import { abortable } from "../keys/abortable.ts";
import {
  type BranchKeyRecord,
  type BranchKeyRecords,
  BranchKeyStore,
} from "../keys/branch-key-store.ts";
import { FieldCipher } from "../keys/field-cipher.ts";
import type { KeyProvider } from "../keys/key-provider.ts";
import { decodeMessage, HIERARCHY_PROVIDER_ID, parseMessage } from "../message/mod.ts";

/** What a configuration makes of itself. */
export interface CandidateKeys {
  readonly appName: string;
  readonly environment: string;
  /** Wraps new keys. */
  readonly provider: KeyProvider;
  /** Read what they wrapped before. */
  readonly providers: readonly KeyProvider[];
}

export type ClassReport =
  | { readonly healthy: true; readonly key_id: string; readonly response_time_ms: number }
  | { readonly healthy: false; readonly error: ErrorCode };

/** One thing wrapped under each wrapping key in use. */
export interface KeysInUse {
  /** Each a record; while keys move between providers also its copy, which serves as well. */
  readonly branch_keys: readonly (readonly BranchKeyRecord[])[];
  readonly messages: readonly string[];
}

const NOBODY = "00000000-0000-0000-0000-000000000000";

/** Under every class a message there and back, and a branch key made, wrapped and unwrapped. */
export async function tryKeys(
  keys: CandidateKeys,
  signal: AbortSignal,
  now: () => number = Date.now,
): Promise<Readonly<Record<DataClass, ClassReport>>> {
  const reports = await Promise.all(DATA_CLASSES.map(async (dataClass) => {
    const started = now();
    const found = await outcome(() => abortable(tryClass(keys, dataClass, signal), signal));
    const report: ClassReport = "error" in found
      ? { healthy: false, error: found.error }
      : { healthy: true, key_id: found.value, response_time_ms: Math.round(now() - started) };
    return [dataClass, report] as const;
  }));
  return Object.fromEntries(reports) as Record<DataClass, ClassReport>;
}

async function tryClass(
  keys: CandidateKeys,
  dataClass: DataClass,
  signal: AbortSignal,
): Promise<string> {
  const probe = crypto.getRandomValues(new Uint8Array(32));
  const { message, keyId } = await encryptProbe(keys, dataClass, probe, signal);
  const back = await directCipher(keys).decrypt(probeOf(dataClass), message, signal);
  if (back.length !== probe.length || back.some((byte, index) => byte !== probe[index])) {
    throw new SuiteError("decryption_failed");
  }
  await makeBranchKey(keys, dataClass, signal);
  return keyId;
}

/**
 * Under every class a message and a branch key as `keys` wrap them now, kept nowhere. What they cannot wrap
 * is missing: nobody else can under the same configuration.
 */
export async function wrapSamples(keys: CandidateKeys, signal: AbortSignal): Promise<KeysInUse> {
  const samples = await Promise.all(DATA_CLASSES.map(async (dataClass) => {
    const [message, record] = await Promise.all([
      outcome(() => abortable(encryptProbe(keys, dataClass, new Uint8Array(32), signal), signal)),
      outcome(() => abortable(makeBranchKey(keys, dataClass, signal), signal)),
    ]);
    return { message, record };
  }));
  return {
    branch_keys: samples.flatMap(({ record }) => "error" in record ? [] : [[record.value]]),
    messages: samples.flatMap(({ message }) => "error" in message ? [] : [message.value.message]),
  };
}

const probeOf = (dataClass: DataClass) => ({
  dataClass,
  owner: NOBODY,
  table: "health_canaries",
  record: dataClass,
  field: "probe",
} as const);

function directCipher(keys: CandidateKeys): FieldCipher {
  const { provider } = keys;
  return new FieldCipher({
    ...keys,
    writers: { payment: provider, pii: provider, general: provider },
    readers: [provider],
  });
}

function encryptProbe(
  keys: CandidateKeys,
  dataClass: DataClass,
  plaintext: Uint8Array,
  signal: AbortSignal,
) {
  return directCipher(keys).encrypt(probeOf(dataClass), plaintext, signal);
}

/** With the permissions and the contexts of real ones; answers its active record. */
async function makeBranchKey(
  keys: CandidateKeys,
  dataClass: DataClass,
  signal: AbortSignal,
): Promise<BranchKeyRecord> {
  let made: BranchKeyRecord | undefined;
  const store = branchKeys(keys, [keys.provider], [], (active) => made = active);
  (await store.active(dataClass, dataClass, signal)).branchKey.fill(0);
  if (made === undefined) throw new SuiteError("internal_error");
  return made;
}

/**
 * What `candidate` could no longer open of all that `present` can, by the name of who wrapped it. What
 * is lost already is not held against it.
 */
export async function lockedOut(
  inUse: KeysInUse,
  candidate: CandidateKeys,
  present: CandidateKeys,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const samples = [
    ...inUse.branch_keys.map((records) => ({
      by: nameOf(present, (one) => one.holds(records[0]?.["kms-arn"] ?? "")),
      open: (keys: CandidateKeys) => openRecord(keys, records, signal),
    })),
    ...inUse.messages.map((message) => ({
      by: "direct messages",
      open: (keys: CandidateKeys) => openMessage(keys, message, signal),
    })),
  ];
  const lost = await Promise.all(samples.map(async ({ by, open }) => {
    const after = await outcome(() => abortable(open(candidate), signal));
    if (!("error" in after)) return undefined;
    const before = await outcome(() => abortable(open(present), signal));
    if (!("error" in before)) return by;
    // A key service that is down may come back, but not to who does not know it any more.
    return before.error === "kms_unavailable" && after.error !== "kms_unavailable" ? by : undefined;
  }));
  return [...new Set(lost.filter((by) => by !== undefined))];
}

function nameOf(keys: CandidateKeys, which: (one: KeyProvider) => boolean): string {
  return keys.providers.find(which)?.name ?? "an unknown provider";
}

async function openRecord(
  keys: CandidateKeys,
  records: readonly BranchKeyRecord[],
  signal: AbortSignal,
): Promise<void> {
  const { "branch-key-id": id = "", "aws-crypto-ec:data-class": named, type = "" } = records[0] ??
    {};
  const dataClass = DATA_CLASSES.find((one) => one === named);
  if (dataClass === undefined) throw new SuiteError("decryption_failed");
  const store = branchKeys(keys, keys.providers, records);
  if (type === "beacon:ACTIVE") (await store.beacon(id, dataClass, signal)).fill(0);
  else {
    const { branchKey } = type === "branch:ACTIVE"
      ? await store.active(id, dataClass, signal)
      : await store.version(id, type.replace("branch:version:", ""), dataClass, signal);
    branchKey.fill(0);
  }
}

/** Its data key only: an administrator's test is no reason to see plaintext. */
async function openMessage(
  keys: CandidateKeys,
  message: string,
  signal: AbortSignal,
): Promise<void> {
  const { encryptedDataKeys, encryptionContext } = parse(message);
  let failure = new SuiteError("decryption_failed");
  for (const encrypted of encryptedDataKeys) {
    // Its branch key is another sample.
    if (encrypted.providerId === HIERARCHY_PROVIDER_ID) return;
    const reader = keys.providers.find((one) => one.recognises(encrypted));
    if (reader === undefined) continue;
    const found = await outcome(() => reader.decryptDataKey(encrypted, encryptionContext, signal));
    if (!("error" in found)) return void found.value.fill(0);
    failure = new SuiteError(found.error);
  }
  throw failure;
}

function parse(message: string) {
  try {
    return parseMessage(decodeMessage(message)).header;
  } catch (cause) {
    throw new SuiteError("decryption_failed", { cause });
  }
}

/** A store that has one record and its copy, or none and makes its own. */
function branchKeys(
  keys: CandidateKeys,
  readers: readonly KeyProvider[],
  stored: readonly BranchKeyRecord[],
  onCreate: (active: BranchKeyRecord) => void = () => {},
): BranchKeyStore {
  const records: BranchKeyRecords = {
    get: () => Promise.resolve(stored),
    create: (made) => {
      const of = (type: string) => made.find((one) => one.type === type) ?? {};
      const active = of("branch:ACTIVE");
      onCreate(active);
      return Promise.resolve({ active, beacon: of("beacon:ACTIVE") });
    },
    rotate: () => Promise.reject(new SuiteError("internal_error")),
  };
  return new BranchKeyStore({ ...keys, records, readers });
}

async function outcome<T>(
  work: () => Promise<T>,
): Promise<{ readonly value: T } | { readonly error: ErrorCode }> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: error instanceof SuiteError ? error.code : "internal_error" };
  }
}
