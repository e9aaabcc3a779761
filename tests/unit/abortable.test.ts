import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { abortable } from "../../functions-shared/keys/abortable.ts";
import { codeOf } from "./support/thrown.ts";

Deno.test("work that ends in time ends as it does", async () => {
  const { signal } = new AbortController();
  assertEquals(await abortable(Promise.resolve(1), signal), 1);
  assertEquals(await abortable(Promise.resolve(1), undefined), 1);
  const failure = new Error("its own");
  assertStrictEquals(await abortable(Promise.reject(failure), signal).catch((e) => e), failure);
});

Deno.test("a client that hangs up waits no longer, and what comes late is discarded", async () => {
  const client = new AbortController();
  const late: Uint8Array[] = [];
  let finish = (_key: Uint8Array) => {};
  const work = new Promise<Uint8Array>((resolve) => finish = resolve);
  const waiting = codeOf(() =>
    abortable(work, client.signal, (key) => {
      key.fill(0);
      late.push(key);
    })
  );
  client.abort();
  assertEquals(await waiting, "kms_unavailable");
  finish(new Uint8Array([1, 2, 3]));
  await work;
  await Promise.resolve();
  assertEquals(late, [new Uint8Array(3)]);
});

Deno.test("work that fails late is nobody's unhandled rejection", async () => {
  const client = new AbortController();
  client.abort("gone");
  let fail = (_error: Error) => {};
  const work = new Promise<never>((_, reject) => fail = reject);
  assertEquals(await codeOf(() => abortable(work, client.signal)), "kms_unavailable");
  fail(new Error("late"));
  await assertRejects(() => work, Error, "late");
});
