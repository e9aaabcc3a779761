/** How often KMS is called for 1000 records, in each mode, and what a million of them cost. */
import { BranchKeyCache } from "../../functions-shared/keys/branch-key-cache.ts";
import { BranchKeyStore } from "../../functions-shared/keys/branch-key-store.ts";
import { FieldCipher, type FieldIdentity } from "../../functions-shared/keys/field-cipher.ts";
import { HierarchicalKeyring } from "../../functions-shared/keys/hierarchical-keyring.ts";
import type { Keyring } from "../../functions-shared/keys/keyring.ts";
import { awsProvider, withAws } from "../unit/support/aws.ts";
import { MemoryRecords } from "../unit/support/memory-records.ts";
import type { BenchmarkOptions, BenchmarkResult } from "./benchmark.ts";

const RECORDS = 1000;
/** AWS's price of 10,000 requests, in US dollars. */
const USD_PER_10_000 = 0.03;
const PLAINTEXT = new TextEncoder().encode("4000000000000002");

/** What the functions have unless configured: five minutes, 1000 encryptions. */
const CACHE = { ttlMs: 300_000, maxEncryptions: 1000, maxEntries: 100 } as const;

export async function kmsCalls({ progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const counts: Record<string, number> = {};
  await withAws(async ({ aws }) => {
    const records = new MemoryRecords();
    const kms = () => aws.calls().filter(({ service }) => service === "kms").length;
    const count = async (name: string, work: () => Promise<unknown>) => {
      progress(name);
      const before = kms();
      await work();
      counts[name] = kms() - before;
    };
    const worker = (mode: "hierarchical" | "direct") => {
      const provider = awsProvider(aws);
      const store = new BranchKeyStore({
        ...{ appName: "parker-flight", environment: "development" },
        ...{ records, provider, readers: [provider] },
      });
      const hierarchical = new HierarchicalKeyring({
        store,
        cache: new BranchKeyCache(CACHE),
        scopes: { payment: "class", pii: "class", general: "class" },
      });
      const writer: Keyring = mode === "direct" ? provider : hierarchical;
      return new FieldCipher({
        ...{ appName: "parker-flight", environment: "development" },
        writers: { payment: writer, pii: writer, general: writer },
        readers: [hierarchical, provider],
      });
    };

    for (const mode of ["hierarchical", "direct"] as const) {
      // The branch key is made once in the life of a class: not part of any 1000 records.
      const first = worker(mode);
      await count(`${mode}: very first record`, () => encrypt(first, 1));
      const cold = worker(mode);
      const messages: string[] = [];
      await count(`${mode}: encrypt ${RECORDS}, cold worker`, async () => {
        messages.push(...await encrypt(cold, RECORDS));
      });
      await count(`${mode}: decrypt ${RECORDS}, same worker`, () => decrypt(cold, messages));
      const other = worker(mode);
      await count(`${mode}: decrypt ${RECORDS}, cold worker`, () => decrypt(other, messages));
    }
  });
  const dollars = (calls: number) => calls / RECORDS * 1e6 / 10_000 * USD_PER_10_000;
  const per1000 = (mode: string) => counts[`${mode}: encrypt ${RECORDS}, cold worker`]!;
  return {
    tables: [{
      title: "KMS calls",
      rows: Object.fromEntries(
        Object.entries(counts).map(([name, calls]) => [name, {
          calls,
          "USD per million": name.includes("very first") ? "once" : dollars(calls).toFixed(3),
        }]),
      ),
    }],
    ratios: {
      "kms_calls_per_1000.hierarchical": per1000("hierarchical"),
      "kms_calls_per_1000.direct": per1000("direct"),
    },
    data: { counts, usd_per_10_000_requests: USD_PER_10_000 },
  };
}

function identity(index: number): FieldIdentity {
  return {
    dataClass: "payment",
    owner: `00000000-0000-4000-8000-${String(index % 50).padStart(12, "0")}`,
    table: "payment_methods",
    record: `10000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
    field: "number",
  };
}

async function encrypt(cipher: FieldCipher, count: number): Promise<string[]> {
  const messages: string[] = [];
  for (let i = 0; i < count; i++) {
    messages.push((await cipher.encrypt(identity(i), PLAINTEXT)).message);
  }
  return messages;
}

async function decrypt(cipher: FieldCipher, messages: readonly string[]): Promise<void> {
  for (const [index, message] of messages.entries()) {
    await cipher.decrypt(identity(index), message);
  }
}
