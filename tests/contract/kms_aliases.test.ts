import { assertEquals } from "@std/assert";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DeleteAliasCommand,
  DescribeKeyCommand,
  EnableKeyCommand,
  EncryptCommand,
  type KMSClient,
  ListAliasesCommand,
  UpdateAliasCommand,
} from "@aws-sdk/client-kms";
import { constraint, NO_MESSAGE, refused400, TestClock, withAws } from "./support.ts";

async function newKey(kms: KMSClient): Promise<string> {
  return (await kms.send(new CreateKeyCommand({}))).KeyMetadata?.KeyId ?? "";
}

Deno.test("aliases", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const kms = setting.kms();
    const [first, second] = [await newKey(kms), await newKey(kms)];
    const arn = (name: string) => `arn:aws:kms:us-east-1:${setting.aws.accountId}:${name}`;
    const create = (AliasName: string, TargetKeyId = first) =>
      kms.send(new CreateAliasCommand({ AliasName, TargetKeyId }));
    const target = async (KeyId: string) =>
      (await kms.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata?.KeyId;

    await t.step("an alias names its key until it is moved or deleted", async () => {
      await create("alias/a");
      assertEquals(await target("alias/a"), first);
      await kms.send(new UpdateAliasCommand({ AliasName: "alias/a", TargetKeyId: second }));
      assertEquals(await target("alias/a"), second);
      await kms.send(new DeleteAliasCommand({ AliasName: "alias/a" }));
      const message = `Alias ${arn("alias/a")} is not found.`;
      await refused400(target("alias/a"), "NotFoundException", message);
    });

    await t.step("a name is taken once in a region", async () => {
      await create("alias/taken");
      const message = `An alias with the name ${arn("alias/taken")} already exists`;
      await refused400(create("alias/taken", second), "AlreadyExistsException", message);
      assertEquals(await target("alias/taken"), first);
    });

    await t.step("a name begins with alias/ and keeps to AWS's characters", async () => {
      const prefix = 'Alias must start with the prefix "alias/". Please see ' +
        "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html";
      await refused400(create("payment"), "ValidationException", prefix);
      await refused400(create("alias/"), "ValidationException", prefix);
      const rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9:/_-]+";
      const pattern = constraint("aliasName", "Value 'alias/a b'", rule);
      await refused400(create("alias/a b"), "ValidationException", pattern);
      const colon = "alias/a:b contains invalid characters for an alias";
      await refused400(create("alias/a:b"), "ValidationException", colon);
      await refused400(create("alias/aws/s3"), "NotAuthorizedException", NO_MESSAGE);
    });

    await t.step("the target is a key that exists, by id or ARN", async () => {
      const toAlias = create("alias/b", "alias/taken");
      await refused400(toAlias, "ValidationException", "Aliases must refer to keys. Not aliases");
      const toArn = create("alias/b", arn("alias/taken"));
      await refused400(toArn, "ValidationException", "Aliases must refer to keys. Not aliases");
      const nothing = "11111111-2222-3333-4444-555555555555";
      const absent = `Key '${setting.keyArn(nothing)}' does not exist`;
      await refused400(create("alias/b", nothing), "NotFoundException", absent);
      await create("alias/b", setting.keyArn(first));
      assertEquals(await target("alias/b"), first);
    });

    await t.step("what does not exist is neither moved nor deleted", async () => {
      const message = `Alias ${arn("alias/none")} is not found.`;
      const update = new UpdateAliasCommand({ AliasName: "alias/none", TargetKeyId: first });
      await refused400(kms.send(update), "NotFoundException", message);
      const remove = new DeleteAliasCommand({ AliasName: "alias/none" });
      await refused400(kms.send(remove), "NotFoundException", message);
    });

    await t.step("operations that take no alias do not resolve one", async () => {
      const work = kms.send(new EnableKeyCommand({ KeyId: "alias/taken" }));
      await refused400(work, "NotFoundException", "Invalid keyId 'alias/taken'");
    });

    await t.step("ListAliases tells target and dates, filters by key and pages", async () => {
      const created = clock.now();
      await create("alias/listed", second);
      clock.advance(5000);
      await kms.send(new UpdateAliasCommand({ AliasName: "alias/listed", TargetKeyId: second }));
      const { Aliases, Truncated } = await kms.send(new ListAliasesCommand({ KeyId: second }));
      assertEquals(Truncated, false);
      assertEquals(Aliases, [{
        AliasName: "alias/listed",
        AliasArn: arn("alias/listed"),
        TargetKeyId: second,
        CreationDate: new Date(created),
        LastUpdatedDate: new Date(created + 5000),
      }]);
      const names: (string | undefined)[] = [];
      let Marker: string | undefined;
      do {
        const page = await kms.send(new ListAliasesCommand({ Limit: 1, Marker }));
        names.push(...page.Aliases?.map((alias) => alias.AliasName) ?? []);
        Marker = page.NextMarker;
      } while (Marker !== undefined);
      assertEquals(names, ["alias/b", "alias/listed", "alias/taken"]);
    });

    await t.step("an alias belongs to one region, its ARN too", async () => {
      const west = setting.kms("us-west-2");
      const encrypt = (KeyId: string) =>
        west.send(new EncryptCommand({ KeyId, Plaintext: Uint8Array.of(1) }));
      const there = `arn:aws:kms:us-west-2:${setting.aws.accountId}:alias/taken`;
      const absent = `Alias ${there} is not found.`;
      await refused400(encrypt("alias/taken"), "NotFoundException", absent);
      const foreign = "Invalid arn us-east-1";
      await refused400(encrypt(arn("alias/taken")), "NotFoundException", foreign);
      assertEquals((await west.send(new ListAliasesCommand({}))).Aliases, []);
    });
  }, { clock });
});
