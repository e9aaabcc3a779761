/** docs/audit.md says how to verify an export without this suite: its script is run on real exports. */
import { PGlite } from "@electric-sql/pglite";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { foundation, migrations } from "../postgres/schema.ts";
import { readText } from "../support/repository.ts";

type Entry = Record<string, string | number | null>;

const ACTOR = JSON.stringify({
  actor_type: "secret_key",
  actor_id: "schlüssel",
  request_id: "33333333-3333-4333-8333-333333333333",
  function: "kms-admin",
  address_hash: "A".repeat(43) + "=",
});
const ENTRIES = [
  { action: "test.append", outcome: "success" },
  { action: "test.append", outcome: "failure", error_code: "not_found", purpose: 'é "✓", 1:2,-' },
  {
    action: "payment_method.reveal",
    outcome: "success",
    data_class: "payment",
    table_name: "payment_methods",
    record_id: "AAAAAAAA-3333-4333-8333-333333333333",
    owner_id: "44444444-4444-4444-8444-444444444444",
    kms_key_arn: "arn:aws:kms:us-east-1:000000000000:key/mrk-1",
    branch_key_id: "payment",
    branch_key_version: "55555555-5555-4555-8555-555555555555",
  },
  { action: "test.append", outcome: "success" },
];

async function exported(): Promise<Entry[]> {
  const db = await PGlite.create();
  try {
    await db.exec(foundation());
    for (const { sql } of migrations()) await db.exec(sql);
    await db.query("select public.kms_audit_append($1, $2)", [ACTOR, JSON.stringify(ENTRIES)]);
    const { rows } = await db.query<{ page: { entries: Entry[] } }>(
      "select public.kms_audit_export(max(chain_day), null, 10) as page from kms.audit_log",
    );
    return rows[0]?.page.entries ?? [];
  } finally {
    await db.close();
  }
}

/** Runs the page's script on lines of input, with no permission but to read them. */
async function run(lines: readonly unknown[]): Promise<{ code: number; text: string }> {
  const [, script = ""] =
    /<!-- script: verify-export.mjs -->\n```js\n([\s\S]*?)```/.exec(readText("docs/audit.md")) ??
      [];
  assert(script.length > 500, "the script is gone from docs/audit.md");
  const file = await Deno.makeTempFile({ suffix: ".mjs" });
  try {
    await Deno.writeTextFile(file, script);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-config", "--no-lock", "--quiet", "--allow-read", file],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(
      new TextEncoder().encode(lines.map((line) => JSON.stringify(line)).join("\n")),
    );
    await writer.close();
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder();
    return { code, text: text.decode(stdout) + text.decode(stderr) };
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("the script of docs/audit.md verifies an export, and finds what was done to it", async (t) => {
  const entries = await exported();
  const day = entries[0]?.day;
  assertEquals(entries.length, 4);

  await t.step("as it came, whole or in pages", async () => {
    const end = `4 entries hold, to ${day} 4 ${entries[3]?.hash}\n`;
    assertEquals(await run([{ success: true, data: { entries } }]), { code: 0, text: end });
    assertEquals(
      await run([{ entries: entries.slice(0, 3) }, { entries: entries.slice(3) }]),
      { code: 0, text: end },
    );
  });

  const without = (seq: number) => entries.filter((entry) => entry.seq !== seq);
  const faults: readonly (readonly [string, Entry[], string])[] = [
    ["removed", without(2), `${day} 3 missing: 2 is not there`],
    ["changed", entries.map((entry) => ({ ...entry, purpose: "other" })), `${day} 1 changed`],
    [
      "relinked",
      entries.map((entry) => entry.seq === 3 ? { ...entry, prev_hash: "0".repeat(64) } : entry),
      `${day} 3 changed`,
    ],
    ["renumbered", without(2).map((entry, n) => ({ ...entry, seq: n + 1 })), `${day} 2 changed`],
  ];
  for (const [how, tampered, fault] of faults) {
    await t.step(how, async () => {
      const { code, text } = await run([{ entries: tampered }]);
      assertEquals(code, 1);
      assertMatch(text, new RegExp(`^${fault}`));
    });
  }
});
