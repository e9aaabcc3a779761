import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  BranchKeyCache,
  type BranchKeyCacheOptions,
} from "../../functions-shared/keys/branch-key-cache.ts";
import type { UnwrappedBranchKey } from "../../functions-shared/keys/branch-key-store.ts";

/** A cache on a clock that is set by hand, and a source of keys that remembers all it gave out. */
function setting(options: Partial<BranchKeyCacheOptions> = {}) {
  const state = { now: 1_000_000, fetches: 0, hits: 0, misses: 0, fail: undefined as unknown };
  const given: UnwrappedBranchKey[] = [];
  /** Fetches that wait for `release`. */
  const held: (() => void)[] = [];
  let holding = false;
  const cache = new BranchKeyCache({
    ttlMs: 300_000,
    maxEncryptions: 1000,
    maxEntries: 10,
    ...options,
    now: () => state.now,
    onHit: () => state.hits++,
    onMiss: () => state.misses++,
  });
  const fetch = async (): Promise<UnwrappedBranchKey> => {
    state.fetches++;
    await (holding ? new Promise<void>((resolve) => held.push(resolve)) : Promise.resolve());
    if (state.fail !== undefined) throw state.fail;
    const key = {
      branchKey: new Uint8Array(32).fill(given.length + 1),
      branchKeyId: "id",
      version: crypto.randomUUID(),
      wrappingKeyId: "arn",
    };
    given.push(key);
    return key;
  };
  /** The first byte of the key that served: 1 for the first one fetched. */
  const first = ({ branchKey }: UnwrappedBranchKey) => branchKey[0] ?? -1;
  const lend = (id = "a", purpose: "encrypt" | "decrypt" = "encrypt") =>
    cache.lend(id, purpose, fetch, first);
  const hold = () => {
    holding = true;
  };
  const release = () => {
    holding = false;
    for (const resolve of held.splice(0)) resolve();
  };
  const isZero = (index: number) => given[index]?.branchKey.every((byte) => byte === 0);
  return { state, given, cache, lend, fetch, hold, release, isZero };
}

const range = (length: number) => Array.from({ length }, (_, index) => index);

Deno.test("a key serves until its age, and is zeroed and fetched again then", async () => {
  const { state, lend, isZero } = setting();
  assertEquals(await lend(), 1);
  state.now += 299_999;
  assertEquals(await lend(), 1);
  assert(!isZero(0));
  state.now += 1;
  assertEquals(await lend(), 2);
  assert(isZero(0));
  assertEquals([state.fetches, state.hits, state.misses], [2, 1, 2]);
});

Deno.test("a clock that is set back ends a key's life as well", async () => {
  const { state, lend } = setting();
  await lend();
  state.now -= 1;
  assertEquals(await lend(), 2);
});

Deno.test("a key that nobody asks for any more is zeroed at the next miss", async () => {
  const { state, lend, isZero } = setting();
  await lend("a");
  state.now += 300_000;
  await lend("b");
  assert(isZero(0));
});

Deno.test("exactly so many encryptions one after the other", async () => {
  const { state, lend } = setting({ maxEncryptions: 3 });
  const served: number[] = [];
  for (const _ of range(10)) served.push(await lend());
  assertEquals(served, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
  assertEquals(state.fetches, 4);
});

for (
  const [callers, maxEncryptions] of [[5000, 1000], [5001, 1000], [7, 1], [1000, 1000]] as const
) {
  Deno.test(`uses are exact under ${callers} concurrent callers, ${maxEncryptions} a key`, async () => {
    const { state, lend } = setting({ maxEncryptions });
    const served = await Promise.all(range(callers).map(() => lend()));
    const uses = new Map<number, number>();
    for (const key of served) uses.set(key, (uses.get(key) ?? 0) + 1);
    assertEquals(uses.get(0), undefined, "nobody was served a zeroed key");
    assertEquals(state.fetches, Math.ceil(callers / maxEncryptions));
    const counts = [...uses.values()];
    assertEquals(counts.reduce((sum, count) => sum + count), callers);
    assert(counts.every((count) => count <= maxEncryptions), counts.join());
  });
}

Deno.test("decryptions are not counted", async () => {
  const { state, lend } = setting({ maxEncryptions: 1 });
  await Promise.all(range(100).map(() => lend("a", "decrypt")));
  for (const _ of range(100)) assertEquals(await lend("a", "decrypt"), 1);
  assertEquals(state.fetches, 1);
});

Deno.test("one fetch serves all who wait, and each key its own", async () => {
  const { state, lend, hold, release } = setting();
  hold();
  const waiting = range(50).map((index) => lend(index % 2 ? "a" : "b"));
  await Promise.resolve();
  release();
  assertEquals(new Set(await Promise.all(waiting)).size, 2);
  assertEquals(state.fetches, 2);
});

Deno.test("a failed fetch fails all who wait, is not kept, and does not touch a good key", async () => {
  const { state, lend } = setting();
  state.fail = new Error("no key");
  const waiting = await Promise.allSettled(range(20).map(() => lend()));
  assertEquals(new Set(waiting.map((one) => one.status)), new Set(["rejected"]));
  assertEquals(state.fetches, 1);
  await assertRejects(() => lend(), Error, "no key");
  assertEquals(state.fetches, 2);
  state.fail = undefined;
  assertEquals(await lend(), 1);
  state.fail = new Error("no key");
  assertEquals(await lend(), 1);
  assertEquals(state.fetches, 3);
});

Deno.test("a fetch that throws at once is a failed one too", async () => {
  const { cache, lend } = setting();
  const broken = () => {
    throw new Error("at once");
  };
  for (const _ of range(2)) {
    await assertRejects(() => cache.lend("a", "encrypt", broken, () => 0), Error, "at once");
  }
  assertEquals(await lend(), 1);
});

Deno.test("who fails to use a key fails alone", async () => {
  const { cache, fetch, lend } = setting();
  const bad = cache.lend("a", "encrypt", fetch, () => {
    throw new Error("mine");
  });
  const good = lend();
  await assertRejects(() => bad, Error, "mine");
  assertEquals(await good, 1);
});

Deno.test("the least recently used key leaves, zeroed", async () => {
  const { lend, isZero, state } = setting({ maxEntries: 2 });
  await lend("a");
  await lend("b");
  await lend("a");
  await lend("c");
  assertEquals([isZero(0), isZero(1), isZero(2)], [false, true, false]);
  assertEquals(await lend("a"), 1);
  assertEquals(await lend("b"), 4);
  assertEquals(state.fetches, 4);
});

Deno.test("more keys at once than there is room for: one fetch each, and nobody starves", async () => {
  const { lend, state, isZero } = setting({ maxEntries: 1 });
  const served = await Promise.all(range(100).map((index) => lend(`id ${index % 50}`)));
  assertEquals(new Set(served).size, 50);
  assert(!served.includes(0));
  assertEquals(state.fetches, 50);
  assertEquals(range(50).filter((index) => !isZero(index)).length, 1);
});

Deno.test("a time of nothing: every use fetches its own key, which is zeroed after it", async () => {
  const { lend, state, isZero, cache, fetch } = setting({ ttlMs: 0 });
  assertEquals(await Promise.all([lend(), lend(), lend("a", "decrypt")]), [1, 2, 3]);
  await assertRejects(() =>
    cache.lend("a", "encrypt", fetch, () => {
      throw new Error("mine");
    }), Error);
  assertEquals(state.fetches, 4);
  assertEquals(range(4).map(isZero), [true, true, true, true]);
});

Deno.test("clearing zeroes all keys at once", async () => {
  const { cache, lend, isZero } = setting();
  await lend("a");
  await lend("b");
  cache.clear();
  assert(isZero(0) && isZero(1));
  assertEquals(await lend("a"), 3);
});

Deno.test("what was under way when the cache was cleared serves who waited, and is not kept", async () => {
  const { cache, lend, hold, release, state, isZero } = setting();
  hold();
  const before = [lend(), lend()];
  await Promise.resolve();
  cache.clear();
  const after = [lend(), lend()];
  await Promise.resolve();
  assertEquals(state.fetches, 2, "newcomers do not wait for the old fetch");
  release();
  assertEquals(await Promise.all(before), [1, 1]);
  assertEquals(await Promise.all(after), [2, 2]);
  assert(isZero(0) && !isZero(1));
  assertEquals(await lend(), 2);
  assertEquals(state.fetches, 2);
});

Deno.test("a fetch that brings the news of a rotation itself ends, and costs one more", async () => {
  const { cache, fetch, state } = setting();
  const withNews = async () => {
    if (state.fetches === 0) cache.clear();
    return await fetch();
  };
  const use = ({ branchKey }: UnwrappedBranchKey) => branchKey[0];
  assertEquals(await cache.lend("a", "encrypt", withNews, use), 1);
  assertEquals(await cache.lend("a", "encrypt", withNews, use), 2);
  assertEquals(await cache.lend("a", "encrypt", withNews, use), 2);
  assertEquals(state.fetches, 2);
});

Deno.test("an old fetch that fails after a clearing does not disturb the new one", async () => {
  const { cache, lend } = setting();
  let failOld = () => {};
  const old = cache.lend(
    "a",
    "encrypt",
    () => new Promise((_, reject) => failOld = () => reject(new Error("old"))),
    () => 0,
  );
  await Promise.resolve();
  cache.clear();
  const fresh = [lend(), lend()];
  failOld();
  await assertRejects(() => old, Error, "old");
  assertEquals(await Promise.all(fresh), [1, 1]);
  assertEquals(await lend(), 1);
});

Deno.test("a cache that was retired serves whoever still asks, and keeps nothing", async () => {
  const { cache, lend, hold, release, isZero } = setting();
  await lend();
  hold();
  const waiting = lend("b");
  await Promise.resolve();
  cache.retire();
  assert(isZero(0));
  const late = lend("b");
  await Promise.resolve();
  release();
  assertEquals(await Promise.all([waiting, late]), [2, 3]);
  assert(isZero(1) && isZero(2));
  assertEquals(await lend("b"), 4);
  assert(isZero(3));
});
