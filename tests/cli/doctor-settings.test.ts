/** `kms doctor` once settings are stored: what it says of the environment, and what the functions say themselves. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Line } from "../../cli/doctor/report.ts";
import { startLocalVault } from "../../local/vault/mod.ts";
import { sql, test } from "../http/suite.ts";
import { eventually } from "../stack/eventually.ts";
import { privateFile } from "./cli.ts";
import { AT_ONCE, done, neverSaid, operate, stackOfOperator } from "./operator.ts";

const CLASSES = ["payment", "pii", "general"];
const ENCRYPTION_KEY = crypto.randomUUID().replaceAll("-", "").repeat(2);
const secrets: string[] = [ENCRYPTION_KEY];

interface Seen {
  readonly code: number;
  readonly of: (check: string) => Line;
  readonly failed: readonly string[];
}

async function doctor(): Promise<Seen> {
  const { code, json } = await operate(["doctor"]);
  const lines = json().checks as Line[];
  return {
    code,
    of: (check) => {
      const line = lines.find((one) => one.check === check);
      assert(line !== undefined, `no line ${check}`);
      return line;
    },
    failed: lines.filter(({ status }) => status === "fail").map(({ check }) => check),
  };
}

const set = (settings: object) => done(["config", "set", privateFile(JSON.stringify(settings))]);

test("a provider of the environment that still reads fails as ever, and is called the environment's", async () => {
  await done(["health"]);
  await set({ provider: "env", credentials: { encryption_key: ENCRYPTION_KEY } });
  const well = await doctor();
  assertEquals(well.failed, []);
  assertMatch(
    well.of("functions.configuration").message,
    /^revision 1 of the database is in force \(env; aws read\), and the functions can open it\. .*Vault/,
  );
  assertEquals(well.of("functions.configuration").status, "warn", "for want of a Vault");
  assertMatch(
    well.of("aws.environment").message,
    /^what follows is about the environment's aws: revision 1 \(env\) .* reads what aws wrapped$/,
  );
  assertMatch(well.of("aws.role").message, /^environment: arn:aws:iam:/);
  for (const name of CLASSES) {
    const { status, message } = well.of(`functions.keys.${name}`);
    assertEquals(status, "pass");
    assertMatch(message, new RegExp(`^env: env:${name}-\\w+ is enabled`));
  }

  const { aws } = await stackOfOperator();
  aws.faults.set([{ effect: { kind: "refuse" } }]);
  try {
    const ill = await doctor();
    assert(ill.failed.includes("aws.credentials"), String(ill.failed));
    assertEquals(ill.of("functions.keys.pii").status, "warn", "the canary is aws's");
  } finally {
    aws.faults.clear();
  }
});

test("one that is not in force is worth a warning, however ill it is", async () => {
  const { aws } = await stackOfOperator();
  const migrate = ["migrate-provider", "--from", "aws", "--to", "env"];
  // The regions that were away a moment ago are tried again within seconds.
  await eventually(() => operate(migrate), ({ code }) => code === 0);
  const under = (await doctor()).of("provider.migration");
  assertEquals(under.status, "warn");
  assertMatch(under.message, /^from aws to env since 20\S+Z: switch, done for all branch keys$/);
  assertMatch(under.next ?? "", /--from aws --to env --step finish; or return: .* --back/);
  await done([...migrate, "--step", "finish"]);
  assertEquals((await doctor()).of("provider.migration").status, "pass");

  // Every worker has followed by then.
  await sql("update kms.settings set created_at = created_at - interval '1 hour'");
  const { readers } = await set({ provider: "env", remove: ["aws"] });
  assertEquals(readers, [], "its external id is left, and reads nothing");
  aws.faults.set([{ effect: { kind: "refuse" } }]);
  try {
    const { code, failed, of } = await doctor();
    assertEquals([code, failed], [0, []]);
    assertMatch(
      of("aws.environment").message,
      /revision 2 \(env\) is in force, and does not use aws$/,
    );
    const { status, message, next } = of("aws.credentials");
    assertEquals(status, "warn");
    assertMatch(message, /^environment: STS in us-east-1 does not answer/);
    assertMatch(next ?? "", /reached/);
    assertEquals(of("functions.health").status, "pass");
  } finally {
    aws.faults.clear();
  }
});

test("a key service that only the functions know fails by their own report", async () => {
  const vault = await startLocalVault();
  secrets.push(vault.secretId);
  try {
    for (const name of CLASSES) vault.createKey(`parker-flight-${name}-development`);
    const { roleId: role_id, secretId: secret_id } = vault;
    await set({ provider: "vault", addr: vault.endpoint, credentials: { role_id, secret_id } });
    const well = await doctor();
    assertEquals([well.code, well.failed], [0, []]);
    assertMatch(well.of("functions.keys.general").message, /^vault: vault:\S+ is enabled/);

    vault.setSealed(true);
    const sealed = await doctor();
    assertEquals([sealed.code, sealed.failed], [1, ["functions.health"]]);
    for (const name of CLASSES) {
      const { status, message } = sealed.of(`functions.keys.${name}`);
      assertEquals(status, "warn", "the first line says it all");
      assertEquals(message, "vault: the key cannot be described: kms_unavailable");
    }
    vault.setSealed(false);
    await set({ provider: "env" });
  } finally {
    await vault.close();
  }
});

test("settings that the functions cannot open fail, and what they caused is a warning", async () => {
  const { functions, restartFunction } = await stackOfOperator();
  const { revision } = await done(["config", "get"]);
  const swap = (other: number) =>
    sql(
      `update kms.settings as s set message = o.message from kms.settings as o
       where s.revision = $1 and o.revision = $2`,
      [revision, other],
    );
  const [kept] = await sql<{ message: string }>(
    "select message from kms.settings where revision = $1",
    [revision],
  );
  await swap(1);
  await Promise.all(functions.map((name) => restartFunction(name, AT_ONCE)));
  try {
    const { code, failed, of } = await doctor();
    assertEquals([code, failed], [1, ["functions.configuration"]]);
    const { message, next } = of("functions.configuration");
    assertMatch(message, /^revision \d is stored \(env\) and the functions cannot use it: /);
    assertMatch(message, /the environment alone counts \(aws\)$/);
    assertMatch(next ?? "", /config set/);
    assertMatch(of("functions.health").message, /^unhealthy: configuration_invalid/);
    assertMatch(of("aws.role").message, /^arn:aws:iam:/, "now the environment is in force");
  } finally {
    await sql("update kms.settings set message = $1 where revision = $2", [
      kept?.message,
      revision,
    ]);
    await Promise.all(functions.map((name) => restartFunction(name, AT_ONCE)));
  }
  assertEquals((await doctor()).failed, []);
});

Deno.test("no credential was printed", () => neverSaid(secrets));
