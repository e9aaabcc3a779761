/** IAM's role policies as the official client sees them, and what they do to sessions. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  DeleteRolePolicyCommand,
  GetRoleCommand,
  GetRolePolicyCommand,
  ListRolePoliciesCommand,
  PutRolePolicyCommand,
  UpdateAssumeRolePolicyCommand,
} from "@aws-sdk/client-iam";
import { CreateKeyCommand, DecryptCommand, EncryptCommand } from "@aws-sdk/client-kms";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { assumeRole, type TemporaryCredentials } from "./role.ts";
import { assertRefused, refused400, type Setting, TestClock, withAws } from "./support.ts";

const RoleName = "parker-flight-kms";
const PolicyName = "AWSRevokeOlderSessions";
const malformed = (work: Promise<unknown>, message: string) =>
  refused400(work, "MalformedPolicyDocumentException", message);
const noSuch = (what: string) => ({
  name: "NoSuchEntityException",
  status: 404,
  message: `The ${what} cannot be found.`,
});

/** As the console writes it when sessions are revoked. */
function revokeBefore(at: number): string {
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: [{
      Effect: "Deny",
      Action: ["*"],
      Resource: ["*"],
      Condition: { DateLessThan: { "aws:TokenIssueTime": new Date(at).toISOString() } },
    }],
  });
}

const put = (setting: Setting, PolicyDocument: string, name = PolicyName) =>
  setting.iam().send(new PutRolePolicyCommand({ RoleName, PolicyName: name, PolicyDocument }));

/** A ciphertext that the role can open, and whether a session opens it. */
async function sealed(setting: Setting) {
  const kms = setting.kms();
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  const { CiphertextBlob } = await kms.send(
    new EncryptCommand({ KeyId: KeyMetadata?.KeyId, Plaintext: Uint8Array.of(1) }),
  );
  const opens = (credentials: TemporaryCredentials) =>
    setting.kms("us-east-1", credentials).send(new DecryptCommand({ CiphertextBlob }));
  return { arn: KeyMetadata?.Arn ?? "", opens };
}

Deno.test("a Deny by time of issue ends sessions opened before, and no later one", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const { aws } = setting;
    const { arn, opens } = await sealed(setting);
    const session = `arn:aws:sts::${aws.accountId}:assumed-role/${RoleName}/contract`;
    const ended = (credentials: TemporaryCredentials) =>
      refused400(
        opens(credentials),
        "AccessDeniedException",
        `User: ${session} is not authorized to perform: kms:Decrypt on resource: ${arn} with an ` +
          "explicit deny in an identity-based policy",
      );
    const old = await assumeRole(setting);
    clock.advance(2000);
    const revokedAt = clock.now();

    await t.step("one from before is refused by KMS, at once", async () => {
      assertEquals((await opens(old)).Plaintext, Uint8Array.of(1));
      await put(setting, revokeBefore(revokedAt));
      await ended(old);
    });

    await t.step("but may still say who it is, as at AWS", async () => {
      const { Arn } = await setting.sts("us-east-1", old).send(new GetCallerIdentityCommand({}));
      assertEquals(Arn, session);
    });

    await t.step("one from after is accepted", async () => {
      clock.advance(1000);
      assertEquals((await opens(await assumeRole(setting))).Plaintext, Uint8Array.of(1));
      await ended(old);
    });

    await t.step("without the policy the old one is good again until it expires", async () => {
      await setting.iam().send(new DeleteRolePolicyCommand({ RoleName, PolicyName }));
      assertEquals((await opens(old)).Plaintext, Uint8Array.of(1));
    });

    await t.step("long-term keys have no time of issue: Null tells them apart", async () => {
      const Statement = [{
        Effect: "Deny",
        Action: "*",
        Resource: "*",
        Condition: { Null: { "aws:TokenIssueTime": "false" } },
      }];
      await put(setting, JSON.stringify({ Version: "2012-10-17", Statement }));
      await ended(await assumeRole(setting));
    });
  }, { clock });
});

Deno.test("the trust policy decides who opens sessions, with which external ids", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const iam = setting.iam();
    const { externalId } = aws.identities.role;
    const caller = `arn:aws:iam::${aws.accountId}:user/parker-flight-caller`;
    const trust = (ids: string | string[], principal = caller) =>
      JSON.stringify({
        Version: "2012-10-17",
        Statement: [{
          Effect: "Allow",
          Principal: { AWS: principal },
          Action: "sts:AssumeRole",
          Condition: { StringEquals: { "sts:ExternalId": ids } },
        }],
      });
    const update = (PolicyDocument: string) =>
      iam.send(new UpdateAssumeRolePolicyCommand({ RoleName, PolicyDocument }));
    const denied = (ExternalId: string) =>
      assertRefused(assumeRole(setting, { ExternalId }), {
        name: "AccessDenied",
        status: 403,
        message: `User: ${caller} is not authorized to perform: sts:AssumeRole on resource: ` +
          aws.identities.role.arn,
      });

    await t.step("it is shown as it was put", async () => {
      const { Role } = await iam.send(new GetRoleCommand({ RoleName }));
      const { AssumeRolePolicyDocument = "", CreateDate, RoleId, ...rest } = Role ?? {};
      assertEquals(decodeURIComponent(AssumeRolePolicyDocument), trust(externalId));
      assertMatch(AssumeRolePolicyDocument, /^%7B%22Version%22%3A/);
      assertMatch(RoleId ?? "", /^AROA[A-Z2-7]{16}$/);
      assert(CreateDate instanceof Date);
      assertEquals(rest, {
        Path: "/",
        RoleName,
        Arn: aws.identities.role.arn,
        MaxSessionDuration: 3600,
      });
    });

    await t.step("two ids during a change, one after it", async () => {
      await denied("the-new-one");
      await update(trust([externalId, "the-new-one"]));
      assert(await assumeRole(setting, { ExternalId: "the-new-one" }));
      assert(await assumeRole(setting, { ExternalId: externalId }));
      await denied("another");
      await update(trust("the-new-one"));
      assert(await assumeRole(setting, { ExternalId: "the-new-one" }));
      await denied(externalId);
    });

    await t.step("what is no trust policy is refused, and changes nothing", async () => {
      const nobody = `arn:aws:iam::${aws.accountId}:user/nobody`;
      await malformed(
        update(trust("id", nobody)),
        `Invalid principal in policy: "AWS":"${nobody}"`,
      );
      const of = (statement: object) =>
        JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", ...statement }] });
      const AWS = { AWS: caller };
      await malformed(
        update(of({ Principal: AWS, Action: "kms:Decrypt" })),
        "AssumeRole policy may only specify STS AssumeRole actions.",
      );
      await malformed(
        update(of({ Principal: AWS, Action: "sts:AssumeRole", Resource: "*" })),
        "Has prohibited field Resource",
      );
      await malformed(
        update(of({ Action: "sts:AssumeRole" })),
        "Policy contains a statement with no principal.",
      );
      await malformed(update("{"), "This policy contains invalid Json");
      await assertRefused(update(trust("x".repeat(2048))), {
        name: "LimitExceededException",
        status: 409,
        message: "Cannot exceed quota for ACLSizePerRole: 2048",
      });
      assert(await assumeRole(setting, { ExternalId: "the-new-one" }));
    });

    await t.step("a document that holds a secret is in no message", async () => {
      const error = await update("\u0100 the-new-one").catch((error) => error);
      assertEquals(error.name, "ValidationError");
      assert(!error.message.includes("the-new-one"), error.message);
    });
  }));

Deno.test("inline policies are put, shown, listed and deleted", (t) =>
  withAws(async (setting) => {
    const iam = setting.iam();
    const names = async (input = {}) => {
      const page = await iam.send(new ListRolePoliciesCommand({ RoleName, ...input }));
      return { names: page.PolicyNames, marker: page.Marker, more: page.IsTruncated };
    };
    const get = (name: string) =>
      iam.send(new GetRolePolicyCommand({ RoleName, PolicyName: name }));
    const remove = (name: string) =>
      iam.send(new DeleteRolePolicyCommand({ RoleName, PolicyName: name }));
    const statement = (members: object) =>
      JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Deny", ...members }] });
    const document = statement({ Action: "kms:*", Resource: "*" });

    await t.step("the suite's own is one of them", async () => {
      assertEquals(await names(), { names: ["KmsAccess"], marker: undefined, more: false });
      const { PolicyDocument = "" } = await get("KmsAccess");
      assertEquals(JSON.parse(decodeURIComponent(PolicyDocument)).Version, "2012-10-17");
    });

    await t.step("put, and put again", async () => {
      await put(setting, document, "__proto__");
      await put(setting, revokeBefore(0), "__proto__");
      const { $metadata: _, PolicyDocument = "", ...rest } = await get("__proto__");
      assertEquals(rest, { RoleName, PolicyName: "__proto__" });
      assertEquals(decodeURIComponent(PolicyDocument), revokeBefore(0));
      const first = await names({ MaxItems: 1 });
      assertEquals([first.names, first.more], [["KmsAccess"], true]);
      const second = await names({ Marker: first.marker });
      assertEquals(second, { names: ["__proto__"], marker: undefined, more: false });
    });

    await t.step("deleted, also the suite's own: then the role may nothing", async () => {
      await remove("__proto__");
      assertEquals((await names()).names, ["KmsAccess"]);
      const { opens } = await sealed(setting);
      const session = await assumeRole(setting);
      await opens(session);
      await remove("KmsAccess");
      const error = await opens(session).catch((error) => error);
      assertEquals(error.name, "AccessDeniedException");
      await assertRefused(get("KmsAccess"), noSuch("role policy with name KmsAccess"));
      await assertRefused(remove("KmsAccess"), noSuch("role policy with name KmsAccess"));
    });

    await t.step("of a role that is not there", async () => {
      await assertRefused(
        iam.send(new GetRoleCommand({ RoleName: "none" })),
        noSuch("role with name none"),
      );
    });

    await t.step("what would deny nothing, or allow nobody knows what, is refused", async () => {
      const on = (Condition: object) => statement({ Action: "*", Resource: "*", Condition });
      await malformed(
        put(setting, on({ DateLessThan: { "aws:TokenIssueTime": "yesterday" } })),
        "Syntax errors in policy.",
      );
      await malformed(
        put(setting, on({ DateBefore: { "aws:TokenIssueTime": "2026-11-25T00:00:00Z" } })),
        "Invalid Condition type : DateBefore.",
      );
      await malformed(
        put(setting, statement({ Action: "Decrypt", Resource: "*" })),
        "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
      );
      await malformed(
        put(setting, statement({ Principal: "*", Action: "*", Resource: "*" })),
        "Policy document should not specify a principal.",
      );
      await malformed(
        put(setting, statement({ Action: "*" })),
        "Policy statement must contain resources.",
      );
    });

    await t.step("all of them together have 10240 characters, without white space", async () => {
      const padded = (length: number) =>
        statement({ Sid: "x".repeat(length), Action: "*", Resource: "*" });
      await put(setting, `${" ".repeat(20_000)}${padded(5000)}`, "one");
      await assertRefused(put(setting, padded(5200), "two"), {
        name: "LimitExceededException",
        status: 409,
        message: `Maximum policy size of 10240 bytes exceeded for role ${RoleName}`,
      });
      await put(setting, padded(5200), "one");
    });
  }));

Deno.test("what was changed of the role lives on in the state file", async () => {
  const folder = await Deno.makeTempDir({ prefix: "iam-" });
  const stateFile = `${folder}/aws.json`;
  const clock = new TestClock();
  try {
    let old: TemporaryCredentials | undefined;
    await withAws(async (setting) => {
      old = await assumeRole(setting);
      clock.advance(2000);
      await put(setting, revokeBefore(clock.now()));
    }, { stateFile, clock });
    clock.advance(1000);
    await withAws(async (setting) => {
      assert(old);
      const { opens } = await sealed(setting);
      const error = await opens(old).catch((error) => error);
      assertEquals(error.name, "AccessDeniedException");
      await opens(await assumeRole(setting));
      const { PolicyNames } = await setting.iam().send(new ListRolePoliciesCommand({ RoleName }));
      assertEquals(PolicyNames, ["KmsAccess", PolicyName]);
    }, { stateFile, clock });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
