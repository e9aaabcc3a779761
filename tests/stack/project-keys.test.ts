import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Identity, newSecretKey } from "../../local/identity.ts";
import { ProjectKeys } from "../../local/project-keys.ts";

const name = ({ secretKeys }: Identity) => secretKeys.map(({ name }) => name);
const adds = (added: string) => (now: Identity): Identity => ({
  ...now,
  secretKeys: [...now.secretKeys, newSecretKey(added, null)],
});

/** Keys that keep on `disk`, and followers that write down what they are told. */
function setting() {
  const identity = {
    publishableKey: "sb_publishable_x",
    secretKeys: [newSecretKey("default", null)],
  } as unknown as Identity;
  const state = { disk: identity, told: [] as string[] };
  const keys = new ProjectKeys(identity, (next) => {
    state.disk = next;
    return Promise.resolve();
  });
  return { state, keys };
}

for (
  const [moment, fail] of [
    ["before", { before: () => Promise.reject(new Error("no")) }],
    ["after", { after: () => Promise.reject(new Error("no")) }],
    ["at once", {
      before: () => {
        throw new Error("no");
      },
    }],
  ] as const
) {
  Deno.test(`project keys: disk and memory agree when a follower fails ${moment}`, async () => {
    const { state, keys } = setting();
    keys.follow(fail);
    keys.follow({
      before: (next) => Promise.resolve(void state.told.push(`before ${name(next).at(-1)}`)),
      after: () => Promise.resolve(void state.told.push("after")),
    });
    const error = await assertRejects(() => keys.change(adds("first")), AggregateError);
    assertEquals(error.errors.map((one) => one.message), ["no"]);
    assertEquals(name(keys.identity), ["default", "first"]);
    assertEquals(state.disk, keys.identity);
    assertEquals(state.told, ["before first", "after"], "nobody else goes without");

    await assertRejects(() => keys.change(adds("second")), AggregateError);
    assertEquals(name(state.disk), ["default", "first", "second"], "nothing is lost");
    assertEquals(keys.kindOf(state.disk.secretKeys[1]?.key ?? ""), "secret");
  });
}

Deno.test("project keys: what cannot be kept is not changed, and nobody is told", async () => {
  const { state } = setting();
  const keys = new ProjectKeys(state.disk, () => Promise.reject(new Error("disk full")));
  keys.follow({ before: () => Promise.resolve(void state.told.push("before")) });
  await assertRejects(() => keys.change(adds("first")), Error, "disk full");
  assertEquals([name(keys.identity), state.told], [["default"], []]);
  assert(!name(state.disk).includes("first"));
});
