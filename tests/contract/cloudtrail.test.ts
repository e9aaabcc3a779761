/** CloudTrail's LookupEvents over the wire; AWS's own command line has its turn in tests/aws-cli. */

import { assert, assertEquals } from "@std/assert";
import { CreateKeyCommand, ListKeysCommand } from "@aws-sdk/client-kms";
import { assumeRole } from "./role.ts";
import { type Credentials, rawRequest, type Setting, TestClock, withAws } from "./support.ts";

interface Event {
  readonly EventId: string;
  readonly EventName: string;
  readonly EventSource: string;
  readonly EventTime: number;
  readonly Username: string;
  readonly ReadOnly: string;
  readonly AccessKeyId: string;
  readonly CloudTrailEvent: string;
}

async function lookUp(
  { aws }: Setting,
  input: unknown,
  { region = "us-east-1", credentials = aws.identities.operator, at = Date.now() }: {
    region?: string;
    credentials?: Credentials;
    at?: number;
  } = {},
): Promise<{ Events: Event[]; NextToken?: string; __type?: string; message?: string }> {
  const reply = await rawRequest(aws, {
    service: "cloudtrail",
    region,
    credentials,
    at,
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents",
    },
    body: JSON.stringify(input),
  });
  return JSON.parse(reply.text);
}

const by = (AttributeKey: string, AttributeValue: string) => ({
  LookupAttributes: [{ AttributeKey, AttributeValue }],
});
const names = ({ Events }: { Events: Event[] }) => Events.map(({ EventName }) => EventName);

Deno.test("a key leads to what it called, and to the sessions it opened", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const { caller } = aws.identities;
    const session = await assumeRole(setting);
    await assumeRole(setting, { ExternalId: "guessed" }).catch(() => {});
    await setting.kms("us-east-1", session).send(new ListKeysCommand({})).catch(() => {});
    let opened = "";

    await t.step("newest first, refusals too", async () => {
      const { Events } = await lookUp(setting, by("AccessKeyId", caller.accessKeyId));
      const records = Events.map((event) => JSON.parse(event.CloudTrailEvent));
      assertEquals(records.map((record) => record.errorCode), ["AccessDenied", undefined]);
      const [, event] = Events;
      const [, record] = records;
      assert(event);
      assertEquals(
        [event.EventName, event.EventSource, event.Username, event.ReadOnly, event.AccessKeyId],
        ["AssumeRole", "sts.amazonaws.com", "parker-flight-caller", "true", caller.accessKeyId],
      );
      assertEquals([record.eventID, record.awsRegion], [event.EventId, "us-east-1"]);
      assertEquals([record.userIdentity.type, record.userIdentity.arn], [
        "IAMUser",
        `arn:aws:iam::${aws.accountId}:user/parker-flight-caller`,
      ]);
      opened = record.responseElements.credentials.accessKeyId;
      assertEquals(opened, session.accessKeyId);
    });

    await t.step("the session's own calls", async () => {
      const found = await lookUp(setting, by("AccessKeyId", opened));
      assertEquals(names(found), ["ListKeys"]);
      const [event] = found.Events;
      const record = JSON.parse(event?.CloudTrailEvent ?? "");
      assertEquals([event?.Username, record.userIdentity.type, record.errorCode], [
        "contract",
        "AssumedRole",
        "AccessDeniedException",
      ]);
    });

    await t.step("no secret, token or external id is in any of it", async () => {
      const all = JSON.stringify(await lookUp(setting, {}));
      for (
        const secret of [
          session.secretAccessKey,
          session.sessionToken,
          caller.secretAccessKey,
          aws.identities.role.externalId,
          "guessed",
        ]
      ) assert(!all.includes(secret));
    });

    await t.step("who is not known leaves no trace, as at AWS", async () => {
      const wrong = { ...caller, secretAccessKey: "wrong" };
      await setting.kms("us-east-1", wrong).send(new ListKeysCommand({})).catch(() => {});
      const { Events } = await lookUp(setting, by("AccessKeyId", caller.accessKeyId));
      assertEquals(Events.filter(({ EventName }) => EventName === "ListKeys"), []);
    });
  }));

Deno.test("events are looked up by region, attribute, time and page", (t) => {
  const clock = new TestClock();
  return withAws(async (setting) => {
    const east = setting.kms();
    await east.send(new CreateKeyCommand({}));
    clock.advance(60_000);
    const between = clock.now() / 1000;
    clock.advance(60_000);
    const later = setting.kms();
    for (let call = 0; call < 3; call++) await later.send(new ListKeysCommand({}));
    await setting.kms("eu-west-1").send(new ListKeysCommand({}));
    const look = (input: object, region = "us-east-1") =>
      lookUp(setting, input, { region, at: clock.now() });

    await t.step("a region has its own", async () => {
      assertEquals(names(await look({}, "eu-west-1")), ["ListKeys"]);
    });

    await t.step("by name, service and kind", async () => {
      assertEquals(names(await look(by("EventName", "CreateKey"))), ["CreateKey"]);
      assertEquals(names(await look(by("ReadOnly", "false"))), ["CreateKey"]);
      assertEquals((await look(by("EventSource", "kms.amazonaws.com"))).Events.length, 4);
      assertEquals((await look(by("Username", "nobody"))).Events, []);
    });

    await t.step("by time", async () => {
      const reads = by("EventSource", "kms.amazonaws.com");
      assertEquals(names(await look({ ...reads, EndTime: between })), ["CreateKey"]);
      assertEquals((await look({ ...reads, StartTime: between })).Events.length, 3);
      const reversed = await look({ StartTime: between, EndTime: between - 1 });
      assertEquals(reversed.__type, "InvalidTimeRangeException");
    });

    await t.step("page by page", async () => {
      const wanted = { ...by("EventSource", "kms.amazonaws.com"), MaxResults: 3 };
      const first = await look(wanted);
      assertEquals(first.Events.length, 3);
      const second = await look({ ...wanted, NextToken: first.NextToken });
      assertEquals([names(second), second.NextToken], [["CreateKey"], undefined]);
      const foreign = await look({ ...wanted, NextToken: "x" });
      assertEquals(foreign.__type, "InvalidNextTokenException");
      assertEquals((await look({ MaxResults: 51 })).__type, "InvalidMaxResultsException");
    });

    await t.step("one attribute at a time", async () => {
      const [one] = by("EventName", "CreateKey").LookupAttributes;
      const two = await look({ LookupAttributes: [one, one] });
      assertEquals(two.__type, "InvalidLookupAttributesException");
    });
  }, { clock });
});

Deno.test("the trail is the administrator's to read", () =>
  withAws(async (setting) => {
    const { aws } = setting;
    const { caller } = aws.identities;
    const { __type, message } = await lookUp(setting, {}, { credentials: caller });
    assertEquals([__type, message], [
      "AccessDeniedException",
      `User: arn:aws:iam::${aws.accountId}:user/parker-flight-caller is not authorized to perform: ` +
      "cloudtrail:LookupEvents because no identity-based policy allows the cloudtrail:LookupEvents " +
      "action",
    ]);
  }));
