import { assertEquals } from "@std/assert";
import { withRequestId } from "../../functions-shared/telemetry/request.ts";
import { branchKeyRecords } from "../../functions-shared/database/key-stores.ts";
import type { Rpc } from "../../functions-shared/database/rpc.ts";
import type { DeadRegion } from "../../functions-shared/keys/key-provider.ts";

/** Records over a database that answers these epochs in turn. */
function setting(
  epochs: readonly number[],
  dead: readonly { region: string; for_ms: number }[] = [],
) {
  const state = { rotations: 0, learnt: [] as (readonly DeadRegion[])[], asked: [] as unknown[] };
  let answered = 0;
  const rpc = ((name: string, args: unknown) => {
    state.asked.push([name, args]);
    const epoch = epochs[answered++] ?? 0;
    return Promise.resolve({ record: null, epoch, dead_regions: dead });
  }) as Rpc;
  const records = branchKeyRecords(rpc, {
    onRotation: () => state.rotations++,
    onDeadRegions: (regions) => state.learnt.push(regions),
  }, () => 1000);
  return { state, records, read: () => records.get("payment", "branch:ACTIVE") };
}

Deno.test("a branch key is made for the request that first needed it, if there is one", async () => {
  const { state, records } = setting([]);
  const record = { "branch-key-id": "payment" };
  const request = "0b9bd1a5-1111-4111-8111-111111111111";
  await withRequestId(request, () => records.create([record]));
  await records.create([record]);
  const p_records = JSON.stringify([record]);
  assertEquals(state.asked, [
    ["kms_branch_key_create", { p_records, p_request_id: request }],
    ["kms_branch_key_create", { p_records, p_request_id: null }],
  ]);
});

Deno.test("the first epoch is no news, a higher one is, once", async () => {
  const { state, read } = setting([7, 7, 8, 8]);
  const seen: number[] = [];
  for (let reads = 0; reads < 4; reads++) {
    assertEquals(await read(), []);
    seen.push(state.rotations);
  }
  assertEquals(seen, [0, 0, 1, 1]);
  assertEquals(state.asked[0], ["kms_branch_key_get", {
    p_branch_key_id: "payment",
    p_type: "branch:ACTIVE",
  }]);
});

Deno.test("an answer that was overtaken by a newer one is no news", async () => {
  const { state, read } = setting([7, 9, 8, 9, 8, 9]);
  for (let reads = 0; reads < 6; reads++) await read();
  assertEquals(state.rotations, 1);
});

Deno.test("dead regions come with every read, and their time runs by this worker's clock", async () => {
  const dead = [{ region: "us-east-1", for_ms: 5 }];
  const { state, read } = setting([1, 1], dead);
  await read();
  await read();
  const learnt = [{ region: "us-east-1", until: 1005 }];
  assertEquals(state.learnt, [learnt, learnt]);
});
