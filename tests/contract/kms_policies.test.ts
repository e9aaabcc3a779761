import { assert, assertEquals } from "@std/assert";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  GetKeyPolicyCommand,
  type KMSClient,
  ListAliasesCommand,
  ListKeyPoliciesCommand,
  PutKeyPolicyCommand,
  ReEncryptCommand,
} from "@aws-sdk/client-kms";
import { NO_MESSAGE, refused400, type Setting, withAws } from "./support.ts";
import { assumeRole } from "./role.ts";

const TEXT = Uint8Array.of(1, 2, 3);

async function newKey(kms: KMSClient) {
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  return { id: KeyMetadata?.KeyId ?? "", arn: KeyMetadata?.Arn ?? "" };
}

function names({ aws }: Setting) {
  const iam = `arn:aws:iam::${aws.accountId}`;
  return {
    root: `${iam}:root`,
    operator: `${iam}:user/operator`,
    caller: `${iam}:user/parker-flight-caller`,
    role: aws.identities.role.arn,
    session: `arn:aws:sts::${aws.accountId}:assumed-role/parker-flight-kms/contract`,
  };
}

interface Statement {
  readonly Effect: "Allow" | "Deny";
  readonly Principal: unknown;
  readonly Action: string | readonly string[];
  readonly Resource?: string;
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

function policy(...statements: readonly Statement[]): string {
  const Statement = statements.map((statement) => ({ Resource: "*", ...statement }));
  return JSON.stringify({ Version: "2012-10-17", Statement });
}

function denied(who: string, action: string, resource: string, why: string): string {
  return `User: ${who} is not authorized to perform: kms:${action} on resource: ${resource} ${why}`;
}

Deno.test("key policies", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const { root, operator, role, session } = names(setting);
    const roleKms = setting.kms("us-east-1", await assumeRole(setting));
    const admin: Statement = {
      Effect: "Allow",
      Principal: { AWS: operator },
      Action: "kms:*",
    };
    const delegate: Statement = { Effect: "Allow", Principal: { AWS: root }, Action: "kms:*" };
    const put = (KeyId: string, Policy: string, BypassPolicyLockoutSafetyCheck?: boolean) =>
      kms.send(new PutKeyPolicyCommand({ KeyId, Policy, BypassPolicyLockoutSafetyCheck }));
    const encrypt = (client: KMSClient, KeyId: string, EncryptionContext = {}) =>
      client.send(new EncryptCommand({ KeyId, Plaintext: TEXT, EncryptionContext }));

    await t.step("the default one leaves the key to the account's IAM policies", async () => {
      const key = await newKey(kms);
      const { Policy, PolicyName } = await kms.send(new GetKeyPolicyCommand({ KeyId: key.id }));
      assertEquals(PolicyName, "default");
      assertEquals(JSON.parse(Policy ?? ""), {
        Version: "2012-10-17",
        Id: "key-default-1",
        Statement: [{
          Sid: "Enable IAM User Permissions",
          Effect: "Allow",
          Principal: { AWS: root },
          Action: "kms:*",
          Resource: "*",
        }],
      });
      await encrypt(roleKms, key.id);
      const listed = await kms.send(new ListKeyPoliciesCommand({ KeyId: key.id }));
      assertEquals([listed.PolicyNames, listed.Truncated], [["default"], false]);
    });

    await t.step("default is the only name", async () => {
      const key = await newKey(kms);
      const work = kms.send(new GetKeyPolicyCommand({ KeyId: key.id, PolicyName: "other" }));
      await refused400(work, "NotFoundException", "No such policy exists");
    });

    await t.step("a key that does not delegate is closed to IAM policies", async () => {
      const key = await newKey(kms);
      const text = policy(admin);
      await put(key.id, text);
      const { Policy } = await kms.send(new GetKeyPolicyCommand({ KeyId: key.id }));
      assertEquals(Policy, text);
      const why = "because no resource-based policy allows the kms:Encrypt action";
      const message = denied(session, "Encrypt", key.arn, why);
      await refused400(encrypt(roleKms, key.id), "AccessDeniedException", message);
    });

    await t.step("a principal that the key names needs no IAM policy", async () => {
      const key = await newKey(kms);
      const { caller } = names(setting);
      const allow: Statement = {
        Effect: "Allow",
        Principal: { AWS: caller },
        Action: ["kms:Encrypt"],
      };
      await put(key.id, policy(admin, allow));
      await encrypt(setting.kms("us-east-1", setting.aws.identities.caller), key.id);
    });

    await t.step("a deny of the key wins over every allow", async () => {
      const key = await newKey(kms);
      const deny: Statement = { Effect: "Deny", Principal: { AWS: role }, Action: "kms:Enc*" };
      await put(key.id, policy(delegate, deny));
      const why = "with an explicit deny in a resource-based policy";
      const message = denied(session, "Encrypt", key.arn, why);
      await refused400(encrypt(roleKms, key.id), "AccessDeniedException", message);
      await roleKms.send(new GenerateDataKeyCommand({ KeyId: key.id, KeySpec: "AES_256" }));
    });

    await t.step("kms:EncryptionContext conditions hold the context to its values", async () => {
      const key = await newKey(kms);
      const bound: Statement = {
        Effect: "Allow",
        Principal: { AWS: role },
        Action: ["kms:Encrypt", "kms:Decrypt"],
        Condition: { StringEquals: { "kms:EncryptionContext:data-class": "payment" } },
      };
      await put(key.id, policy(admin, bound));
      const { CiphertextBlob } = await encrypt(roleKms, key.id, { "data-class": "payment" });
      const why = (action: string) =>
        `because no resource-based policy allows the kms:${action} action`;
      for (const context of [{ "data-class": "pii" }, { "data-class": "Payment" }, {}]) {
        const message = denied(session, "Encrypt", key.arn, why("Encrypt"));
        await refused400(encrypt(roleKms, key.id, context), "AccessDeniedException", message);
      }
      const decrypt = roleKms.send(new DecryptCommand({ CiphertextBlob }));
      const message = denied(session, "Decrypt", key.arn, why("Decrypt"));
      await refused400(decrypt, "AccessDeniedException", message);
    });

    await t.step("kms:RequestAlias and kms:ResourceAliases", async () => {
      const key = await newKey(kms);
      await kms.send(new CreateAliasCommand({ AliasName: "alias/one", TargetKeyId: key.id }));
      const byAlias: Statement = {
        Effect: "Allow",
        Principal: { AWS: role },
        Action: "kms:Encrypt",
        Condition: {
          StringEquals: { "kms:RequestAlias": "alias/one" },
          "ForAnyValue:StringLike": { "kms:ResourceAliases": "alias/o*" },
        },
      };
      await put(key.id, policy(admin, byAlias));
      await encrypt(roleKms, "alias/one");
      const why = "because no resource-based policy allows the kms:Encrypt action";
      const message = denied(session, "Encrypt", key.arn, why);
      await refused400(encrypt(roleKms, key.id), "AccessDeniedException", message);
    });

    await t.step("set operators on a key that the request does not have", async () => {
      const key = await newKey(kms);
      const contextKeys = "kms:EncryptionContextKeys";
      const outcomes: readonly (readonly [operator: string, absent: boolean, other: boolean])[] = [
        ["StringEquals", false, false],
        ["StringNotEquals", true, true],
        ["ForAnyValue:StringEquals", false, false],
        ["ForAnyValue:StringNotEquals", false, true],
        ["ForAnyValue:StringNotLike", false, true],
        ["ForAnyValue:StringNotEqualsIfExists", true, true],
        ["ForAllValues:StringEquals", true, false],
        ["ForAllValues:StringNotEquals", true, true],
      ];
      const allowed = async (work: Promise<unknown>) => {
        const error = await work.then(() => null, (error: Error) => error.name);
        assert(error === null || error === "AccessDeniedException", String(error));
        return error === null;
      };
      for (const [operator, absent, other] of outcomes) {
        const bound: Statement = {
          Effect: "Allow",
          Principal: { AWS: role },
          Action: "kms:Encrypt",
          Condition: { [operator]: { [contextKeys]: "owner" } },
        };
        await put(key.id, policy(admin, bound));
        assertEquals(
          [
            await allowed(encrypt(roleKms, key.id, {})),
            await allowed(encrypt(roleKms, key.id, { field: "number" })),
          ],
          [absent, other],
          operator,
        );
      }
    });

    await t.step("a kms:ViaService condition denies every direct call", async () => {
      const key = await newKey(kms);
      const viaS3: Statement = {
        Effect: "Allow",
        Principal: { AWS: role },
        Action: "kms:*",
        Condition: { StringEquals: { "kms:ViaService": "s3.us-east-1.amazonaws.com" } },
      };
      await put(key.id, policy(admin, viaS3));
      const why = "because no resource-based policy allows the kms:Encrypt action";
      const message = denied(session, "Encrypt", key.arn, why);
      await refused400(encrypt(roleKms, key.id), "AccessDeniedException", message);
    });

    await t.step("ReEncrypt needs permission on both keys", async () => {
      const [from, to] = [await newKey(kms), await newKey(kms)];
      const { CiphertextBlob } = await encrypt(kms, from.id);
      const move = () =>
        roleKms.send(new ReEncryptCommand({ CiphertextBlob, DestinationKeyId: to.id }));
      await move();
      const deny = (Action: string): Statement => ({
        Effect: "Deny",
        Principal: { AWS: role },
        Action,
      });
      const why = "with an explicit deny in a resource-based policy";
      await put(to.id, policy(delegate, deny("kms:ReEncryptTo")));
      const noTo = denied(session, "ReEncryptTo", to.arn, why);
      await refused400(move(), "AccessDeniedException", noTo);
      await put(to.id, policy(delegate));
      await put(from.id, policy(delegate, deny("kms:ReEncryptFrom")));
      const noFrom = denied(session, "ReEncryptFrom", from.arn, why);
      await refused400(move(), "AccessDeniedException", noFrom);
    });

    await t.step("a malformed policy changes nothing", async () => {
      const key = await newKey(kms);
      const cases: readonly (readonly [string, string])[] = [
        ["{", "This policy contains invalid Json"],
        ["[]", "Syntax errors in policy."],
        ['{"Version":"2012-10-17"}', "Syntax errors in policy."],
        [
          '{"Version":"1999-01-01","Statement":[]}',
          "The policy must contain a valid version string",
        ],
        [policy({ ...admin, Effect: "Maybe" as "Allow" }), "Syntax errors in policy."],
        [
          JSON.stringify({ Statement: { Effect: "Allow", Action: "kms:*", Resource: "*" } }),
          "Policy contains a statement with no principal.",
        ],
        [
          policy({ ...admin, Principal: { AWS: "arn:aws:iam::000000000000:user/nobody" } }),
          "Policy contains a statement with one or more invalid principals.",
        ],
        [
          policy({ ...admin, Condition: { StringSounds: { "kms:ViaService": "x" } } }),
          "Invalid Condition type : StringSounds.",
        ],
      ];
      for (const [text, message] of cases) {
        await refused400(put(key.id, text), "MalformedPolicyDocumentException", message);
      }
      const { Policy } = await kms.send(new GetKeyPolicyCommand({ KeyId: key.id }));
      assertEquals(JSON.parse(Policy ?? "").Id, "key-default-1");
    });

    await t.step("a policy that locks its author out is refused, unless asked for", async () => {
      const key = await newKey(kms);
      const locked = policy({ Effect: "Allow", Principal: { AWS: role }, Action: "kms:*" });
      const message = "The new key policy will not allow you to update the key policy in the " +
        "future.";
      await refused400(put(key.id, locked), "MalformedPolicyDocumentException", message);
      const create = kms.send(new CreateKeyCommand({ Policy: locked }));
      await refused400(create, "MalformedPolicyDocumentException", message);
      await put(key.id, locked, true);
      const why = "because no resource-based policy allows the kms:PutKeyPolicy action";
      const out = denied(operator, "PutKeyPolicy", key.arn, why);
      await refused400(put(key.id, policy(admin)), "AccessDeniedException", out);
    });
  }));

Deno.test("identity policies", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const key = await newKey(kms);
    const { caller, session } = names(setting);

    await t.step("the caller's own key may use no key", async () => {
      const callerKms = setting.kms("us-east-1", setting.aws.identities.caller);
      const why = (action: string) =>
        `because no identity-based policy allows the kms:${action} action`;
      await refused400(
        callerKms.send(new EncryptCommand({ KeyId: key.id, Plaintext: TEXT })),
        "AccessDeniedException",
        denied(caller, "Encrypt", key.arn, why("Encrypt")),
      );
      await refused400(
        callerKms.send(new ListAliasesCommand({})),
        "AccessDeniedException",
        denied(caller, "ListAliases", "*", why("ListAliases")),
      );
    });

    await t.step("the role may use keys and administer none", async () => {
      const roleKms = setting.kms("us-east-1", await assumeRole(setting));
      await roleKms.send(new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }));
      await roleKms.send(new ListAliasesCommand({}));
      const forbidden = [
        ["CreateKey", "*", roleKms.send(new CreateKeyCommand({}))],
        ["GetKeyPolicy", key.arn, roleKms.send(new GetKeyPolicyCommand({ KeyId: key.id }))],
      ] as const;
      for (const [action, resource, work] of forbidden) {
        const why = `because no identity-based policy allows the kms:${action} action`;
        const message = denied(session, action, resource, why);
        await refused400(work, "AccessDeniedException", message);
      }
    });

    await t.step("a session policy can only take away", async () => {
      const Policy = JSON.stringify({
        Version: "2012-10-17",
        Statement: { Effect: "Allow", Action: ["kms:Decrypt", "kms:CreateKey"], Resource: "*" },
      });
      const roleKms = setting.kms("us-east-1", await assumeRole(setting, { Policy }));
      const { CiphertextBlob } = await kms.send(
        new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }),
      );
      await roleKms.send(new DecryptCommand({ CiphertextBlob }));
      const encrypt = roleKms.send(new EncryptCommand({ KeyId: key.id, Plaintext: TEXT }));
      const why = "because no session policy allows the kms:Encrypt action";
      await refused400(encrypt, "AccessDeniedException", denied(session, "Encrypt", key.arn, why));
      const create = roleKms.send(new CreateKeyCommand({}));
      const not = "because no identity-based policy allows the kms:CreateKey action";
      await refused400(create, "AccessDeniedException", denied(session, "CreateKey", "*", not));
    });

    await t.step("permission is decided before the ciphertext is opened", async () => {
      const callerKms = setting.kms("us-east-1", setting.aws.identities.caller);
      const { CiphertextBlob } = await kms.send(
        new EncryptCommand({ KeyId: key.id, Plaintext: TEXT, EncryptionContext: { a: "1" } }),
      );
      const why = "because no identity-based policy allows the kms:Decrypt action";
      const message = denied(caller, "Decrypt", key.arn, why);
      const wrongContext = callerKms.send(new DecryptCommand({ CiphertextBlob }));
      await refused400(wrongContext, "AccessDeniedException", message);
      const asOperator = kms.send(new DecryptCommand({ CiphertextBlob }));
      await refused400(asOperator, "InvalidCiphertextException", NO_MESSAGE);
    });
  }));
