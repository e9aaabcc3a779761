/** IAM's access keys as the official client sees them. */

import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import {
  CreateAccessKeyCommand,
  DeleteAccessKeyCommand,
  GetAccessKeyLastUsedCommand,
  GetUserCommand,
  type IAMClient,
  ListAccessKeysCommand,
  UpdateAccessKeyCommand,
} from "@aws-sdk/client-iam";
import { ListKeysCommand } from "@aws-sdk/client-kms";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { startLocalAws } from "../../local/aws/mod.ts";
import { assumeRole } from "./role.ts";
import {
  assertRefused,
  constraint,
  type Credentials,
  rawRequest,
  type Setting,
  TestClock,
  withAws,
  xmlError,
} from "./support.ts";

const UserName = "parker-flight-caller";
const INVALID_TOKEN = "The security token included in the request is invalid.";
const invalid = (message: string) => ({ name: "ValidationError", status: 400, message });
const noSuch = (what: string) => ({
  name: "NoSuchEntityException",
  status: 404,
  message: `The ${what} cannot be found.`,
});

async function newKey(iam: IAMClient, input = { UserName }): Promise<Credentials> {
  const { AccessKey } = await iam.send(new CreateAccessKeyCommand(input));
  const { AccessKeyId: accessKeyId = "", SecretAccessKey: secretAccessKey = "" } = AccessKey ?? {};
  return { accessKeyId, secretAccessKey };
}

async function arnOf(setting: Setting, credentials: Credentials): Promise<string | undefined> {
  return (await setting.sts("us-east-1", credentials).send(new GetCallerIdentityCommand({}))).Arn;
}

function assertUnknown(setting: Setting, credentials: Credentials): Promise<void> {
  return assertRefused(arnOf(setting, credentials), {
    name: "InvalidClientTokenId",
    status: 403,
    message: INVALID_TOKEN,
  });
}

Deno.test("access keys are made, switched off and on, and deleted", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const { aws } = setting;
    const iam = setting.iam();
    const first = aws.identities.caller;
    const arn = `arn:aws:iam::${aws.accountId}:user/${UserName}`;
    const status = (accessKeyId: string, Status: "Active" | "Inactive") =>
      iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId: accessKeyId, Status }));
    let second = first;

    await t.step("a new one is active at once, beside the old one", async () => {
      second = await newKey(iam);
      assertMatch(second.accessKeyId, /^AKIA[A-Z2-7]{16}$/);
      assertEquals(second.secretAccessKey.length, 40);
      assertNotEquals(second, first);
      assertEquals(
        [first, second, aws.identities.operator].map((key) => aws.isCallerKey(key.accessKeyId)),
        [true, true, false],
      );
      assertEquals([await arnOf(setting, first), await arnOf(setting, second)], [arn, arn]);
    });

    await t.step("two are the limit", () =>
      assertRefused(newKey(iam), {
        name: "LimitExceededException",
        status: 409,
        message: "Cannot exceed quota for AccessKeysPerUser: 2",
      }));

    await t.step("a list has their states and no secret", async () => {
      const { AccessKeyMetadata, IsTruncated } = await iam.send(
        new ListAccessKeysCommand({ UserName }),
      );
      assertEquals(IsTruncated, false);
      assertEquals(
        AccessKeyMetadata?.map(({ CreateDate, ...rest }) => {
          assert(CreateDate instanceof Date);
          return rest;
        }),
        [first, second].map((key) => ({
          UserName,
          AccessKeyId: key.accessKeyId,
          Status: "Active" as const,
        })),
      );
    });

    await t.step("page by page, with markers of this list only", async () => {
      const list = async (input: { UserName?: string; Marker?: string | undefined }) => {
        const page = await iam.send(new ListAccessKeysCommand({ MaxItems: 1, ...input }));
        return { ids: page.AccessKeyMetadata?.map((key) => key.AccessKeyId), marker: page.Marker };
      };
      const one = await list({ UserName });
      assertEquals(one.ids, [first.accessKeyId]);
      assert(one.marker);
      const two = await list({ UserName, Marker: one.marker });
      assertEquals(two, { ids: [second.accessKeyId], marker: undefined });
      await assertRefused(list({ Marker: one.marker }), invalid("Invalid Marker."));
      await assertRefused(list({ UserName, Marker: "x" }), invalid("Invalid Marker."));
    });

    await t.step("an inactive one is nobody's, by each service's own name for it", async () => {
      const session = await assumeRole(setting);
      await status(first.accessKeyId, "Inactive");
      await assertUnknown(setting, first);
      await assertRefused(setting.kms("us-east-1", first).send(new ListKeysCommand({})), {
        name: "UnrecognizedClientException",
        status: 400,
        message: INVALID_TOKEN,
      });
      assertEquals(await arnOf(setting, second), arn);
      // As at AWS, what was opened with it lives on until it expires or a policy ends it.
      assertMatch(await arnOf(setting, session) ?? "", /assumed-role/);
    });

    await t.step("switched on again it is as before", async () => {
      await status(first.accessKeyId, "Active");
      assertEquals(await arnOf(setting, first), arn);
    });

    await t.step("deleted it is gone, and makes room", async () => {
      await iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId: first.accessKeyId }));
      await assertUnknown(setting, first);
      await assertRefused(
        status(first.accessKeyId, "Active"),
        noSuch(`Access Key with id ${first.accessKeyId}`),
      );
      assertEquals(await arnOf(setting, await newKey(iam)), arn);
    });

    await t.step("when it was used last, and for what", async () => {
      const lastUsed = async (accessKeyId: string) => {
        const { $metadata: _, ...rest } = await iam.send(
          new GetAccessKeyLastUsedCommand({ AccessKeyId: accessKeyId }),
        );
        return rest;
      };
      clock.advance(60_000);
      const late = setting.sts("eu-west-1", second);
      await late.send(new GetCallerIdentityCommand({}));
      assertEquals(await lastUsed(second.accessKeyId), {
        UserName,
        AccessKeyLastUsed: {
          LastUsedDate: new Date(Math.floor(clock.now() / 1000) * 1000),
          ServiceName: "sts",
          Region: "eu-west-1",
        },
      });
      await iam.send(
        new DeleteAccessKeyCommand({ UserName, AccessKeyId: second.accessKeyId }),
      );
      const fresh = await newKey(iam);
      assertEquals((await lastUsed(fresh.accessKeyId)).AccessKeyLastUsed, {
        ServiceName: "N/A",
        Region: "N/A",
      });
      // What was never signed with it is no use of it.
      const forged = { ...fresh, secretAccessKey: "guessed" };
      await arnOf(setting, forged).catch(() => {});
      const { ServiceName } = (await lastUsed(fresh.accessKeyId)).AccessKeyLastUsed ?? {};
      assertEquals(ServiceName, "N/A");
      await assertRefused(
        lastUsed("AKIAEXAMPLEEXAMPLE00"),
        noSuch("Access Key with id AKIAEXAMPLEEXAMPLE00"),
      );
    });
  }, { clock });
});

Deno.test("whose keys: by name, or the caller's own", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const iam = setting.iam();

    await t.step("without a name, of the user who signs", async () => {
      const { User } = await iam.send(new GetUserCommand({}));
      const { UserId, CreateDate, ...rest } = User ?? {};
      assertMatch(UserId ?? "", /^AIDA[A-Z2-7]{16}$/);
      assert(CreateDate instanceof Date);
      const Arn = `arn:aws:iam::${aws.accountId}:user/operator`;
      assertEquals(rest, { Path: "/", UserName: "operator", Arn });
      const { AccessKeyMetadata } = await iam.send(new ListAccessKeysCommand({}));
      assertEquals(AccessKeyMetadata?.map((key) => key.AccessKeyId), [
        aws.identities.operator.accessKeyId,
      ]);
    });

    await t.step("a session has to name one", async () => {
      const session = setting.iam(await assumeRole(setting));
      await assertRefused(
        session.send(new ListAccessKeysCommand({})),
        invalid("Must specify userName when calling with non-User credentials"),
      );
    });

    await t.step("one that is not there; a key of somebody else", async () => {
      await assertRefused(
        newKey(iam, { UserName: "nobody" }),
        noSuch("user with name nobody"),
      );
      const AccessKeyId = aws.identities.operator.accessKeyId;
      await assertRefused(
        iam.send(new DeleteAccessKeyCommand({ UserName, AccessKeyId })),
        noSuch(`Access Key with id ${AccessKeyId}`),
      );
      await assertRefused(
        iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status: "Inactive" })),
        noSuch(`Access Key with id ${AccessKeyId}`),
      );
    });

    await t.step("names, ids, states and limits keep to their constraints", async () => {
      const pattern = "Member must satisfy regular expression pattern: [\\w+=,.@-]+";
      await assertRefused(
        newKey(iam, { UserName: "a b" }),
        invalid(constraint("userName", "Value 'a b'", pattern)),
      );
      const AccessKeyId = aws.identities.caller.accessKeyId;
      const Status = "Asleep" as "Active";
      const states = "Member must satisfy enum value set: [Active, Inactive]";
      await assertRefused(
        iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status })),
        invalid(constraint("status", "Value 'Asleep'", states)),
      );
      const low = "Member must have value greater than or equal to 1";
      await assertRefused(
        iam.send(new ListAccessKeysCommand({ UserName, MaxItems: 0 })),
        invalid(constraint("maxItems", "Value '0'", low)),
      );
    });
  }));

Deno.test("IAM is the administrator's: neither the caller's key nor the role may anything", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const user = `arn:aws:iam::${aws.accountId}:user/${UserName}`;
    const denied = (who: string, operation: string, shown: string) => ({
      name: "AccessDenied",
      status: 403,
      message: `User: ${who} is not authorized to perform: iam:${operation} on resource: ` +
        `${shown} because no identity-based policy allows the iam:${operation} action`,
    });

    await t.step("the caller's key, about itself or the administrator", async () => {
      const iam = setting.iam(aws.identities.caller);
      await assertRefused(
        newKey(iam),
        denied(user, "CreateAccessKey", `user ${UserName}`),
      );
      const operator = { UserName: "operator" };
      await assertRefused(
        iam.send(new ListAccessKeysCommand(operator)),
        denied(user, "ListAccessKeys", "user operator"),
      );
      // Who may not ask is not told whether there is such a user.
      await assertRefused(
        iam.send(new GetUserCommand({ UserName: "nobody" })),
        denied(user, "GetUser", "user nobody"),
      );
    });

    await t.step("a session of the role", async () => {
      const iam = setting.iam(await assumeRole(setting));
      const session = `arn:aws:sts::${aws.accountId}:assumed-role/parker-flight-kms/contract`;
      await assertRefused(newKey(iam), denied(session, "CreateAccessKey", `user ${UserName}`));
      const AccessKeyId = aws.identities.caller.accessKeyId;
      await assertRefused(
        iam.send(new GetAccessKeyLastUsedCommand({ AccessKeyId })),
        denied(session, "GetAccessKeyLastUsed", `access key ${AccessKeyId}`),
      );
    });
  }));

Deno.test("IAM on the wire: query in, XML out, one region", (t) =>
  withAws(async ({ aws }) => {
    const send = (body: string, more = {}) => rawRequest(aws, { service: "iam", body, ...more });
    const version = "Version=2010-05-08";

    await t.step("an answer and its namespace; what answers nothing has no result", async () => {
      const list = await send(`Action=ListAccessKeys&${version}`);
      assertEquals([list.status, list.headers.get("content-type")], [200, "text/xml"]);
      assertMatch(
        list.text,
        /^<ListAccessKeysResponse xmlns="https:\/\/iam\.amazonaws\.com\/doc\/2010-05-08\/"><ListAccessKeysResult><AccessKeyMetadata><member><UserName>operator<\/UserName>/,
      );
      const { caller } = aws.identities;
      const update = await send(
        `Action=UpdateAccessKey&${version}&UserName=${UserName}&Status=Active&` +
          `AccessKeyId=${caller.accessKeyId}`,
      );
      assertMatch(
        update.text,
        /^<UpdateAccessKeyResponse [^>]+><ResponseMetadata><RequestId>[^<]+<\/RequestId><\/ResponseMetadata><\/UpdateAccessKeyResponse>\n$/,
      );
    });

    await t.step("an operation that it does not have; a parameter of none", async () => {
      const absent = await send(`Action=DeleteUser&${version}`);
      assertEquals([absent.status, xmlError(absent.text)], [400, {
        type: "Sender",
        code: "InvalidAction",
        message: "The local AWS has no operation DeleteUser of IAM, version 2010-05-08.",
      }]);
      const typo = await send(`Action=ListAccessKeys&${version}&Usernam=x`);
      assertEquals(xmlError(typo.text).code, "ValidationError");
    });

    await t.step("signatures of another region or service are refused", async () => {
      for (const scope of [{ region: "eu-west-1" }, { scopeService: "sts" }]) {
        const reply = await send(`Action=ListAccessKeys&${version}`, scope);
        assertEquals([reply.status, xmlError(reply.text).code], [403, "SignatureDoesNotMatch"]);
      }
    });
  }));

Deno.test("keys live on in the state file, which is its owner's alone", async () => {
  const folder = await Deno.makeTempDir({ prefix: "iam-" });
  const stateFile = `${folder}/aws.json`;
  try {
    let second: Credentials | undefined;
    let handedOut: Credentials | undefined;
    await withAws(async (setting) => {
      handedOut = setting.aws.identities.caller;
      const iam = setting.iam();
      second = await newKey(iam);
      const AccessKeyId = handedOut.accessKeyId;
      await iam.send(new UpdateAccessKeyCommand({ UserName, AccessKeyId, Status: "Inactive" }));
    }, { stateFile });
    assertEquals(((await Deno.stat(stateFile)).mode ?? 0) & 0o777, 0o600);
    await withAws(async (setting) => {
      assert(second && handedOut);
      assertEquals(setting.aws.identities.caller, handedOut);
      await assertUnknown(setting, handedOut);
      assertMatch(await arnOf(setting, second) ?? "", /parker-flight-caller$/);
      assert(await arnOf(setting, setting.aws.identities.operator));
    }, { stateFile });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a state file that knows no IAM yet is taken as it is", async () => {
  const folder = await Deno.makeTempDir({ prefix: "iam-" });
  const stateFile = `${folder}/aws.json`;
  try {
    const before = await startLocalAws({ stateFile });
    await before.close();
    const { iam: _, ...old } = JSON.parse(await Deno.readTextFile(stateFile));
    await Deno.writeTextFile(stateFile, JSON.stringify(old));
    await withAws(async (setting) => {
      assertEquals(setting.aws.identities, before.identities);
      assert(await assumeRole(setting));
      assert(await newKey(setting.iam()));
    }, { stateFile });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
