import { assertEquals, assertMatch } from "@std/assert";
import { constraint, rawKms, type RawReply, rawRequest, withAws, xmlError } from "./support.ts";

const JSON_TYPE = "application/x-amz-json-1.1";

function assertError(reply: RawReply, name: string, message?: string, status = 400): void {
  assertEquals(reply.status, status);
  assertEquals(reply.headers.get("content-type"), JSON_TYPE);
  const expected = message === undefined ? { __type: name } : { __type: name, message };
  assertEquals(JSON.parse(reply.text), expected);
}

Deno.test("KMS on the wire: AWS JSON 1.1", (t) =>
  withAws(async ({ aws }) => {
    await t.step("answers carry type, length, date and a request id", async () => {
      const reply = await rawKms(aws, "ListKeys", "{}");
      assertEquals(reply.status, 200);
      assertEquals(reply.headers.get("content-type"), JSON_TYPE);
      assertEquals(reply.headers.get("content-length"), String(reply.text.length));
      assertMatch(reply.headers.get("x-amzn-requestid") ?? "", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-/);
      assertMatch(reply.headers.get("date") ?? "", /GMT$/);
      assertEquals(JSON.parse(reply.text), { Keys: [], Truncated: false });
    });

    await t.step("void operations answer nothing at all", async () => {
      const made = await rawKms(aws, "CreateKey", "{}");
      const { KeyId } = JSON.parse(made.text).KeyMetadata;
      const reply = await rawKms(aws, "DisableKey", JSON.stringify({ KeyId }));
      assertEquals([reply.status, reply.text], [200, ""]);
    });

    await t.step("times are seconds since the epoch", async () => {
      const made = await rawKms(aws, "CreateKey", "{}");
      const { CreationDate } = JSON.parse(made.text).KeyMetadata;
      assertEquals(typeof CreationDate, "number");
      assertEquals(Math.abs(Date.now() / 1000 - CreationDate) < 60, true);
    });

    await t.step("operations that nobody has", async () => {
      assertError(await rawKms(aws, "Encipher", "{}"), "UnknownOperationException");
      assertError(await rawKms(aws, "toString", "{}"), "UnknownOperationException");
      const headers = { "x-amz-target": "DynamoDB_20120810.ListTables" };
      const elsewhere = await rawRequest(aws, { body: "{}", headers });
      assertError(elsewhere, "UnknownOperationException");
      assertError(await rawRequest(aws, { method: "GET" }), "UnknownOperationException");
    });

    await t.step("another content type is another protocol", async () => {
      const reply = await rawKms(aws, "ListKeys", "{}", {
        headers: { "content-type": "application/json" },
      });
      assertError(reply, "UnknownOperationException");
    });

    await t.step("operations that AWS has and the local one does not", async () => {
      const message = "Sign is not supported by the local AWS.";
      assertError(await rawKms(aws, "Sign", "{}"), "UnsupportedOperationException", message);
    });

    await t.step("what is no JSON object", async () => {
      for (const body of ["", "{", "\u0000", '{"Limit":1}x', "nul"]) {
        assertError(await rawKms(aws, "ListKeys", body), "SerializationException");
      }
      const list = "Start of list can not be converted to a Structure";
      assertError(await rawKms(aws, "ListKeys", "[]"), "SerializationException", list);
      const text = "STRING_VALUE can not be converted to a Structure";
      assertError(await rawKms(aws, "ListKeys", '"x"'), "SerializationException", text);
    });

    await t.step("values of a wrong type", async () => {
      const cases: readonly (readonly [string, string, string])[] = [
        ["DescribeKey", '{"KeyId":1}', "NUMBER_VALUE can not be converted to a String"],
        [
          "DescribeKey",
          '{"KeyId":{}}',
          "Start of structure or map can not be converted to a String",
        ],
        ["ListKeys", '{"Limit":"1"}', "STRING_VALUE can not be converted to an Integer"],
        ["ListKeys", '{"Limit":1.5}', "NUMBER_VALUE can not be converted to an Integer"],
        ["CreateKey", '{"MultiRegion":"true"}', "STRING_VALUE can not be converted to a Boolean"],
        ["CreateKey", '{"Tags":{}}', "Start of structure or map can not be converted to a List"],
        [
          "Encrypt",
          '{"KeyId":"k","Plaintext":7}',
          "NUMBER_VALUE can not be converted to a ByteBuffer",
        ],
        ["Encrypt", '{"KeyId":"k","Plaintext":"?"}', "Unable to decode a Base64 value"],
        ["Encrypt", '{"KeyId":"k","Plaintext":"YQ"}', "Unable to decode a Base64 value"],
        [
          "Encrypt",
          '{"KeyId":"k","Plaintext":"YQ==","EncryptionContext":[]}',
          "Start of list can not be converted to a Map",
        ],
        [
          "Encrypt",
          '{"KeyId":"k","Plaintext":"YQ==","EncryptionContext":{"a":1}}',
          "NUMBER_VALUE can not be converted to a String",
        ],
      ];
      for (const [operation, body, message] of cases) {
        assertError(await rawKms(aws, operation, body), "SerializationException", message);
      }
    });

    await t.step("required members; null is no value", async () => {
      const message = constraint("keyId", "Value null", "Member must not be null");
      assertError(await rawKms(aws, "DescribeKey", "{}"), "ValidationException", message);
      const none = await rawKms(aws, "DescribeKey", '{"KeyId":null}');
      assertError(none, "ValidationException", message);
    });

    await t.step("all broken constraints are told at once", async () => {
      const reply = await rawKms(aws, "Encrypt", '{"KeyId":"","Plaintext":""}');
      const min =
        "failed to satisfy constraint: Member must have length greater than or equal to 1";
      assertError(
        reply,
        "ValidationException",
        `2 validation errors detected: Value '' at 'keyId' ${min}; Value at 'plaintext' ${min}`,
      );
    });

    await t.step("a member that the operation does not have is refused", async () => {
      const reply = await rawKms(aws, "DescribeKey", '{"KeyId":"k","Keyid":"l","__proto__":"m"}');
      const unknown = (name: string) =>
        `Value at '${name}' failed to satisfy constraint: Member must be known`;
      const message = `2 validation errors detected: ${unknown("keyid")}; ${unknown("__proto__")}`;
      assertError(reply, "ValidationException", message);
    });

    await t.step("a body over one mebibyte", async () => {
      const reply = await rawKms(aws, "ListKeys", `{"Marker":"${"m".repeat(1024 * 1024)}"}`);
      const message = "The request exceeds 1048576 bytes.";
      assertError(reply, "RequestEntityTooLargeException", message, 413);
    });
  }));

Deno.test("STS on the wire: query in, XML out", (t) =>
  withAws(async ({ aws }) => {
    const ask = (body: string) => rawRequest(aws, { service: "sts", body });
    const version = "Version=2011-06-15";

    await t.step("GetCallerIdentity", async () => {
      const reply = await ask(`Action=GetCallerIdentity&${version}`);
      assertEquals(reply.status, 200);
      assertEquals(reply.headers.get("content-type"), "text/xml");
      const id = reply.headers.get("x-amzn-requestid");
      const user = /<UserId>(AIDA[A-Z2-7]{16})<\/UserId>/.exec(reply.text)?.[1];
      assertEquals(
        reply.text,
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">' +
          `<GetCallerIdentityResult><Arn>arn:aws:iam::${aws.accountId}:user/operator</Arn>` +
          `<UserId>${user}</UserId><Account>${aws.accountId}</Account></GetCallerIdentityResult>` +
          `<ResponseMetadata><RequestId>${id}</RequestId></ResponseMetadata>` +
          "</GetCallerIdentityResponse>\n",
      );
    });

    await t.step("an action that it does not have", async () => {
      const reply = await ask(`Action=Get%3CToken%3E&${version}`);
      assertEquals(reply.status, 400);
      assertEquals(xmlError(reply.text), {
        type: "Sender",
        code: "InvalidAction",
        message: "Could not find operation Get&lt;Token&gt; for version 2011-06-15",
      });
    });

    await t.step("parameters that are missing, doubled or unknown", async () => {
      const required = (name: string) =>
        `Value null at &apos;${name}&apos; failed to satisfy constraint: Member must not be null`;
      const missing = await ask(`Action=AssumeRole&${version}`);
      assertEquals(xmlError(missing.text), {
        type: "Sender",
        code: "ValidationError",
        message: `2 validation errors detected: ${required("roleArn")}; ${
          required("roleSessionName")
        }`,
      });
      const doubled = await ask(`Action=AssumeRole&${version}&RoleArn=a&RoleArn=b`);
      assertEquals(xmlError(doubled.text).code, "MalformedInput");
      const unknown = await ask(`Action=GetCallerIdentity&${version}&Colour=red`);
      assertEquals(
        xmlError(unknown.text).message,
        "1 validation error detected: Parameter &apos;Colour&apos; is not supported here",
      );
    });
  }));
