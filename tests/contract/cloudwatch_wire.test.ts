/** CloudWatch's three wire protocols, its errors in each, and the switches that all services share. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { ListMetricsCommand, PutMetricDataCommand } from "@aws-sdk/client-cloudwatch";
import { gzipSync } from "node:zlib";
import { decodeCbor, encodeCbor } from "../../local/aws/cloudwatch/cbor.ts";
import {
  assertRefused,
  type Credentials,
  type RawReply,
  rawRequest,
  refused400,
  type Setting,
  withAws,
  xmlError,
} from "./support.ts";

const NAMESPACE = "ParkerFlight/KMS";
const TARGET = "GraniteServiceVersion20100801.";
const INPUT = { Namespace: NAMESPACE, MetricData: [{ MetricName: "m", Value: 1 }] };

function rawJson(
  setting: Setting,
  operation: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<RawReply> {
  return rawRequest(setting.aws, {
    service: "monitoring",
    body,
    headers: {
      "content-type": "application/x-amz-json-1.0",
      "x-amz-target": TARGET + operation,
      ...headers,
    },
  });
}

function rawQuery(setting: Setting, form: Record<string, string>, credentials?: Credentials) {
  return rawRequest(setting.aws, {
    service: "monitoring",
    body: new URLSearchParams({ Version: "2010-08-01", ...form }).toString(),
    ...credentials === undefined ? {} : { credentials },
  });
}

async function rawCbor(
  setting: Setting,
  operation: string,
  input: unknown,
  headers: Record<string, string> = {},
) {
  const reply = await rawRequest(setting.aws, {
    service: "monitoring",
    path: `/service/GraniteServiceVersion20100801/operation/${operation}`,
    body: input instanceof Uint8Array ? new Uint8Array(input) : new Uint8Array(encodeCbor(input)),
    headers: {
      "content-type": "application/cbor",
      "smithy-protocol": "rpc-v2-cbor",
      ...headers,
    },
  });
  assertEquals(reply.headers.get("content-type"), "application/cbor");
  assertEquals(reply.headers.get("smithy-protocol"), "rpc-v2-cbor");
  return { ...reply, body: decodeCbor(reply.bytes) };
}

async function names(setting: Setting): Promise<(string | undefined)[]> {
  const { Metrics = [] } = await setting.cloudwatch().send(new ListMetricsCommand({}));
  return Metrics.map((metric) => metric.MetricName);
}

Deno.test("AWS JSON 1.0", (t) =>
  withAws(async (setting) => {
    await t.step("an answer, and times as seconds", async () => {
      const at = Math.floor(Date.now() / 60_000) * 60;
      const put = await rawJson(setting, "PutMetricData", JSON.stringify(INPUT));
      assertEquals([put.status, put.text], [200, "{}"]);
      assertEquals(put.headers.get("content-type"), "application/x-amz-json-1.0");
      const { text } = await rawJson(
        setting,
        "GetMetricStatistics",
        JSON.stringify({
          Namespace: NAMESPACE,
          MetricName: "m",
          StartTime: at - 60,
          EndTime: at + 120,
          Period: 3600,
          Statistics: ["Sum"],
        }),
      );
      const [point] = JSON.parse(text).Datapoints;
      assertEquals(point, { Timestamp: at - 60, Sum: 1, Unit: "None" });
    });
    await t.step("an error, with the query protocol's name for those who ask", async () => {
      const body = JSON.stringify({ ...INPUT, Namespace: "AWS/x" });
      const modern = await rawJson(setting, "PutMetricData", body);
      assertEquals([modern.status, modern.headers.get("x-amzn-query-error")], [400, null]);
      assertEquals(JSON.parse(modern.text), {
        __type: "com.amazonaws.cloudwatch#InvalidParameterValueException",
        message: "The value AWS/ for parameter Namespace is invalid.",
      });
      const old = await rawJson(setting, "PutMetricData", body, { "x-amzn-query-mode": "true" });
      assertEquals(old.headers.get("x-amzn-query-error"), "InvalidParameterValue;Sender");
    });
    await t.step("gzip, and what only calls itself gzip", async () => {
      const gzip = { "content-encoding": "gzip" };
      const body = new Uint8Array(gzipSync(JSON.stringify(INPUT)));
      assertEquals((await rawJson(setting, "PutMetricData", body, gzip)).status, 200);
      const broken = await rawJson(setting, "PutMetricData", JSON.stringify(INPUT), gzip);
      assertEquals([broken.status, typeOf(broken)], [400, "SerializationException"]);
      const bomb = new Uint8Array(gzipSync(new Uint8Array(2 ** 24)));
      const large = await rawJson(setting, "PutMetricData", bomb, gzip);
      assertEquals([large.status, typeOf(large)], [413, "RequestEntityTooLargeException"]);
    });
    await t.step("no JSON, another type, an unknown operation or member", async () => {
      const noJson = await rawJson(setting, "PutMetricData", "{");
      assertEquals([noJson.status, typeOf(noJson)], [400, "SerializationException"]);
      const number = await rawJson(setting, "PutMetricData", '{"Namespace":1}');
      assertEquals([number.status, typeOf(number)], [400, "SerializationException"]);
      const type = { "content-type": "application/x-amz-json-1.1" };
      const other = await rawJson(setting, "ListMetrics", "{}", type);
      assertEquals([other.status, typeOf(other)], [400, "UnknownOperationException"]);
      const unknown = await rawJson(setting, "PutMetricDatum", "{}");
      assertEquals([unknown.status, typeOf(unknown)], [400, "UnknownOperationException"]);
      const misspelt = await rawJson(setting, "ListMetrics", '{"NameSpace":"x"}');
      assertEquals([misspelt.status, typeOf(misspelt)], [400, "ValidationException"]);
    });
  }));

function typeOf(reply: RawReply): string {
  return JSON.parse(reply.text).__type.replace("com.amazonaws.cloudwatch#", "");
}

Deno.test("the query protocol", (t) =>
  withAws(async (setting) => {
    const now = Date.now();
    const iso = (ms: number) => new Date(now + ms).toISOString();
    const datum = "MetricData.member.1.";
    await t.step("PutMetricData, and its parts in GetMetricStatistics", async () => {
      const put = await rawQuery(setting, {
        Action: "PutMetricData",
        Namespace: NAMESPACE,
        [`${datum}MetricName`]: "m",
        [`${datum}Timestamp`]: iso(0),
        [`${datum}Unit`]: "Count",
        [`${datum}Values.member.1`]: "1.5",
        [`${datum}Values.member.2`]: "4",
        [`${datum}Counts.member.1`]: "2",
        [`${datum}Counts.member.2`]: "1",
        [`${datum}Dimensions.member.1.Name`]: "a&b",
        [`${datum}Dimensions.member.1.Value`]: "<1>",
      });
      assertEquals(put.status, 200, put.text);
      assertMatch(
        put.text,
        /^<PutMetricDataResponse xmlns="http:\/\/monitoring\.amazonaws\.com\/doc\/2010-08-01\/"><ResponseMetadata><RequestId>[0-9a-f-]{36}<\/RequestId><\/ResponseMetadata><\/PutMetricDataResponse>\n$/,
      );
      const got = await rawQuery(setting, {
        Action: "GetMetricStatistics",
        Namespace: NAMESPACE,
        MetricName: "m",
        StartTime: iso(-60_000),
        EndTime: iso(60_000),
        Period: "3600",
        "ExtendedStatistics.member.1": "p99",
        "Dimensions.member.1.Name": "a&b",
        "Dimensions.member.1.Value": "<1>",
      });
      const start = new Date(Math.floor((now - 60_000) / 60_000) * 60_000).toISOString();
      assert(
        got.text.includes(
          "<GetMetricStatisticsResult><Label>m</Label><Datapoints><member>" +
            `<Timestamp>${start}</Timestamp><Unit>Count</Unit><ExtendedStatistics><entry>` +
            "<key>p99</key><value>4</value></entry></ExtendedStatistics></member></Datapoints>" +
            "</GetMetricStatisticsResult>",
        ),
        got.text,
      );
    });
    await t.step("ListMetrics escapes what it names", async () => {
      const { text } = await rawQuery(setting, { Action: "ListMetrics" });
      const dimensions = "<Dimensions><member><Name>a&amp;b</Name><Value>&lt;1&gt;</Value>" +
        "</member></Dimensions>";
      assert(text.includes(dimensions), text);
    });
    await t.step("errors by their old names and statuses", async () => {
      const reserved = await rawQuery(setting, {
        Action: "PutMetricData",
        Namespace: "AWS/x",
        [`${datum}MetricName`]: "m",
        [`${datum}Value`]: "1",
      });
      assertEquals(reserved.status, 400);
      assertEquals(xmlError(reserved.text), {
        type: "Sender",
        code: "InvalidParameterValue",
        message: "The value AWS/ for parameter Namespace is invalid.",
      });
      const { caller } = setting.aws.identities;
      const denied = await rawQuery(setting, { Action: "ListMetrics" }, caller);
      assertEquals([denied.status, xmlError(denied.text).code], [403, "AccessDenied"]);
      const broken = await rawQuery(setting, { Action: "GetMetricStatistics", Period: "soon" });
      assertEquals([broken.status, xmlError(broken.text).code], [400, "MalformedInput"]);
    });
    await t.step("STS, which shares the protocol, is not taken for CloudWatch", async () => {
      const reply = await rawRequest(setting.aws, {
        service: "sts",
        body: "Action=GetCallerIdentity&Version=2011-06-15",
      });
      assert(reply.text.startsWith("<GetCallerIdentityResponse "), reply.text);
    });
  }));

Deno.test("Smithy RPC v2 with CBOR", (t) =>
  withAws(async (setting) => {
    await t.step("PutMetricData with a tagged time, and what was put", async () => {
      const at = new Date(Math.floor(Date.now() / 60_000) * 60_000);
      const put = await rawCbor(setting, "PutMetricData", {
        Namespace: NAMESPACE,
        MetricData: [{ MetricName: "m", Timestamp: at, Values: [0.25, 3], Counts: [1, 2] }],
      });
      assertEquals([put.status, put.body], [200, {}]);
      const got = await rawCbor(setting, "GetMetricStatistics", {
        Namespace: NAMESPACE,
        MetricName: "m",
        StartTime: at,
        EndTime: new Date(at.getTime() + 60_000),
        Period: 60,
        Statistics: ["Sum"],
      });
      assertEquals(got.body, {
        Label: "m",
        Datapoints: [{ Timestamp: at.getTime() / 1000, Sum: 6.25, Unit: "None" }],
      });
    });
    await t.step("an error", async () => {
      const reply = await rawCbor(setting, "PutMetricData", { ...INPUT, Namespace: "AWS/x" });
      assertEquals([reply.status, reply.body], [400, {
        __type: "com.amazonaws.cloudwatch#InvalidParameterValueException",
        message: "The value AWS/ for parameter Namespace is invalid.",
      }]);
    });
    await t.step("bytes that are no CBOR, in every truncation of a request", async () => {
      const whole = encodeCbor(INPUT);
      for (let length = 0; length < whole.length; length++) {
        const reply = await rawCbor(setting, "PutMetricData", whole.subarray(0, length));
        assertEquals([reply.status, (reply.body as { __type: string }).__type], [
          400,
          "com.amazonaws.cloudwatch#SerializationException",
        ]);
      }
    });
  }));

/** RFC 8949, appendix A. */
const CBOR_EXAMPLES: readonly (readonly [string, unknown])[] = [
  ["00", 0],
  ["17", 23],
  ["1818", 24],
  ["1903e8", 1000],
  ["1a000f4240", 1_000_000],
  ["1b000000e8d4a51000", 1_000_000_000_000],
  ["20", -1],
  ["3903e7", -1000],
  ["f90001", 5.960464477539063e-8],
  ["f90400", 0.00006103515625],
  ["f93c00", 1],
  ["f93e00", 1.5],
  ["f97bff", 65504],
  ["f9c400", -4],
  ["f97c00", Infinity],
  ["f97e00", NaN],
  ["fa47c35000", 100_000],
  ["fb3ff199999999999a", 1.1],
  ["f4", false],
  ["f5", true],
  ["f6", undefined],
  ["c11a514b67b0", 1_363_896_240],
  ["62c3bc", "ü"],
  ["83010203", [1, 2, 3]],
  ["a26161016162820203", { a: 1, b: [2, 3] }],
  ["7f657374726561646d696e67ff", "streaming"],
  ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]],
  ["bf61610161629f0203ffff", { a: 1, b: [2, 3] }],
];

Deno.test("CBOR: the examples of RFC 8949, and what they are not", async (t) => {
  const bytes = (hex: string) =>
    Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  for (const [hex, value] of CBOR_EXAMPLES) {
    await t.step(hex, () => assertEquals(decodeCbor(bytes(hex)), value));
  }
  const refused = {
    "trailing bytes": "0000",
    "a break alone": "ff",
    "a break in a definite list": "8201ff",
    "a length without end": "1f",
    "a key twice": "a2616101616102",
    "a key that is no text": "a10102",
    "text that is no UTF-8": "61ff",
    "an unknown tag": "c074",
    "a list longer than the bytes": "9bffffffffffffffff00",
    "33 lists in one another": "81".repeat(33) + "01",
  };
  for (const [what, hex] of Object.entries(refused)) {
    await t.step(`${what}: SerializationException`, () => {
      let code: unknown;
      try {
        decodeCbor(bytes(hex));
      } catch (error) {
        code = (error as { code?: unknown }).code;
      }
      assertEquals(code, "SerializationException");
    });
  }
});

Deno.test("signatures, faults and records", (t) =>
  withAws(async (setting) => {
    const { aws } = setting;
    const client = setting.cloudwatch();
    const put = () => client.send(new PutMetricDataCommand(INPUT));

    await t.step("the credential scope names monitoring", async () => {
      const reply = await rawRequest(aws, {
        service: "monitoring",
        scopeService: "cloudwatch",
        body: "Action=ListMetrics&Version=2010-08-01",
      });
      assertEquals([reply.status, xmlError(reply.text)], [403, {
        type: "Sender",
        code: "SignatureDoesNotMatch",
        message: "Credential should be scoped to correct service: &apos;monitoring&apos;.",
      }]);
    });
    await t.step("a wrong secret, an unknown key", async () => {
      const { operator } = aws.identities;
      const as = (credentials: Credentials) =>
        setting.cloudwatch("us-east-1", credentials).send(new ListMetricsCommand({}));
      await refused400(
        as({ ...operator, secretAccessKey: "not-the-secret" }),
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check " +
          "your AWS Secret Access Key and signing method. Consult the service documentation for " +
          "details.",
      );
      await refused400(
        as({ ...operator, accessKeyId: "AKIAAAAAAAAAAAAAAAAA" }),
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
      );
    });
    await t.step("faults by service, and what is recorded", async () => {
      aws.resetCalls();
      aws.faults.set([{
        service: "cloudwatch",
        effect: { kind: "error", name: "InternalServiceFault", message: "out of order" },
        times: 1,
      }]);
      await assertRefused(put(), {
        name: "InternalServiceFault",
        status: 500,
        message: "out of order",
      });
      await put();
      assertEquals(
        aws.calls().map(({ service, operation, region, status, errorName, fault }) => [
          service,
          operation,
          region,
          status,
          errorName,
          fault,
        ]),
        [
          ["cloudwatch", "PutMetricData", "us-east-1", 500, "InternalServiceFault", "error"],
          ["cloudwatch", "PutMetricData", "us-east-1", 200, undefined, undefined],
        ],
      );
      assertEquals(await names(setting), ["m"]);
    });
  }));
