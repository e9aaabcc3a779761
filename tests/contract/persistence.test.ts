import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  ListKeysCommand,
  RotateKeyOnDemandCommand,
} from "@aws-sdk/client-kms";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { seedKeys, startLocalAws, StateFileError } from "../../local/aws/mod.ts";
import { Setting, withAws } from "./support.ts";
import { assumeRole } from "./role.ts";

const SEED = { application: "parker-flight", environment: "development" };

async function withFolder(body: (stateFile: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "local-aws-" });
  try {
    await body(`${folder}/nested/aws.json`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("what was written before a restart is there after it", (t) =>
  withFolder(async (stateFile) => {
    const EncryptionContext = { owner: "42" };
    let before: Awaited<ReturnType<typeof firstRun>> | undefined;

    async function firstRun(setting: Setting) {
      const keys = await seedKeys(setting.aws, SEED);
      const kms = setting.kms();
      const KeyId = keys.payment.keyId;
      const seal = async () =>
        (await kms.send(
          new EncryptCommand({ KeyId, Plaintext: Uint8Array.of(1, 2), EncryptionContext }),
        )).CiphertextBlob;
      const blobs = [await seal()];
      await kms.send(new RotateKeyOnDemandCommand({ KeyId }));
      blobs.push(await seal());
      const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId }));
      const session = await assumeRole(setting);
      return { keys, blobs, KeyMetadata, session, identities: setting.aws.identities };
    }

    await withAws(async (setting) => {
      before = await firstRun(setting);
    }, { stateFile });
    if (before === undefined) throw new Error("the first run told nothing");
    const { keys, blobs, KeyMetadata, session, identities } = before;

    await t.step("the file is for its owner only", async () => {
      const { mode } = await Deno.stat(stateFile);
      assertEquals((mode ?? 0) & 0o777, 0o600);
    });

    await withAws(async (setting) => {
      await t.step("identities are the same", () => {
        assertEquals(setting.aws.identities, identities);
      });

      await t.step("seeding again finds the keys", async () => {
        assertEquals(await seedKeys(setting.aws, SEED), keys);
      });

      await t.step(
        "old ciphertext decrypts, also under material that was rotated out",
        async () => {
          for (const CiphertextBlob of blobs) {
            const { Plaintext } = await setting.kms("eu-west-1").send(
              new DecryptCommand({ CiphertextBlob, EncryptionContext }),
            );
            assertEquals(Plaintext, Uint8Array.of(1, 2));
          }
        },
      );

      await t.step("metadata is the same", async () => {
        const described = await setting.kms().send(
          new DescribeKeyCommand({ KeyId: keys.payment.alias }),
        );
        assertEquals(described.KeyMetadata, KeyMetadata);
      });

      await t.step("a session lives on", async () => {
        const { Arn } = await setting.sts("us-east-1", session).send(
          new GetCallerIdentityCommand({}),
        );
        assertStringIncludes(Arn ?? "", ":assumed-role/parker-flight-kms/contract");
      });
    }, { stateFile });
  }));

Deno.test("in memory, nothing is kept and nobody is the same", async () => {
  const [one, two] = [await startLocalAws(), await startLocalAws()];
  try {
    assertNotEquals(one.identities.caller, two.identities.caller);
    assertNotEquals(one.identities.role.externalId, two.identities.role.externalId);
  } finally {
    await Promise.all([one.close(), two.close()]);
  }
});

Deno.test("a state file has one owner at a time", () =>
  withFolder(async (stateFile) => {
    const first = await startLocalAws({ stateFile });
    await assertRejects(
      () => startLocalAws({ stateFile }),
      StateFileError,
      `${stateFile} is in use by another local AWS.`,
    );
    await first.close();
    await (await startLocalAws({ stateFile })).close();
  }));

Deno.test("a state file that is none is left alone", async (t) => {
  for (const [content, message] of [["{", "holds no JSON."], ['{"version":2}', "is no state of"]]) {
    await t.step(`${content}`, () =>
      withFolder(async (stateFile) => {
        await Deno.mkdir(stateFile.slice(0, stateFile.lastIndexOf("/")), { recursive: true });
        await Deno.writeTextFile(stateFile, content ?? "");
        await assertRejects(() => startLocalAws({ stateFile }), StateFileError, message);
        assertEquals(await Deno.readTextFile(stateFile), content ?? "");
      }));
  }
});

Deno.test("a taken port is the system's error, and releases the state file", () =>
  withFolder(async (stateFile) => {
    const first = await startLocalAws();
    const error = await assertRejects(() => startLocalAws({ port: first.port, stateFile }), Error);
    assertEquals((error as { code?: string }).code, "EADDRINUSE");
    await first.close();
    await (await startLocalAws({ stateFile })).close();
  }));

Deno.test("keys made at once are all kept", () =>
  withFolder(async (stateFile) => {
    let made: (string | undefined)[] = [];
    await withAws(async (setting) => {
      const kms = setting.kms();
      const creations = Array.from({ length: 20 }, () => kms.send(new CreateKeyCommand({})));
      made = (await Promise.all(creations)).map((created) => created.KeyMetadata?.KeyId);
    }, { stateFile });
    await withAws(async (setting) => {
      const { Keys } = await setting.kms().send(new ListKeysCommand({}));
      assertEquals(new Set(Keys?.map((key) => key.KeyId)), new Set(made));
    }, { stateFile });
  }));

Deno.test("a key that was answered survives a kill at any moment", () =>
  withFolder(async (stateFile) => {
    const main = new URL("../../local/aws/main.ts", import.meta.url).pathname;
    const answered = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const process = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", main, "--port", "0", "--state-file", stateFile],
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const text = await readUntil(process.stdout, "Stop it with");
      const setting = new Setting(clientOnly(text));
      const kms = setting.kms();
      const { Keys } = await kms.send(new ListKeysCommand({}));
      const found = new Set(Keys?.map((key) => key.KeyId));
      for (const keyId of answered) assertEquals(found.has(keyId), true, `${keyId} is lost`);
      const work = Array.from({ length: 30 }, async () => {
        const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
        if (KeyMetadata?.KeyId !== undefined) answered.add(KeyMetadata.KeyId);
      });
      // Some are answered, some are under way when the process is gone.
      await Promise.race(work.slice(5));
      process.kill("SIGKILL");
      await Promise.allSettled(work);
      await process.status;
      await setting.close();
    }
    await withAws(async (setting) => {
      const { Keys } = await setting.kms().send(new ListKeysCommand({}));
      const found = new Set(Keys?.map((key) => key.KeyId));
      for (const keyId of answered) assertEquals(found.has(keyId), true, `${keyId} is lost`);
    }, { stateFile });
  }));

async function readUntil(stream: ReadableStream<Uint8Array>, mark: string): Promise<string> {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes(mark)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the process ended early: ${text}`);
    text += value;
  }
  // What follows is nothing; the stream ends with the process.
  reader.cancel().catch(() => {});
  return text;
}

/** The face of a local AWS in another process, as far as a Setting uses it. */
function clientOnly(text: string): Awaited<ReturnType<typeof startLocalAws>> {
  const read = (pattern: RegExp) => pattern.exec(text)?.[1] ?? "";
  const endpoint = read(/is at (\S+)/);
  const operator = {
    accessKeyId: read(/AWS_ACCESS_KEY_ID=(\S+)/),
    secretAccessKey: read(/AWS_SECRET_ACCESS_KEY=(\S+)/),
  };
  const face = { endpoint, identities: { operator }, close: () => Promise.resolve() };
  return face as unknown as Awaited<ReturnType<typeof startLocalAws>>;
}
