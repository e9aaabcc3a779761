import { assertEquals } from "@std/assert";
import { Upkeep } from "../../functions-shared/health/upkeep.ts";

function setting(work: () => Promise<number>) {
  const [told, kicked]: [unknown[], Promise<unknown>[]] = [[], []];
  let [now, worked] = [0, 0];
  const upkeep = new Upkeep({
    work: () => (worked++, work()),
    everyMs: 5000,
    background: (one) => kicked.push(one),
    told: (outcome) => told.push(outcome),
    now: () => now,
  });
  return {
    told,
    dueAt: async (ms: number) => {
      now = ms;
      upkeep.due();
      await Promise.all(kicked);
      return worked;
    },
  };
}

Deno.test("Upkeep works when it is due, and not again before its time", async () => {
  const { dueAt, told } = setting(() => Promise.resolve(2));
  assertEquals([await dueAt(0), await dueAt(1), await dueAt(4999)], [1, 1, 1]);
  assertEquals([await dueAt(5000), await dueAt(9999)], [2, 2]);
  assertEquals(told, [{ count: 2 }, { count: 2 }]);
});

Deno.test("Upkeep says nothing when there was nothing to do", async () => {
  const { dueAt, told } = setting(() => Promise.resolve(0));
  assertEquals([await dueAt(0), told], [1, []]);
});

Deno.test("Upkeep tells of a failure, rejects nothing, and tries again when it is due", async () => {
  const error = new Error("down");
  const { dueAt, told } = setting(() => Promise.reject(error));
  assertEquals([await dueAt(0), await dueAt(1), await dueAt(5000)], [1, 1, 2]);
  assertEquals(told, [{ error }, { error }]);
});
