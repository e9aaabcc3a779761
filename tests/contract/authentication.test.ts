import { assertEquals } from "@std/assert";
import { computeSignature } from "../../local/aws/sigv4.ts";
import {
  rawKms,
  type RawReply,
  type RawRequest,
  rawRequest,
  TestClock,
  withAws,
  xmlError,
} from "./support.ts";

const MISMATCH =
  "The request signature we calculated does not match the signature you provided. Check your " +
  "AWS Secret Access Key and signing method. Consult the service documentation for details.";
const INVALID_TOKEN = "The security token included in the request is invalid.";
const HASHED = / \(Hashed with SHA-256 and encoded with Base64\) Authorization=[A-Za-z0-9+/]{43}=$/;

interface Expected {
  /** KMS exception and its STS counterpart. */
  readonly kms: string;
  readonly sts: readonly [code: string, status: number];
  readonly message: string;
}

const SIGNATURE = {
  kms: "InvalidSignatureException",
  sts: ["SignatureDoesNotMatch", 403],
} as const;
const INCOMPLETE = {
  kms: "IncompleteSignatureException",
  sts: ["IncompleteSignature", 400],
} as const;

Deno.test("what AWS refuses of a signature, in both protocols", (t) =>
  withAws(async ({ aws }) => {
    const now = Date.now();
    const compact = (at: number) => new Date(at).toISOString().replace(/[-:]|\.\d+/g, "");
    const cases: Readonly<Record<string, readonly [RawRequest, Expected]>> = {
      "no Authorization header": [{ authorization: () => null }, {
        kms: "MissingAuthenticationTokenException",
        sts: ["MissingAuthenticationToken", 403],
        message: "Missing Authentication Token",
      }],
      "another scheme": [{ authorization: () => "Bearer abc" }, {
        ...INCOMPLETE,
        message: "Unsupported AWS 'algorithm'.",
      }],
      "no signature": [{ authorization: (header) => header.replace(/, Signature=.*/, "") }, {
        ...INCOMPLETE,
        message: "Authorization header requires 'Signature' parameter.",
      }],
      "nothing but the scheme": [{ authorization: () => "AWS4-HMAC-SHA256" }, {
        ...INCOMPLETE,
        message: "Authorization header requires 'Credential' parameter. Authorization header " +
          "requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.",
      }],
      "an unsigned host": [{ authorization: (header) => header.replace(";host;", ";") }, {
        ...INCOMPLETE,
        message: "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
      }],
      "a signed header that is not sent": [{
        authorization: (header) => header.replace(";host;", ";host;x-gone;"),
      }, { ...INCOMPLETE, message: "Signed header 'x-gone' is not in the request." }],
      "an unknown access key": [{
        credentials: { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "secret" },
      }, {
        kms: "UnrecognizedClientException",
        sts: ["InvalidClientTokenId", 403],
        message: INVALID_TOKEN,
      }],
      "a wrong secret": [{
        credentials: { ...aws.identities.operator, secretAccessKey: "wrong" },
      }, { ...SIGNATURE, message: MISMATCH }],
      "a signature of another length": [{ authorization: (header) => header.slice(0, -1) }, {
        ...SIGNATURE,
        message: MISMATCH,
      }],
      "a header changed after signing": [{
        authorization: (header) => header.replace("content-type;host", "host"),
      }, { ...SIGNATURE, message: MISMATCH }],
      "a region that does not exist": [{ region: "us-east-9" }, {
        ...SIGNATURE,
        message: "Credential should be scoped to a valid region.",
      }],
      "another terminator": [{ terminator: "aws5_request" }, {
        ...SIGNATURE,
        message: "Credential should be scoped with a valid terminator: 'aws4_request'.",
      }],
      "a scope of another day": [{ scopeDate: "20200101" }, {
        ...SIGNATURE,
        message: "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date " +
          `from HTTP: '20200101' != '${compact(now).slice(0, 8)}', from '${compact(now)}'.`,
      }],
    };
    for (const [name, [request, expected]] of Object.entries(cases)) {
      await t.step(name, async () => {
        const kms = await rawKms(aws, "ListKeys", "{}", { at: now, ...request });
        assertKms(kms, expected.kms, expected.message);
        const body = "Action=GetCallerIdentity&Version=2011-06-15";
        const sts = await rawRequest(aws, { service: "sts", at: now, body, ...request });
        assertSts(sts, expected);
      });
    }

    await t.step("a body changed after signing", async () => {
      const kms = await rawKms(aws, "ListKeys", "{}", { sentBody: '{"Limit":1}' });
      assertKms(kms, "InvalidSignatureException", MISMATCH);
    });

    await t.step("a payload hash header is no proof of the payload", async () => {
      const headers = { "x-amz-content-sha256": "UNSIGNED-PAYLOAD" };
      const kms = await rawKms(aws, "ListKeys", "{}", { sentBody: '{"Limit":1}', headers });
      assertKms(kms, "InvalidSignatureException", MISMATCH);
    });

    await t.step("another service's scope", async () => {
      const kms = await rawKms(aws, "ListKeys", "{}", { scopeService: "s3" });
      const message = (service: string) =>
        `Credential should be scoped to correct service: '${service}'.`;
      assertKms(kms, "InvalidSignatureException", message("kms"));
      const body = "Action=GetCallerIdentity&Version=2011-06-15";
      const sts = await rawRequest(aws, { service: "sts", scopeService: "kms", body });
      assertSts(sts, { ...SIGNATURE, message: message("sts") });
    });

    await t.step("a right signature passes", async () => {
      assertEquals((await rawKms(aws, "ListKeys", "{}")).status, 200);
      const body = "Action=GetCallerIdentity&Version=2011-06-15";
      assertEquals((await rawRequest(aws, { service: "sts", body })).status, 200);
    });
  }));

Deno.test("clocks may differ by five minutes and no more", (t) => {
  const clock = new TestClock();
  // Signatures are dated in whole seconds; so is the clock, to meet the bounds exactly.
  clock.advance(-(clock.now() % 1000));
  return withAws(async ({ aws }) => {
    const MINUTE = 60_000;
    const now = clock.now();
    const at = (offset: number) => rawKms(aws, "ListKeys", "{}", { at: now + offset });
    const compact = (time: number) => new Date(time).toISOString().replace(/[-:]|\.\d+/g, "");

    for (const minutes of [-5, 5]) {
      await t.step(`${minutes} minutes pass`, async () => {
        assertEquals((await at(minutes * MINUTE)).status, 200);
      });
    }

    await t.step("earlier", async () => {
      const reply = await at(-5 * MINUTE - 1000);
      const signed = compact(now - 5 * MINUTE - 1000);
      assertKms(
        reply,
        "InvalidSignatureException",
        `Signature expired: ${signed} is now earlier than ${compact(now - 5 * MINUTE)} ` +
          `(${compact(now)} - 5 min.)`,
      );
    });

    await t.step("later", async () => {
      const reply = await at(5 * MINUTE + 1000);
      const signed = compact(now + 5 * MINUTE + 1000);
      assertKms(
        reply,
        "InvalidSignatureException",
        `Signature not yet current: ${signed} is still later than ${compact(now + 5 * MINUTE)} ` +
          `(${compact(now)} + 5 min.)`,
      );
    });
  }, { clock });
});

Deno.test("signatures of AWS's own test suite", async (t) => {
  // Published with the Signature Version 4 test suite; key and secret are its example's.
  const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
  const scope = {
    date: "20150830",
    region: "us-east-1",
    service: "service",
    terminator: "aws4_request",
    timestamp: "20150830T123600Z",
  };
  const base: readonly (readonly [string, string])[] = [
    ["host", "example.amazonaws.com"],
    ["x-amz-date", "20150830T123600Z"],
  ];
  const cases = [
    {
      name: "get-vanilla",
      method: "GET",
      query: "",
      headers: base,
      body: "",
      signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    {
      name: "get-vanilla-query-order-key-case",
      method: "GET",
      query: "Param2=value2&Param1=value1",
      headers: base,
      body: "",
      signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    },
    {
      name: "post-x-www-form-urlencoded",
      method: "POST",
      query: "",
      headers: [["content-type", "application/x-www-form-urlencoded"] as const, ...base],
      body: "Param1=value1",
      signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    },
  ];
  for (const { name, method, query, headers, body, signature } of cases) {
    await t.step(name, () => {
      const request = {
        id: "",
        method,
        path: "/",
        query,
        headers: new Map(headers),
        body: new TextEncoder().encode(body),
      };
      const signedHeaders = headers.map(([header]) => header);
      assertEquals(computeSignature(request, { ...scope, signedHeaders }, secret), signature);
    });
  }
});

function assertKms(reply: RawReply, name: string, message: string): void {
  assertEquals(reply.status, 400);
  assertEquals(reply.headers.get("content-type"), "application/x-amz-json-1.1");
  const body = JSON.parse(reply.text);
  const shown = String(body.message).replace(HASHED, "");
  assertEquals({ ...body, message: shown }, { __type: name, message });
}

function assertSts(reply: RawReply, expected: Pick<Expected, "sts" | "message">): void {
  const [code, status] = expected.sts;
  assertEquals(reply.status, status);
  assertEquals(reply.headers.get("content-type"), "text/xml");
  const { message, ...rest } = xmlError(reply.text);
  assertEquals(rest, { type: "Sender", code });
  const plain = message.replaceAll("&apos;", "'").replace(HASHED, "");
  assertEquals(plain, expected.message);
}
