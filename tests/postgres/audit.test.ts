/** The audit trail while many write it, somebody verifies it and somebody prunes it. */

import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import { rpc, STORE_ACTOR } from "./rpc.ts";
import { migrations } from "./schema.ts";

const DAYS = ["2024-01-01", "2024-01-02", "2024-01-05"];
const PER_DAY = 600;
const APPENDERS = 6;

interface Page {
  readonly entries: number;
  readonly fault_count: number;
  readonly faults: readonly unknown[];
  readonly next: string | null;
}
interface Anchors {
  readonly anchors: readonly Record<string, unknown>[];
}

Deno.test("the audit trail under load", async (t) => {
  const cluster = await startCluster();
  const database = await createHostedDatabase(cluster, "audited", HOSTED_OWNER);
  const admin = postgres(database.adminUrl, { max: 1, onnotice: () => {} });
  const service = postgres(database.ownerUrl, {
    max: APPENDERS + 4,
    onnotice: () => {},
    connection: { role: "service_role" },
  });
  const page = async (after: string | null, limit: number): Promise<Page> => {
    const answer = await rpc<Page>(service, "kms_audit_verify_page", [
      null,
      null,
      after,
      `${limit}`,
    ]);
    assert(answer);
    return answer;
  };
  /** All pages from a position on; the faults of all. */
  const verify = async (limit: number, from: string | null = null) => {
    const faults: unknown[] = [];
    let [entries, after] = [0, from];
    do {
      const { next, ...found } = await page(after, limit);
      faults.push(...found.faults);
      entries += found.entries;
      after = next;
    } while (after !== null);
    return { entries, faults };
  };
  const prune = async (day: string) => {
    const found = await rpc<Anchors>(service, "kms_audit_anchors", [day, day, "1", "false"]);
    const [anchor] = found?.anchors ?? [];
    if (anchor === undefined || anchor.pruned === true) return false;
    const { finished: _, pruned: __, ...kept } = anchor;
    const signed = { ...kept, signed_at: "2026-11-25T00:00:00.000Z", signature: "a".repeat(64) };
    const answer = await rpc<{ pruned: boolean }>(service, "kms_audit_prune", [
      STORE_ACTOR,
      JSON.stringify(signed),
    ]);
    return answer?.pruned;
  };
  const append = () =>
    rpc(service, "kms_audit_append", [
      STORE_ACTOR,
      JSON.stringify([{ action: "test.append", outcome: "success" }]),
    ]);

  try {
    for (const { sql } of migrations()) {
      await using owner = disposable(postgres(database.ownerUrl, { max: 1, onnotice: () => {} }));
      await owner.sql.unsafe(sql);
    }
    await admin.unsafe(HISTORY);
    await append();

    await t.step("pages of any size see the same entries and no fault", async () => {
      for (const limit of [1, 7, PER_DAY, PER_DAY + 1, 10_000]) {
        assertEquals(await verify(limit), { entries: DAYS.length * PER_DAY + 1, faults: [] });
      }
    });

    await t.step("a verification goes on behind the anchor of a day pruned meanwhile", async () => {
      const { next } = await page(null, PER_DAY / 2);
      assertEquals(await prune(DAYS[0] ?? ""), true);
      assertEquals(await verify(100, next), {
        entries: (DAYS.length - 1) * PER_DAY + 2,
        faults: [],
      });
    });

    await t.step("who writes, verifies and prunes at once disturbs nobody", async () => {
      let writing = true;
      const verified: number[] = [];
      const [pruned] = await Promise.all([
        Promise.all([DAYS[1], DAYS[1], DAYS[1]].map((day) => prune(day ?? ""))),
        (async () => {
          while (writing) {
            const { entries, faults } = await verify(50);
            assertEquals(faults, []);
            verified.push(entries);
          }
        })(),
        Promise.all(Array.from({ length: APPENDERS }, async () => {
          for (let n = 0; n < 30; n++) await append();
        })).finally(() => writing = false),
      ]);
      assertEquals(pruned.filter((done) => done === true).length, 1);
      assert(verified.length > 0);
      assertEquals(await verify(1000), {
        entries: PER_DAY + 1 + 2 + APPENDERS * 30,
        faults: [],
      });
    });
  } finally {
    await Promise.all([admin.end({ timeout: 5 }), service.end({ timeout: 5 })]);
    await cluster.close();
  }
});

/** Days of the past, chained by hand since the trigger knows today only. */
const HISTORY = `
  alter table kms.audit_log disable trigger user;
  do $$
  declare
    v_entry kms.audit_log;
    v_prev text := repeat('0', 64);
  begin
    foreach v_entry.chain_day in array array['${DAYS.join("', '")}']::date[] loop
      for n in 1..${PER_DAY} loop
        v_entry.seq := n;
        v_entry.prev_hash := v_prev;
        v_entry.occurred_at := v_entry.chain_day + n * interval '1 second';
        v_entry.actor_type := 'system';
        v_entry.actor_id := 'test';
        v_entry.request_id := gen_random_uuid();
        v_entry.function_name := 'test';
        v_entry.action := 'test.append';
        v_entry.outcome := 'success';
        v_entry.hash := kms.audit_hash(v_entry);
        v_prev := v_entry.hash;
        insert into kms.audit_log select v_entry.*;
      end loop;
    end loop;
  end $$;
  alter table kms.audit_log enable trigger user`;

function disposable(sql: postgres.Sql): { sql: postgres.Sql } & AsyncDisposable {
  return { sql, [Symbol.asyncDispose]: () => sql.end() };
}
