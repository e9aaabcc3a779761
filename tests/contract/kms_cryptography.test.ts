import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  GenerateDataKeyWithoutPlaintextCommand,
  GenerateRandomCommand,
  type KMSClient,
  ReEncryptCommand,
} from "@aws-sdk/client-kms";
import { assertRefused, constraint, NO_MESSAGE, refused400, withAws } from "./support.ts";

const TEXT = new TextEncoder().encode("attack at dawn");
const ALIAS = "alias/contract";
const INCORRECT_KEY =
  "The key ID in the request does not identify a CMK that can perform this operation.";
const UNKNOWN_CIPHERTEXT_KEY =
  "The ciphertext refers to a customer master key that does not exist, does not exist in this " +
  "region, or you are not allowed to access.";
const DRY_RUN = {
  name: "DryRunOperationException",
  status: 412,
  message: "The request would have succeeded, but the DryRun option is set.",
};

async function newKey(kms: KMSClient): Promise<{ id: string; arn: string }> {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  return { id: KeyMetadata?.KeyId ?? "", arn: KeyMetadata?.Arn ?? "" };
}

async function seal(kms: KMSClient, keyId: string, context?: Record<string, string>) {
  const input = { KeyId: keyId, Plaintext: TEXT, EncryptionContext: context };
  const { CiphertextBlob } = await kms.send(new EncryptCommand(input));
  return CiphertextBlob ?? new Uint8Array();
}

Deno.test("Encrypt and Decrypt", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms);
    await kms.send(new CreateAliasCommand({ AliasName: ALIAS, TargetKeyId: key.id }));
    const aliasArn = `arn:aws:kms:us-east-1:${setting.aws.accountId}:${ALIAS}`;

    for (const KeyId of [key.id, key.arn, ALIAS, aliasArn]) {
      await t.step(`a key is named by ${KeyId.replace(/[0-9a-f-]{36}/, "ID")}`, async () => {
        const encrypted = await kms.send(new EncryptCommand({ KeyId, Plaintext: TEXT }));
        assertEquals(encrypted.KeyId, key.arn);
        assertEquals(encrypted.EncryptionAlgorithm, "SYMMETRIC_DEFAULT");
        const { CiphertextBlob } = encrypted;
        const decrypted = await kms.send(new DecryptCommand({ CiphertextBlob, KeyId }));
        assertEquals(decrypted.Plaintext, TEXT);
        assertEquals(decrypted.KeyId, key.arn);
        assertEquals(decrypted.EncryptionAlgorithm, "SYMMETRIC_DEFAULT");
        assertMatch(decrypted.KeyMaterialId ?? "", /^[0-9a-f]{64}$/);
      });
    }

    await t.step("the ciphertext names its key: KeyId may be left out", async () => {
      const CiphertextBlob = await seal(kms, key.id);
      const decrypted = await kms.send(new DecryptCommand({ CiphertextBlob }));
      assertEquals(decrypted.Plaintext, TEXT);
    });

    await t.step("two encryptions of one plaintext differ, and neither shows it", async () => {
      const [first, second] = [await seal(kms, key.id), await seal(kms, key.id)];
      assertNotEquals(first, second);
      assert(!new TextDecoder().decode(first).includes("attack"));
    });

    await t.step("the context's order is free", async () => {
      const CiphertextBlob = await seal(kms, key.id, { a: "1", b: "2", c: "3" });
      const EncryptionContext = { c: "3", a: "1", b: "2" };
      const { Plaintext } = await kms.send(
        new DecryptCommand({ CiphertextBlob, EncryptionContext }),
      );
      assertEquals(Plaintext, TEXT);
    });

    await t.step(
      "every other context is InvalidCiphertextException without a message",
      async () => {
        const CiphertextBlob = await seal(kms, key.id, { owner: "Ä", table: "cards" });
        const contexts: (Record<string, string> | undefined)[] = [
          undefined,
          {},
          { owner: "Ä" },
          { owner: "ä", table: "cards" },
          { Owner: "Ä", table: "cards" },
          { owner: "cards", table: "Ä" },
          { owner: "Ä", table: "cards", more: "" },
          // The same characters in the same order, cut elsewhere.
          { own: "erÄ", table: "cards" },
          { "owner\u0000": "Ä", table: "cards" },
        ];
        for (const EncryptionContext of contexts) {
          const work = kms.send(new DecryptCommand({ CiphertextBlob, EncryptionContext }));
          await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
        }
      },
    );

    await t.step("no byte of a ciphertext can change", async () => {
      const blob = await seal(kms, key.id, { a: "1" });
      for (let at = 0; at < blob.length; at++) {
        const CiphertextBlob = Uint8Array.from(blob, (byte, i) => i === at ? byte ^ 1 : byte);
        const work = kms.send(
          new DecryptCommand({ CiphertextBlob, EncryptionContext: { a: "1" }, KeyId: key.id }),
        );
        // Bytes 1 to 37 name the key: another name is another key, not a broken ciphertext.
        const wrongKey = at >= 1 && at < 38;
        if (wrongKey) await refused400(work, "IncorrectKeyException", INCORRECT_KEY);
        else await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
      }
    });

    await t.step("a cut or extended ciphertext is refused", async () => {
      const blob = await seal(kms, key.id);
      for (const CiphertextBlob of [blob.slice(0, -1), blob.slice(0, 40), new Uint8Array(1)]) {
        const work = kms.send(new DecryptCommand({ CiphertextBlob }));
        await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
      }
      const work = kms.send(new DecryptCommand({ CiphertextBlob: Uint8Array.of(...blob, 0) }));
      await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
    });

    await t.step("a key that is not the ciphertext's is IncorrectKeyException", async () => {
      const other = await newKey(kms);
      const CiphertextBlob = await seal(kms, key.id);
      const work = kms.send(new DecryptCommand({ CiphertextBlob, KeyId: other.id }));
      await refused400(work, "IncorrectKeyException", INCORRECT_KEY);
    });

    await t.step("a single-region key's ciphertext is foreign to other regions", async () => {
      const CiphertextBlob = await seal(kms, key.id);
      const work = setting.kms("eu-west-1").send(new DecryptCommand({ CiphertextBlob }));
      await refused400(work, "AccessDeniedException", UNKNOWN_CIPHERTEXT_KEY);
    });

    await t.step("plaintext is 1 to 4096 bytes", async () => {
      const encrypt = (length: number) =>
        kms.send(new EncryptCommand({ KeyId: key.id, Plaintext: new Uint8Array(length) }));
      const { CiphertextBlob } = await encrypt(4096);
      const { Plaintext } = await kms.send(new DecryptCommand({ CiphertextBlob }));
      assertEquals(Plaintext?.length, 4096);
      const rule = (text: string) => constraint("plaintext", "Value", `Member must have ${text}`);
      const tooLong = rule("length less than or equal to 4096");
      await refused400(encrypt(4097), "ValidationException", tooLong);
      const tooShort = rule("length greater than or equal to 1");
      await refused400(encrypt(0), "ValidationException", tooShort);
    });

    await t.step("a ciphertext is 6144 bytes at most, and there must be one", async () => {
      const long = kms.send(new DecryptCommand({ CiphertextBlob: new Uint8Array(6145) }));
      const rule = "Member must have length less than or equal to 6144";
      await refused400(long, "ValidationException", constraint("ciphertextBlob", "Value", rule));
      const none = kms.send(new DecryptCommand({ CiphertextBlob: undefined }));
      const nothing = constraint("ciphertextBlob", "Value null", "Member must not be null");
      await refused400(none, "ValidationException", nothing);
    });

    await t.step("an asymmetric algorithm does not fit the key", async () => {
      const work = kms.send(
        new EncryptCommand({
          KeyId: key.id,
          Plaintext: TEXT,
          EncryptionAlgorithm: "RSAES_OAEP_SHA_256",
        }),
      );
      const message =
        "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.";
      await refused400(work, "InvalidKeyUsageException", message);
    });

    await t.step("DryRun checks everything and does nothing", async () => {
      const CiphertextBlob = await seal(kms, key.id);
      const encrypt = new EncryptCommand({ KeyId: key.id, Plaintext: TEXT, DryRun: true });
      await assertRefused(kms.send(encrypt), DRY_RUN);
      await assertRefused(kms.send(new DecryptCommand({ CiphertextBlob, DryRun: true })), DRY_RUN);
      const reEncrypt = { CiphertextBlob, DestinationKeyId: key.id, DryRun: true };
      await assertRefused(kms.send(new ReEncryptCommand(reEncrypt)), DRY_RUN);
      const wrong = { CiphertextBlob, EncryptionContext: { a: "1" }, DryRun: true };
      const work = kms.send(new DecryptCommand(wrong));
      await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
    });
  }));

Deno.test("GenerateDataKey and GenerateDataKeyWithoutPlaintext", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms);
    const EncryptionContext = { class: "payment" };

    for (
      const [what, size, bytes] of [
        ["AES_256", { KeySpec: "AES_256" }, 32],
        ["AES_128", { KeySpec: "AES_128" }, 16],
        ["1 byte", { NumberOfBytes: 1 }, 1],
        ["1024 bytes", { NumberOfBytes: 1024 }, 1024],
      ] as const
    ) {
      await t.step(`${what}: the ciphertext decrypts to the plaintext key`, async () => {
        const made = await kms.send(
          new GenerateDataKeyCommand({ KeyId: key.id, EncryptionContext, ...size }),
        );
        assertEquals(made.Plaintext?.length, bytes);
        assertEquals(made.KeyId, key.arn);
        assertMatch(made.KeyMaterialId ?? "", /^[0-9a-f]{64}$/);
        const { CiphertextBlob } = made;
        const opened = await kms.send(
          new DecryptCommand({ CiphertextBlob, EncryptionContext, KeyId: key.arn }),
        );
        assertEquals(opened.Plaintext, made.Plaintext);
      });
    }

    await t.step("without plaintext, there is none", async () => {
      const made = await kms.send(
        new GenerateDataKeyWithoutPlaintextCommand({ KeyId: key.id, KeySpec: "AES_256" }),
      );
      assert(!("Plaintext" in made) || made.Plaintext === undefined);
      const { CiphertextBlob } = made;
      const opened = await kms.send(new DecryptCommand({ CiphertextBlob }));
      assertEquals(opened.Plaintext?.length, 32);
    });

    await t.step("the context binds", async () => {
      const { CiphertextBlob } = await kms.send(
        new GenerateDataKeyCommand({ KeyId: key.id, KeySpec: "AES_256", EncryptionContext }),
      );
      const work = kms.send(new DecryptCommand({ CiphertextBlob }));
      await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
    });

    await t.step("exactly one of KeySpec and NumberOfBytes", async () => {
      const message = "Please specify either number of bytes or key spec.";
      for (const size of [{}, { KeySpec: "AES_256", NumberOfBytes: 32 }] as const) {
        const input = { KeyId: key.id, ...size };
        const plain = kms.send(new GenerateDataKeyCommand(input));
        await refused400(plain, "ValidationException", message);
        const without = kms.send(new GenerateDataKeyWithoutPlaintextCommand(input));
        await refused400(without, "ValidationException", message);
      }
    });

    await t.step("sizes and specs out of range", async () => {
      const generate = (size: { NumberOfBytes?: number; KeySpec?: "AES_256" }) =>
        kms.send(new GenerateDataKeyCommand({ KeyId: key.id, ...size }));
      const low = "Member must have value greater than or equal to 1";
      const high = "Member must have value less than or equal to 1024";
      const at = (value: string, rule: string) =>
        constraint("numberOfBytes", `Value '${value}'`, rule);
      await refused400(generate({ NumberOfBytes: 0 }), "ValidationException", at("0", low));
      await refused400(generate({ NumberOfBytes: 1025 }), "ValidationException", at("1025", high));
      const spec = constraint(
        "keySpec",
        "Value 'AES_512'",
        "Member must satisfy enum value set: [AES_256, AES_128]",
      );
      const work = generate({ KeySpec: "AES_512" as "AES_256" });
      await refused400(work, "ValidationException", spec);
    });

    await t.step("a Nitro recipient is refused, not ignored", async () => {
      const Recipient = { AttestationDocument: Uint8Array.of(1) };
      const work = kms.send(
        new GenerateDataKeyCommand({ KeyId: key.id, KeySpec: "AES_256", Recipient }),
      );
      const message = "Recipient (Nitro enclaves) is not supported by the local AWS.";
      await refused400(work, "UnsupportedOperationException", message);
    });
  }));

Deno.test("ReEncrypt", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const [from, to] = [await newKey(kms), await newKey(kms)];
    const blob = await seal(kms, from.id, { v: "1" });

    await t.step("moves a ciphertext to another key and context", async () => {
      const moved = await kms.send(
        new ReEncryptCommand({
          CiphertextBlob: blob,
          SourceEncryptionContext: { v: "1" },
          DestinationKeyId: to.id,
          DestinationEncryptionContext: { v: "2" },
        }),
      );
      assertEquals([moved.SourceKeyId, moved.KeyId], [from.arn, to.arn]);
      assertEquals(moved.SourceEncryptionAlgorithm, "SYMMETRIC_DEFAULT");
      assertEquals(moved.DestinationEncryptionAlgorithm, "SYMMETRIC_DEFAULT");
      assertNotEquals(moved.SourceKeyMaterialId, moved.DestinationKeyMaterialId);
      const { CiphertextBlob } = moved;
      const opened = await kms.send(
        new DecryptCommand({ CiphertextBlob, EncryptionContext: { v: "2" } }),
      );
      assertEquals([opened.Plaintext, opened.KeyId], [TEXT, to.arn]);
    });

    await t.step("needs the source's context", async () => {
      const input = { CiphertextBlob: blob, DestinationKeyId: to.id };
      const work = kms.send(new ReEncryptCommand(input));
      await refused400(work, "InvalidCiphertextException", NO_MESSAGE);
    });

    await t.step("needs the source key where one is named", async () => {
      const work = kms.send(
        new ReEncryptCommand({
          CiphertextBlob: blob,
          SourceEncryptionContext: { v: "1" },
          SourceKeyId: to.id,
          DestinationKeyId: to.id,
        }),
      );
      await refused400(work, "IncorrectKeyException", INCORRECT_KEY);
    });

    await t.step("needs a destination that exists", async () => {
      const work = kms.send(
        new ReEncryptCommand({
          CiphertextBlob: blob,
          SourceEncryptionContext: { v: "1" },
          DestinationKeyId: "alias/none",
        }),
      );
      const arn = `arn:aws:kms:us-east-1:${setting.aws.accountId}:alias/none`;
      await refused400(work, "NotFoundException", `Alias ${arn} is not found.`);
    });
  }));

Deno.test("GenerateRandom", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();

    await t.step("gives as many bytes as asked for, never the same", async () => {
      const draw = async () =>
        (await kms.send(new GenerateRandomCommand({ NumberOfBytes: 32 }))).Plaintext;
      const [first, second] = [await draw(), await draw()];
      assertEquals(first?.length, 32);
      assertNotEquals(first, second);
    });

    await t.step("wants a number from 1 to 1024", async () => {
      const none = kms.send(new GenerateRandomCommand({}));
      await refused400(none, "ValidationException", "NumberOfBytes is required.");
      const many = kms.send(new GenerateRandomCommand({ NumberOfBytes: 1025 }));
      const rule = "Member must have value less than or equal to 1024";
      const message = constraint("numberOfBytes", "Value '1025'", rule);
      await refused400(many, "ValidationException", message);
    });
  }));
