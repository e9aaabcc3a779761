/**
 * Measures messages in this process and writes the result to standard output, as JSON in one line.
 * A program of its own, so that the same code runs on every runtime that is compared.
 *
 *     message_run.ts <plaintext bytes,...> <rounds> <milliseconds a round> [<warm-up rounds>]
 */
import process from "node:process";
import { randomBytes } from "../../functions-shared/message/primitives.ts";
import { interleavedRates, rate } from "./measure.ts";
import { type Contender, limits, ours } from "./message_contenders.ts";

/** Operations a second by contender, round by round. */
export type Rates = Record<string, number[]>;

export interface MessageRun {
  readonly runtime: string;
  readonly sizes: readonly {
    readonly bytes: number;
    readonly encrypt: Rates;
    readonly decrypt: Rates;
  }[];
  /** Peers that do not run here, and what they say. */
  readonly missing: Readonly<Record<string, string>>;
}

const [sizes = "64", rounds = "7", roundMs = "100", warmUp = "10"] = process.argv.slice(2);
const missing: Record<string, string> = {};
// A peer that fails may leave a promise behind that nobody holds. Our own are all awaited.
process.on("unhandledRejection", (error) => {
  if (Object.keys(missing).length === 0) throw error;
});

async function contenders(bytes: number): Promise<Contender[]> {
  const plaintext = randomBytes(bytes);
  const wrappingKey = randomBytes(32);
  const all = [...limits(plaintext), ...await ours(plaintext, wrappingKey)];
  const attempt = async (name: string, make: (peers: Peers) => Promise<Contender[]>) => {
    try {
      all.push(...await make(await import("./message_peers.ts")));
    } catch (error) {
      missing[name] = (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
    }
  };
  await attempt("official SDK", (peers) => peers.officialSdk(plaintext, wrappingKey));
  await attempt("@47ng/cloak", (peers) => Promise.resolve([peers.cloak(plaintext)]));
  return all;
}
type Peers = typeof import("./message_peers.ts");

// Otherwise whatever runs earliest is measured before its compilation.
for (const { encrypt, decrypt } of await contenders(64)) {
  for (let i = 0; i < Number(warmUp); i++) {
    await rate(encrypt, Number(roundMs));
    await rate(decrypt, Number(roundMs));
  }
}

const results = [];
for (const bytes of sizes.split(",").map(Number)) {
  const all = await contenders(bytes);
  const byName = async (operation: "encrypt" | "decrypt"): Promise<Rates> => {
    const rates = await interleavedRates(all.map((one) => one[operation]), {
      rounds: Number(rounds),
      roundMs: Number(roundMs),
    });
    return Object.fromEntries(all.map(({ name }, index) => [name, rates[index]!]));
  };
  results.push({ bytes, encrypt: await byName("encrypt"), decrypt: await byName("decrypt") });
}

const run: MessageRun = {
  runtime: "Deno" in globalThis ? `Deno ${process.versions.deno}` : `Node ${process.versions.node}`,
  sizes: results,
  missing,
};
process.stdout.write(`${JSON.stringify(run)}\n`);
