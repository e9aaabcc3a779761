import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { openDataDir } from "../../local/data-dir.ts";
import { readEnvFile } from "../../local/env-file.ts";
import { StackError } from "../../local/errors.ts";
import { loadIdentity } from "../../local/identity.ts";
import { functionEnvironment } from "../../local/platform-env.ts";

async function inTempDir(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "settings-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const modeOf = async (path: string) => ((await Deno.stat(path)).mode ?? 0) & 0o777;

Deno.test("env file: names of the platform are skipped, and said", async () => {
  await inTempDir(async (folder) => {
    const path = join(folder, ".env.local");
    await Deno.writeTextFile(
      path,
      'A=1\n# no\nexport B="x y" # c\nSUPABASE_URL=http://x\nSUPABASE_ENV=production\nLIST=["a","b"]\n',
    );
    const warnings: string[] = [];
    const env = await readEnvFile(path, { required: true, warn: (line) => warnings.push(line) });
    assertEquals(env, { A: "1", B: "x y", LIST: '["a","b"]' });
    assertEquals(
      warnings,
      ["SUPABASE_URL", "SUPABASE_ENV"].map((name) =>
        `${path}: ${name} is skipped, names that begin with SUPABASE_ are the platform's own`
      ),
    );
  });
});

Deno.test("env file: one that was asked for must exist, the default one need not", async () => {
  await inTempDir(async (folder) => {
    const path = join(folder, "none");
    const warn = () => {};
    assertEquals(await readEnvFile(path, { required: false, warn }), {});
    await assertRejects(
      () => readEnvFile(path, { required: true, warn }),
      StackError,
      `the env file ${path} does not exist`,
    );
  });
});

Deno.test("env file: Google's credentials file is read for the functions", async () => {
  await inTempDir(async (folder) => {
    const [path, account] = [join(folder, ".env.local"), join(folder, "account.json")];
    await Deno.writeTextFile(path, `GOOGLE_APPLICATION_CREDENTIALS=${account}\n`);
    const read = () => readEnvFile(path, { required: true, warn: () => {} });
    await assertRejects(read, StackError, `the file ${account} cannot be read`);
    await Deno.writeTextFile(account, '{"type":"service_account"}');
    assertEquals((await read()).GOOGLE_CREDENTIALS_JSON, '{"type":"service_account"}');
  });
});

Deno.test("environment: own Google credentials go to Google, not to the local one", () => {
  const local = { GOOGLE_KMS_ENDPOINT: "http://127.0.0.1:1", AWS_REGION: "r" };
  assertEquals(functionEnvironment({}, local, { GOOGLE_ACCESS_TOKEN: "mine" }, {}), {
    AWS_REGION: "r",
    GOOGLE_ACCESS_TOKEN: "mine",
  });
  assertEquals(functionEnvironment({}, local, {}, {}), local);
});

Deno.test("environment: file over local, overrides over all, an empty value removes", () => {
  const env = functionEnvironment(
    { SUPABASE_URL: "u" },
    { AWS_REGION: "us-east-1", APP_NAME: "a", LOG: "1" },
    { APP_NAME: "b", LOG: "" },
    { APP_NAME: "c", EXTRA: "e", SUPABASE_URL: "v" },
  );
  assertEquals(env, { SUPABASE_URL: "v", AWS_REGION: "us-east-1", APP_NAME: "c", EXTRA: "e" });
});

Deno.test("environment: own AWS credentials are never mixed with the local AWS", () => {
  const env = functionEnvironment(
    {},
    {
      AWS_ENDPOINT_URL: "http://127.0.0.1:4566",
      AWS_ROLE_ARN: "arn",
      AWS_REGION: "r",
      APP_NAME: "a",
    },
    { AWS_ACCESS_KEY_ID: "mine", AWS_SECRET_ACCESS_KEY: "s", AWS_REGION: "eu-west-1" },
    {},
  );
  assertEquals(env, {
    APP_NAME: "a",
    AWS_ACCESS_KEY_ID: "mine",
    AWS_SECRET_ACCESS_KEY: "s",
    AWS_REGION: "eu-west-1",
  });
});

Deno.test("environment: a key that the local AWS made since takes the place of the first", () => {
  const local = {
    AWS_ENDPOINT_URL: "http://127.0.0.1:4566",
    AWS_ACCESS_KEY_ID: "first",
    AWS_SECRET_ACCESS_KEY: "s1",
    AWS_EXTERNAL_ID: "e1",
  };
  const file = {
    AWS_ACCESS_KEY_ID: "second",
    AWS_SECRET_ACCESS_KEY: "s2",
    AWS_EXTERNAL_ID: "e2",
  };
  const env = (isLocalKey: (id: string) => boolean) =>
    functionEnvironment({}, local, file, {}, isLocalKey);
  assertEquals(env((id) => id === "second"), { ...local, ...file });
  assertEquals(env((id) => id === "first"), file);
});

Deno.test("data directory: one stack at a time, for as long as it is open", async () => {
  await inTempDir(async (folder) => {
    const path = join(folder, "data");
    const first = await openDataDir(path);
    await assertRejects(
      () => openDataDir(path),
      StackError,
      `another stack (process ${Deno.pid}) is using ${path}: stop it, or give this one its own ` +
        "directory with --data-dir",
    );
    first.close();
    (await openDataDir(path)).close();
  });
});

Deno.test("data directory: a lock whose process is gone does not hold", async () => {
  await inTempDir(async (folder) => {
    const path = join(folder, "data");
    (await openDataDir(path)).close();
    await Deno.writeTextFile(join(path, "lock"), "4194304\n");
    (await openDataDir(path)).close();
  });
});

Deno.test("data directory: reset empties one of ours and refuses any other", async () => {
  await inTempDir(async (folder) => {
    const path = join(folder, "data");
    const dir = await openDataDir(path);
    await Deno.mkdir(dir.file("db"));
    await Deno.writeTextFile(dir.file("db", "rows"), "x");
    dir.close();
    (await openDataDir(path, { reset: true })).close();
    const left = [...Deno.readDirSync(path)].map(({ name }) => name).sort();
    assertEquals(left, ["lock", "stack-data.txt"]);

    const foreign = join(folder, "photos");
    await Deno.mkdir(foreign);
    await Deno.writeTextFile(join(foreign, "cat.jpg"), "x");
    for (const reset of [true, false]) {
      await assertRejects(
        () => openDataDir(foreign, { reset }),
        StackError,
        `${foreign} holds files that are not the stack's (no stack-data.txt in it)`,
      );
    }
    assertEquals([...Deno.readDirSync(foreign)].map(({ name }) => name), ["cat.jpg"]);
  });
});

Deno.test("identity: made once, kept for the owner's eyes, refused when damaged", async () => {
  await inTempDir(async (folder) => {
    const dir = await openDataDir(join(folder, "data"));
    try {
      const made = await loadIdentity(dir);
      assertEquals(await loadIdentity(dir), made);
      assertEquals(/^sb_publishable_[\w-]{31}$/.test(made.publishableKey), true);
      assertEquals(made.secretKeys.map(({ name }) => name), ["default"]);
      assertEquals(/^sb_secret_[\w-]{31}$/.test(made.secretKeys[0]?.key ?? ""), true);
      assertEquals(/^sbp_[0-9a-f]{40}$/.test(made.accessToken), true);
      assertEquals(made.jwtSecret.length, 64);
      if (Deno.build.os !== "windows") {
        assertEquals(await modeOf(dir.path), 0o700);
        assertEquals(await modeOf(dir.file("identity.json")), 0o600);
      }
      for (
        const damaged of [
          "",
          "null",
          '{"publishableKey":"x"}',
          JSON.stringify({
            ...made,
            signingKeys: made.signingKeys.map((key) => ({ ...key, status: "revoked" })),
          }),
        ]
      ) {
        await Deno.writeTextFile(dir.file("identity.json"), damaged);
        await assertRejects(() => loadIdentity(dir), StackError, "identity.json is damaged");
      }
    } finally {
      dir.close();
    }
  });
});
