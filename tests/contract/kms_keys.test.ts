import { assertEquals, assertMatch } from "@std/assert";
import {
  CancelKeyDeletionCommand,
  CreateAliasCommand,
  CreateKeyCommand,
  type CreateKeyCommandInput,
  DecryptCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  type KMSClient,
  ListAliasesCommand,
  ListKeysCommand,
  ReEncryptCommand,
  ScheduleKeyDeletionCommand,
  UpdateKeyDescriptionCommand,
} from "@aws-sdk/client-kms";
import { constraint, refused400, TestClock, withAws } from "./support.ts";

const DAY_MS = 86_400_000;
const TEXT = Uint8Array.of(1, 2, 3);

async function newKey(kms: KMSClient, input: CreateKeyCommandInput = {}) {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand(input));
  return { id: KeyMetadata?.KeyId ?? "", arn: KeyMetadata?.Arn ?? "" };
}

async function stateOf(kms: KMSClient, KeyId: string): Promise<string | undefined> {
  return (await kms.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata?.KeyState;
}

Deno.test("CreateKey and DescribeKey", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const kms = setting.kms();

    await t.step("a key has all the metadata AWS gives", async () => {
      const made = await kms.send(new CreateKeyCommand({ Description: "for tests" }));
      const { KeyId = "", CurrentKeyMaterialId = "", ...rest } = made.KeyMetadata ?? {};
      assertMatch(KeyId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      assertMatch(CurrentKeyMaterialId, /^[0-9a-f]{64}$/);
      assertEquals(rest, {
        AWSAccountId: setting.aws.accountId,
        Arn: setting.keyArn(KeyId),
        CreationDate: new Date(clock.now()),
        Enabled: true,
        Description: "for tests",
        KeyUsage: "ENCRYPT_DECRYPT",
        KeyState: "Enabled",
        Origin: "AWS_KMS",
        KeyManager: "CUSTOMER",
        CustomerMasterKeySpec: "SYMMETRIC_DEFAULT",
        KeySpec: "SYMMETRIC_DEFAULT",
        EncryptionAlgorithms: ["SYMMETRIC_DEFAULT"],
        MultiRegion: false,
      });
      const described = await kms.send(new DescribeKeyCommand({ KeyId }));
      assertEquals(described.KeyMetadata, made.KeyMetadata);
    });

    await t.step("key kinds that the local AWS does not have are refused by name", async () => {
      const refuse = (input: CreateKeyCommandInput, what: string) =>
        refused400(
          kms.send(new CreateKeyCommand(input)),
          "UnsupportedOperationException",
          `${what} not supported by the local AWS, which has symmetric encryption keys of ` +
            "origin AWS_KMS only.",
        );
      await refuse({ KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY" }, "KeySpec RSA_2048 is");
      await refuse({ KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC" }, "KeySpec HMAC_256 is");
      await refuse({ Origin: "EXTERNAL" }, "Origin EXTERNAL is");
      await refuse({ CustomKeyStoreId: "cks-1" }, "Custom key stores are");
    });

    await t.step("what does not fit together is refused as AWS does", async () => {
      await refused400(
        kms.send(new CreateKeyCommand({ KeyUsage: "SIGN_VERIFY" })),
        "ValidationException",
        "KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT",
      );
      await refused400(
        kms.send(new CreateKeyCommand({ KeySpec: "HMAC_256" })),
        "ValidationException",
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
      );
      const description = "d".repeat(8193);
      await refused400(
        kms.send(new CreateKeyCommand({ Description: description })),
        "ValidationException",
        constraint(
          "description",
          `Value '${description}'`,
          "Member must have length less than or equal to 8192",
        ),
      );
    });

    await t.step("a key that does not exist", async () => {
      const describe = (KeyId: string) => kms.send(new DescribeKeyCommand({ KeyId }));
      const id = "11111111-2222-3333-4444-555555555555";
      const absent = `Key '${setting.keyArn(id)}' does not exist`;
      await refused400(describe(id), "NotFoundException", absent);
      await refused400(describe(setting.keyArn(id)), "NotFoundException", absent);
      await refused400(describe("nonsense"), "NotFoundException", "Invalid keyId 'nonsense'");
      const arn = `arn:aws:kms:us-east-1:${setting.aws.accountId}:alias/none`;
      const noAlias = `Alias ${arn} is not found.`;
      await refused400(describe("alias/none"), "NotFoundException", noAlias);
      await refused400(describe(arn), "NotFoundException", noAlias);
      const long = "k".repeat(2049);
      const tooLong = "Member must have length less than or equal to 2048";
      const message = constraint("keyId", `Value '${long}'`, tooLong);
      await refused400(describe(long), "ValidationException", message);
    });

    await t.step("a key of another region or account", async () => {
      const key = await newKey(kms);
      const west = setting.kms("us-west-2");
      await refused400(
        west.send(new DescribeKeyCommand({ KeyId: key.arn })),
        "NotFoundException",
        "Invalid arn us-east-1",
      );
      await refused400(
        west.send(new DescribeKeyCommand({ KeyId: key.id })),
        "NotFoundException",
        `Key '${setting.keyArn(key.id, "us-west-2")}' does not exist`,
      );
      await refused400(
        kms.send(
          new DescribeKeyCommand({ KeyId: `arn:aws:kms:us-east-1:111122223333:key/${key.id}` }),
        ),
        "AccessDeniedException",
        `User: arn:aws:iam::${setting.aws.accountId}:user/operator is not authorized to perform: ` +
          "kms:DescribeKey on this resource because the resource does not exist in this Region, " +
          "no resource-based policies allow access, or a resource-based policy explicitly denies " +
          "access",
      );
    });
  }, { clock });
});

Deno.test("ListKeys gives every key once, page by page", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const made: string[] = [];
    for (let i = 0; i < 5; i++) made.push((await newKey(kms)).id);

    await t.step("pages of two", async () => {
      const found: (string | undefined)[] = [];
      const pages: (boolean | undefined)[] = [];
      let Marker: string | undefined;
      do {
        const page = await kms.send(new ListKeysCommand({ Limit: 2, Marker }));
        found.push(...page.Keys?.map((key) => key.KeyId) ?? []);
        pages.push(page.Truncated);
        Marker = page.NextMarker;
      } while (Marker !== undefined);
      assertEquals(found, made);
      assertEquals(pages, [true, true, false]);
    });

    await t.step("each region has its own", async () => {
      assertEquals((await setting.kms("eu-west-1").send(new ListKeysCommand({}))).Keys, []);
    });

    await t.step("a marker that AWS did not give", async () => {
      const work = kms.send(new ListKeysCommand({ Marker: "made-up" }));
      await refused400(work, "InvalidMarkerException", "Could not deserialize marker");
      const { NextMarker } = await kms.send(new ListKeysCommand({ Limit: 1 }));
      const other = kms.send(new ListAliasesCommand({ Marker: NextMarker }));
      await refused400(other, "InvalidMarkerException", "Could not deserialize marker");
    });

    await t.step("a limit from 1 to 1000", async () => {
      const low = constraint(
        "limit",
        "Value '0'",
        "Member must have value greater than or equal to 1",
      );
      const work = kms.send(new ListKeysCommand({ Limit: 0 }));
      await refused400(work, "ValidationException", low);
    });
  }));

Deno.test("key states", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms);
    const other = await newKey(kms);
    const { CiphertextBlob } = await kms.send(
      new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }),
    );
    /** Every cryptographic operation, with the key in each of its roles. */
    const uses = () => [
      kms.send(new EncryptCommand({ KeyId: key.id, Plaintext: TEXT })),
      kms.send(new DecryptCommand({ CiphertextBlob })),
      kms.send(new DecryptCommand({ CiphertextBlob, KeyId: key.arn })),
      kms.send(new GenerateDataKeyCommand({ KeyId: key.id, KeySpec: "AES_256" })),
      kms.send(new ReEncryptCommand({ CiphertextBlob, DestinationKeyId: other.id })),
    ];

    await t.step("a disabled key is used for nothing", async () => {
      await kms.send(new DisableKeyCommand({ KeyId: key.id }));
      assertEquals(await stateOf(kms, key.id), "Disabled");
      for (const work of uses()) {
        await refused400(work, "DisabledException", `${key.arn} is disabled.`);
      }
    });

    await t.step("an enabled one again for everything", async () => {
      await kms.send(new EnableKeyCommand({ KeyId: key.arn }));
      await Promise.all(uses());
    });

    await t.step("the waiting period is 7 to 30 days", async () => {
      const schedule = (PendingWindowInDays: number) =>
        kms.send(new ScheduleKeyDeletionCommand({ KeyId: key.id, PendingWindowInDays }));
      const message = "PendingWindowInDays must be between 7 and 30 days inclusive.";
      await refused400(schedule(6), "ValidationException", message);
      await refused400(schedule(31), "ValidationException", message);
      assertEquals(await stateOf(kms, key.id), "Enabled");
    });

    await t.step("a key pending deletion is used for nothing", async () => {
      const scheduled = await kms.send(
        new ScheduleKeyDeletionCommand({ KeyId: key.id, PendingWindowInDays: 7 }),
      );
      assertEquals(scheduled.KeyId, key.arn);
      assertEquals(scheduled.KeyState, "PendingDeletion");
      assertEquals(scheduled.PendingWindowInDays, 7);
      assertEquals(scheduled.DeletionDate, new Date(clock.now() + 7 * DAY_MS));
      const pending = `${key.arn} is pending deletion.`;
      for (const work of uses()) await refused400(work, "KMSInvalidStateException", pending);
      const alterations = [
        kms.send(new EnableKeyCommand({ KeyId: key.id })),
        kms.send(new DisableKeyCommand({ KeyId: key.id })),
        kms.send(new ScheduleKeyDeletionCommand({ KeyId: key.id })),
        kms.send(new UpdateKeyDescriptionCommand({ KeyId: key.id, Description: "no" })),
        kms.send(new CreateAliasCommand({ AliasName: "alias/late", TargetKeyId: key.id })),
      ];
      for (const work of alterations) await refused400(work, "KMSInvalidStateException", pending);
    });

    await t.step(
      "cancelled, it is disabled; only a pending deletion can be cancelled",
      async () => {
        const cancel = () => kms.send(new CancelKeyDeletionCommand({ KeyId: key.id }));
        assertEquals((await cancel()).KeyId, key.arn);
        const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: key.id }));
        assertEquals([KeyMetadata?.KeyState, KeyMetadata?.DeletionDate], ["Disabled", undefined]);
        const message = `${key.arn} is not pending deletion.`;
        await refused400(cancel(), "KMSInvalidStateException", message);
      },
    );

    await t.step("after the waiting period the key and its aliases are gone", async () => {
      await kms.send(new CreateAliasCommand({ AliasName: "alias/doomed", TargetKeyId: key.id }));
      const { DeletionDate } = await kms.send(new ScheduleKeyDeletionCommand({ KeyId: key.id }));
      assertEquals(DeletionDate, new Date(clock.now() + 30 * DAY_MS));
      clock.advance(30 * DAY_MS - 1);
      assertEquals(await stateOf(setting.kms(), "alias/doomed"), "PendingDeletion");
      clock.advance(1);
      const kmsNow = setting.kms();
      const gone = `Key '${key.arn}' does not exist`;
      const work = kmsNow.send(new DescribeKeyCommand({ KeyId: key.id }));
      await refused400(work, "NotFoundException", gone);
      assertEquals((await kmsNow.send(new ListAliasesCommand({}))).Aliases, []);
      await refused400(
        kmsNow.send(new DecryptCommand({ CiphertextBlob })),
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in " +
          "this region, or you are not allowed to access.",
      );
    });
  }, { clock });
});

Deno.test("UpdateKeyDescription replaces the description", () =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms, { Description: "old" });
    await kms.send(new UpdateKeyDescriptionCommand({ KeyId: key.id, Description: "new" }));
    const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: key.id }));
    assertEquals(KeyMetadata?.Description, "new");
  }));
