import { assertEquals } from "@std/assert";
import { currentRequestId, withRequestId } from "../../functions-shared/telemetry/request.ts";

Deno.test("work knows its request however requests are interleaved, and none outside of one", async () => {
  const gate = Promise.withResolvers<void>();
  const work = async () => {
    const first = currentRequestId();
    await gate.promise;
    await Promise.resolve();
    return [first, currentRequestId()];
  };
  const both = [withRequestId("one", work), withRequestId("two", work)];
  assertEquals(currentRequestId(), undefined);
  gate.resolve();
  assertEquals(await Promise.all(both), [["one", "one"], ["two", "two"]]);
  assertEquals(currentRequestId(), undefined);
});

Deno.test("what several requests wait for is of the one that began it", async () => {
  const gate = Promise.withResolvers<void>();
  let shared: Promise<string | undefined> | undefined;
  const begin = () => shared ??= gate.promise.then(() => currentRequestId());
  const both = [withRequestId("one", begin), withRequestId("two", begin)];
  gate.resolve();
  assertEquals(await Promise.all(both), ["one", "one"]);
});
