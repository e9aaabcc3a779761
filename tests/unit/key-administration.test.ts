import { assertEquals } from "@std/assert";
import { KeyAdministration } from "../../functions-shared/admin/keys.ts";
import type { KeyAdminStore, Retirement } from "../../functions-shared/admin/key-store.ts";
import { type ErrorCode, SuiteError } from "../../functions-shared/errors.ts";
import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { bytes, IDENTITY } from "./support/identity.ts";
import { ACTOR } from "./support/memory-records.ts";
import { codeOf, suiteError, violationsOf } from "./support/thrown.ts";

const VERSION = "0b9bd1a5-4444-4444-8444-444444444444";

/** What becomes of each branch key: its rotation, a lost race, or an error. */
type Fate = "rotated" | "lost" | ErrorCode;

function setting(fates: Readonly<Record<string, Fate>> = {}) {
  const state = {
    asked: [] as string[],
    ended: [] as unknown[],
    noted: [] as unknown[],
    auditFails: false,
    token: "token" as string | undefined,
    retirement: { outcome: "retired", rows: 0 } as Retirement,
  };
  const store: KeyAdminStore = {
    branchKey: () => Promise.resolve(undefined),
    rotationFailed: (_actor, dataClass, id, error) => {
      if (state.auditFails) return Promise.reject(new SuiteError("database_unavailable"));
      state.noted.push([dataClass, id, error]);
      return Promise.resolve();
    },
    retire: () => Promise.resolve(state.retirement),
    beginRotation: () => Promise.resolve(state.token),
    endRotation: (_actor, dataClass, token, _keyId, error) => {
      state.ended.push([dataClass, token, error]);
      return Promise.resolve();
    },
  };
  const provider = new EnvKeyProvider(bytes("x".repeat(32)));
  const branchKeys = {
    rotate: (_actor: unknown, id: string) => {
      state.asked.push(id);
      const fate = fates[id] ?? "not_found";
      if (fate !== "rotated" && fate !== "lost") return Promise.reject(new SuiteError(fate));
      return Promise.resolve({ rotated: fate === "rotated", version: VERSION });
    },
  };
  return { state, provider, keys: new KeyAdministration({ provider, branchKeys, store }) };
}

const rotated = (id: string, dataClass = id) => ({
  data_class: dataClass,
  branch_key_id: id,
  version: VERSION,
});

Deno.test("every class's branch key is rotated in one order, those that exist", async () => {
  const { state, keys } = setting({ payment: "rotated", general: "rotated" });
  const done = await keys.rotateBranchKeys(ACTOR, undefined, undefined);
  assertEquals(done as unknown, {
    rotated: [rotated("payment"), rotated("general")],
    failed: [],
  });
  assertEquals(state.asked, ["payment", "pii", "general"]);
});

Deno.test("who loses the first race is told, and rotates nothing", async () => {
  const { state, keys } = setting({ payment: "lost", pii: "rotated", general: "rotated" });
  const rotate = () => keys.rotateBranchKeys(ACTOR, undefined, undefined);
  assertEquals(await codeOf(rotate), "rotation_conflict");
  assertEquals(state.asked, ["payment"]);
});

Deno.test("what was rotated is told even when a later one fails", async () => {
  const { state, keys } = setting({ payment: "rotated", pii: "kms_unavailable", general: "lost" });
  const { rotated: done, failed } = await keys.rotateBranchKeys(ACTOR, undefined, undefined);
  assertEquals(done as unknown, [rotated("payment")]);
  assertEquals(failed.map(({ branch_key_id, code }) => [branch_key_id, code]), [
    ["pii", "kms_unavailable"],
    ["general", "rotation_conflict"],
  ]);
  // The database notes lost races itself.
  assertEquals(state.noted, [["pii", "pii", "kms_unavailable"]]);
});

Deno.test("a failure that cannot be noted is still the one that is told", async () => {
  const { state, keys } = setting({ payment: "kms_unavailable" });
  state.auditFails = true;
  const error = await suiteError(() => keys.rotateBranchKeys(ACTOR, "payment", undefined));
  assertEquals([error.code, (error.cause as Error).name], ["kms_unavailable", "UnauditedError"]);
  const later = setting({ payment: "rotated", pii: "kms_unavailable" });
  later.state.auditFails = true;
  const { failed } = await later.keys.rotateBranchKeys(ACTOR, undefined, undefined);
  assertEquals(failed.map(({ code }) => code), ["kms_unavailable"]);
});

Deno.test("an owner's branch keys alone, and none is no success", async () => {
  const id = `pii:${IDENTITY.owner}`;
  const { state, keys } = setting({ [id]: "rotated", pii: "rotated" });
  const { rotated: done } = await keys.rotateBranchKeys(ACTOR, "pii", IDENTITY.owner);
  assertEquals([done as unknown, state.asked], [[rotated(id, "pii")], [id]]);
  const nobody = () => keys.rotateBranchKeys(ACTOR, undefined, IDENTITY.record);
  assertEquals(await codeOf(nobody), "not_found");
});

Deno.test("a wrapping key: confirmed first, one caller at a time, and ended whatever comes", async () => {
  const { state, provider, keys } = setting();
  const keyId = await provider.wrappingKeyId("pii");
  const rotate = (confirmed: string) => keys.rotateWrappingKey(ACTOR, "pii", confirmed);
  assertEquals(await violationsOf(() => rotate("env:pii")), ["/confirm confirmation_mismatch"]);
  assertEquals(await codeOf(() => rotate(keyId)), "rotation_not_supported");
  assertEquals(state.ended, [["pii", "token", "rotation_not_supported"]]);
  provider.rotateNow = () => Promise.reject(new TypeError("a bug"));
  assertEquals(await codeOf(() => rotate(keyId)), "internal_error");
  assertEquals(state.ended.length, 2);
  state.token = undefined;
  assertEquals(await codeOf(() => rotate(keyId)), "rotation_conflict");
  assertEquals(state.ended.length, 2);
});

Deno.test("a retirement that is refused says why", async () => {
  const { state, keys } = setting();
  const retire = () => keys.retire(ACTOR, "pii", VERSION);
  await retire();
  state.retirement = { outcome: "in_use", rows: 7 };
  assertEquals(await violationsOf(retire), ["/version in_use"]);
  state.retirement = { outcome: "active", rows: 7 };
  assertEquals([await codeOf(retire), await violationsOf(retire)], [
    "branch_key_in_use",
    ["/version active"],
  ] as never);
  state.retirement = { outcome: "not_found", rows: 0 };
  assertEquals(await codeOf(retire), "not_found");
});
