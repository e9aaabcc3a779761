/** The import of older setups' rows when many work at once, on connections of their own. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import { startCluster } from "./cluster.ts";
import { createHostedDatabase, HOSTED_OWNER } from "./hosted.ts";
import { card, MESSAGE, rpc, STORE_ACTOR } from "./rpc.ts";
import { migrations } from "./schema.ts";

const CONNECTIONS = 12;

interface Staged {
  readonly results: readonly { readonly source_id: string; readonly outcome: string }[];
}
interface Claim {
  readonly token: string;
  readonly rows: readonly { readonly id: string; readonly user_id: string }[];
}

Deno.test("an import by many at once on Postgres", async (t) => {
  const cluster = await startCluster();
  const database = await createHostedDatabase(cluster, "legacy", HOSTED_OWNER);
  const admin = postgres(database.adminUrl, { max: 2, onnotice: () => {} });
  const service = postgres(database.ownerUrl, {
    max: CONNECTIONS,
    onnotice: () => {},
    connection: { role: "service_role" },
  });

  const newUser = async (): Promise<string> => {
    const id = crypto.randomUUID();
    await admin`insert into auth.users (id) values (${id})`;
    return id;
  };
  const putKey = (keyId: string) =>
    rpc<{ outcome: string }>(service, "kms_legacy_key_put", [
      STORE_ACTOR,
      JSON.stringify({
        ...{ key_id: keyId, id: crypto.randomUUID(), message: MESSAGE },
        ...{ fingerprint: "a".repeat(64), source: "inline" },
      }),
    ]);
  const row = (sourceId: string, user: string, target: unknown = { data_class: "pii" }) => ({
    source_id: sourceId,
    user_id: user,
    ciphertext: `v1:${sourceId}`,
    target,
  });
  const stage = (keyId: string, rows: readonly unknown[]) =>
    rpc<Staged | null>(service, "kms_legacy_rows_stage", [
      ...[STORE_ACTOR, keyId, "v1_hex", JSON.stringify(rows)],
    ]);
  const claim = async (limit: number): Promise<Claim> => {
    const claimed = await rpc<Claim>(service, "kms_legacy_rows_claim", [String(limit), "120"]);
    assert(claimed);
    return claimed;
  };
  const storeRow = (id: string, token: string, item: unknown) =>
    rpc<{ outcome: string }>(service, "kms_legacy_row_store", [
      ...[STORE_ACTOR, id, token, JSON.stringify(item)],
    ]);
  const close = (id: string, token: string) =>
    rpc(service, "kms_legacy_row_close", [STORE_ACTOR, id, token, null, null]);
  const record = (owner: string) => ({
    ...{ kind: "record", id: crypto.randomUUID(), owner_id: owner, data_class: "pii" },
    ciphertexts: [{ field: "data", message: MESSAGE }],
  });
  const count = async (from: string): Promise<number> => {
    const [found] = await admin.unsafe<{ n: string }[]>(`select count(*) as n from ${from}`);
    return Number(found?.n);
  };

  try {
    const setup = postgres(database.ownerUrl, { max: 1, onnotice: () => {} });
    for (const { sql } of migrations()) await setup.unsafe(sql);
    await setup.end();
    const user = await newUser();

    await t.step("a key that many import at once is imported once", async () => {
      const outcomes = await together(24, () => putKey("default"));
      assertEquals(outcomes.filter((one) => one?.outcome === "imported").length, 1);
      assertEquals(outcomes.filter((one) => one?.outcome === "existing").length, 23);
    });

    await t.step("rows that many stage at once, in any order, are staged once", async () => {
      const rows = Array.from({ length: 50 }, (_, n) => row(`many/${n}`, user));
      const answers = await together(12, (n) => stage("default", n % 2 ? rows : rows.toReversed()));
      const outcomes = answers.flatMap((answer) => answer?.results ?? []);
      assertEquals(outcomes.filter(({ outcome }) => outcome === "staged").length, 50);
      assertEquals(outcomes.filter(({ outcome }) => outcome === "known").length, 11 * 50);
      assertEquals(await count("kms.legacy_rows"), 50);
    });

    await t.step("workers at once share the rows, and store each once", async () => {
      const claims = await together(12, () => claim(5));
      const ids = claims.flatMap(({ rows }) => rows.map(({ id }) => id));
      assertEquals([ids.length, new Set(ids).size], [50, 50]);
      await Promise.all(
        claims.flatMap(({ token, rows }) =>
          rows.map(async ({ id, user_id }) => {
            // The same worker twice, as after an answer that was lost.
            const tries = await Promise.allSettled([
              storeRow(id, token, record(user_id)),
              storeRow(id, token, record(user_id)),
            ]);
            assertEquals(tries.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
            await close(id, token);
          })
        ),
      );
      assertEquals(await count(`public.encrypted_records where user_id = '${user}'`), 50);
      assertEquals(await count("kms.legacy_rows where status = 'imported'"), 50);
    });

    await t.step("a worker that lost its row changes nothing any more", async () => {
      await stage("default", [row("lost", user)]);
      const [first, second] = [await claim(1), await claim(1)];
      assertEquals([first.rows.length, second.rows.length], [1, 0]);
      await admin`update kms.legacy_rows set lease_expires_at = now() - interval '1 second'
        where source_id = 'lost'`;
      const next = await claim(1);
      const id = first.rows[0]?.id ?? "";
      assertEquals(next.rows[0]?.id, id);
      const lost = () => storeRow(id, first.token, record(user));
      assertEquals((await assertRejects(lost, postgres.PostgresError)).code, "KM409");
      await storeRow(id, next.token, record(user));
      const closed = () => close(id, first.token);
      assertEquals((await assertRejects(closed, postgres.PostgresError)).code, "KM409");
      await close(id, next.token);
      assertEquals(await count(`public.encrypted_records where user_id = '${user}'`), 51);
    });

    await t.step("the same card in many rows is one payment method", async () => {
      const owner = await newUser();
      const target = { data_class: "payment", exp_month: 12, exp_year: 2030 };
      await stage("default", Array.from({ length: 20 }, (_, n) => row(`card/${n}`, owner, target)));
      const { token, rows } = await claim(100);
      const { fingerprint } = card(owner);
      const stored = await Promise.all(
        rows.map(({ id }) => storeRow(id, token, card(owner, { fingerprint }))),
      );
      assertEquals(stored.filter((one) => one?.outcome === "created").length, 1);
      assertEquals(stored.filter((one) => one?.outcome === "existing").length, 19);
      await Promise.all(rows.map(({ id }) => close(id, token)));
      assertEquals(await count(`public.payment_methods where user_id = '${owner}'`), 1);
    });

    await t.step("a key is destroyed or a row staged under it, never both", async () => {
      for (let n = 0; n < 20; n++) {
        const keyId = `race-${n}`;
        await putKey(keyId);
        const [destroyed, staged] = await Promise.all([
          rpc<string>(service, "kms_legacy_key_destroy", [STORE_ACTOR, keyId]),
          stage(keyId, [row(`race/${n}`, user)]),
        ]);
        const rows = await count(`kms.legacy_rows where source_id = 'race/${n}'`);
        assertEquals(
          [destroyed, staged?.results[0]?.outcome ?? null, rows],
          destroyed === "destroyed" ? ["destroyed", null, 0] : ["in_use", "staged", 1],
        );
      }
    });
  } finally {
    await service.end();
    await admin.end();
    await cluster.close();
  }
});

function together<T>(times: number, work: (n: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: times }, (_, n) => work(n)));
}
