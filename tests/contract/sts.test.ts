import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  AssumeRoleCommand,
  type AssumeRoleCommandInput,
  GetCallerIdentityCommand,
} from "@aws-sdk/client-sts";
import { DescribeKeyCommand, ListAliasesCommand } from "@aws-sdk/client-kms";
import { assertRefused, constraint, TestClock, withAws } from "./support.ts";
import { assumeRole } from "./role.ts";

const EXPIRED = "The security token included in the request is expired";
const INVALID = "The security token included in the request is invalid.";

Deno.test("GetCallerIdentity", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const identity = async (credentials = aws.identities.caller) => {
      const { $metadata: _, ...rest } = await setting.sts("eu-west-1", credentials).send(
        new GetCallerIdentityCommand({}),
      );
      return rest;
    };

    await t.step("of a user", async () => {
      const { UserId, ...rest } = await identity();
      assertMatch(UserId ?? "", /^AIDA[A-Z2-7]{16}$/);
      const Arn = `arn:aws:iam::${aws.accountId}:user/parker-flight-caller`;
      assertEquals(rest, { Account: aws.accountId, Arn });
    });

    await t.step("of a role session", async () => {
      const { UserId, ...rest } = await identity(await assumeRole(setting));
      assertMatch(UserId ?? "", /^AROA[A-Z2-7]{16}:contract$/);
      const Arn = `arn:aws:sts::${aws.accountId}:assumed-role/parker-flight-kms/contract`;
      assertEquals(rest, { Account: aws.accountId, Arn });
    });
  }));

Deno.test("AssumeRole", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const { aws } = setting;
    const { role } = aws.identities;
    const sts = setting.sts();
    const good = {
      RoleArn: role.arn,
      ExternalId: role.externalId,
      RoleSessionName: "contract",
    };
    const assume = (input: Partial<AssumeRoleCommandInput>, client = sts) =>
      client.send(new AssumeRoleCommand({ ...good, ...input }));
    const callerArn = `arn:aws:iam::${aws.accountId}:user/parker-flight-caller`;
    const denied = (who: string, roleArn: string) => ({
      name: "AccessDenied",
      status: 403,
      message: `User: ${who} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`,
    });
    const invalid = (message: string) => ({ name: "ValidationError", status: 400, message });

    await t.step("gives temporary credentials for an hour", async () => {
      const { AssumedRoleUser, Credentials } = await assume({});
      assertEquals(
        AssumedRoleUser?.Arn,
        `arn:aws:sts::${aws.accountId}:assumed-role/parker-flight-kms/contract`,
      );
      assertMatch(Credentials?.AccessKeyId ?? "", /^ASIA[A-Z2-7]{16}$/);
      assertEquals(Credentials?.SecretAccessKey?.length, 40);
      const hour = Math.floor(clock.now() / 1000 + 3600) * 1000;
      assertEquals(Credentials?.Expiration, new Date(hour));
    });

    await t.step("needs the external id, exactly", async () => {
      for (const ExternalId of [undefined, "wrong", role.externalId.toUpperCase()]) {
        await assertRefused(assume({ ExternalId }), denied(callerArn, role.arn));
      }
    });

    await t.step("trusts the exact principal: not even the administrator", async () => {
      const operator = setting.sts("us-east-1", aws.identities.operator);
      const who = `arn:aws:iam::${aws.accountId}:user/operator`;
      await assertRefused(assume({}, operator), denied(who, role.arn));
    });

    await t.step("does not tell a role that does not exist from a refusal", async () => {
      const RoleArn = `arn:aws:iam::${aws.accountId}:role/none`;
      await assertRefused(assume({ RoleArn }), denied(callerArn, RoleArn));
      const RoleName = "a-name-instead-of-an-arn";
      await assertRefused(assume({ RoleArn: RoleName }), invalid(`${RoleName} is invalid`));
    });

    await t.step("sessions last 900 seconds to the role's maximum", async () => {
      const low = "Member must have value greater than or equal to 900";
      const high = "Member must have value less than or equal to 43200";
      const at = (value: number, rule: string) =>
        invalid(constraint("durationSeconds", `Value '${value}'`, rule));
      await assertRefused(assume({ DurationSeconds: 899 }), at(899, low));
      await assertRefused(assume({ DurationSeconds: 43_201 }), at(43_201, high));
      const most =
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
      await assertRefused(assume({ DurationSeconds: 3601 }), invalid(most));
      const { Credentials } = await assume({ DurationSeconds: 900 });
      const end = Math.floor(clock.now() / 1000 + 900) * 1000;
      assertEquals(Credentials?.Expiration, new Date(end));
    });

    await t.step("names and ids keep to their patterns, all faults told at once", async () => {
      const pattern = "Member must satisfy regular expression pattern: [\\w+=,.@-]*";
      const name = constraint("roleSessionName", "Value 'a b'", pattern);
      await assertRefused(assume({ RoleSessionName: "a b" }), invalid(name));
      const shortId = "Value '1' at 'externalId' failed to satisfy constraint: Member must have " +
        "length greater than or equal to 2";
      const shortName =
        "Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must " +
        "have length greater than or equal to 2";
      const both = `2 validation errors detected: ${shortName}; ${shortId}`;
      const work = assume({ RoleSessionName: "x", ExternalId: "1" });
      await assertRefused(work, invalid(both));
    });

    await t.step("a session policy must be one, of 2048 characters at most", async () => {
      await assertRefused(assume({ Policy: "{" }), {
        name: "MalformedPolicyDocumentException",
        status: 400,
        message: "This policy contains invalid Json",
      });
      await assertRefused(assume({ Policy: " ".repeat(2049) }), {
        name: "PackedPolicyTooLargeException",
        status: 400,
        message: "Packed policy consumes 101% of allotted space, please use smaller policy.",
      });
    });

    await t.step("credentials end when they say", async () => {
      const credentials = await assumeRole(setting, { DurationSeconds: 900 });
      clock.advance(898_000);
      const last = setting.kms("us-east-1", credentials);
      await last.send(new ListAliasesCommand({}));
      clock.advance(2000);
      await assertRefused(
        setting.kms("us-east-1", credentials).send(new ListAliasesCommand({})),
        { name: "ExpiredTokenException", status: 400, message: EXPIRED },
      );
      await assertRefused(
        setting.sts("us-east-1", credentials).send(new GetCallerIdentityCommand({})),
        { name: "ExpiredToken", status: 403, message: EXPIRED },
      );
    });

    await t.step("a token goes with its own key, and a temporary key with a token", async () => {
      const [one, two] = [await assumeRole(setting), await assumeRole(setting)];
      const describe = (credentials: Parameters<typeof setting.kms>[1]) =>
        setting.kms("us-east-1", credentials).send(new DescribeKeyCommand({ KeyId: "alias/a" }));
      const refusal = { name: "UnrecognizedClientException", status: 400, message: INVALID };
      const { sessionToken } = two;
      await assertRefused(describe({ ...one, sessionToken }), refusal);
      const { accessKeyId, secretAccessKey } = one;
      await assertRefused(describe({ accessKeyId, secretAccessKey }), refusal);
      const user = { ...aws.identities.operator, sessionToken };
      await assertRefused(describe(user), refusal);
      const broken = `${one.sessionToken.slice(0, -8)}AAAAAAAA`;
      await assertRefused(describe({ ...one, sessionToken: broken }), refusal);
    });
  }, { clock });
});

Deno.test("a role that assumes a role gets an hour at most", () => {
  const accountId = "000000000000";
  const parkerRole = `arn:aws:iam::${accountId}:role/parker-flight-kms`;
  const chained = {
    name: "chained",
    trustPolicy: {
      Version: "2012-10-17",
      Statement: {
        Effect: "Allow",
        Principal: { AWS: [parkerRole, `arn:aws:iam::${accountId}:root`] },
        Action: "sts:AssumeRole",
      },
    },
    policies: [],
    maxSessionDurationSeconds: 43_200,
  };
  return withAws(async (setting) => {
    assertEquals(setting.aws.accountId, accountId);
    const RoleArn = `arn:aws:iam::${accountId}:role/chained`;
    const assume = (credentials: Parameters<typeof setting.sts>[1], DurationSeconds: number) =>
      setting.sts("us-east-1", credentials).send(
        new AssumeRoleCommand({ RoleArn, RoleSessionName: "next", DurationSeconds }),
      );
    const session = await assumeRole(setting);
    await assertRefused(assume(session, 3601), {
      name: "ValidationError",
      status: 400,
      message: "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed " +
        "by role chaining",
    });
    assert((await assume(session, 3600)).Credentials);
    // The trust in the account leaves it to the user's own policies: the operator's allow it ...
    assert((await assume(setting.aws.identities.operator, 43_200)).Credentials);
    // ... and the caller's allow the suite's role only.
    await assertRefused(assume(setting.aws.identities.caller, 3600), {
      name: "AccessDenied",
      status: 403,
      message: `User: arn:aws:iam::${accountId}:user/parker-flight-caller is not authorized to ` +
        `perform: sts:AssumeRole on resource: ${RoleArn}`,
    });
  }, { roles: [chained] });
});
