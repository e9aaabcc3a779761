import { assertEquals, assertStrictEquals } from "@std/assert";
import { SuiteError } from "../../functions-shared/errors.ts";
import {
  formatKeyArn,
  isMultiRegion,
  keyArnIn,
  keyIdIn,
  parseKeyArn,
} from "../../functions-shared/keys/providers/aws/arn.ts";
import {
  classifyAwsError,
  fromAwsError,
  isClockSkew,
  isExpiredCredentials,
  mayBeEndedSession,
} from "../../functions-shared/keys/providers/aws/errors.ts";

const MULTI_REGION = "arn:aws:kms:us-east-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef";
const SINGLE_REGION = "arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef";

function named(name: string): Error {
  return Object.assign(new Error("as AWS words it"), { name });
}

const CLASSES = {
  decryption_failed: ["InvalidCiphertextException", "IncorrectKeyException"],
  kms_key_unusable: [
    "DisabledException",
    "KMSInvalidStateException",
    "NotFoundException",
    "InvalidKeyUsageException",
    "LimitExceededException",
    "InvalidArnException",
    "ValidationException",
    "ValidationError",
  ],
  kms_access_denied: [
    "AccessDeniedException",
    "AccessDenied",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "ExpiredTokenException",
    "ExpiredToken",
  ],
  kms_unavailable: [
    "ThrottlingException",
    "DependencyTimeoutException",
    "KMSInternalException",
    "KeyUnavailableException",
    "AbortError",
    "TimeoutError",
    "TypeError",
    "",
  ],
} as const;

for (const [code, names] of Object.entries(CLASSES)) {
  Deno.test(`AWS failures that mean ${code} are known by their names`, () => {
    for (const name of names) {
      const cause = named(name);
      const error = fromAwsError(cause);
      assertEquals(error.code, code, name);
      assertStrictEquals(error.cause, cause);
    }
  });
}

Deno.test("the HTTP status of an AWS failure decides nothing", () => {
  const error = Object.assign(named("ThrottlingException"), { $metadata: { httpStatusCode: 400 } });
  assertEquals(fromAwsError(error).code, "kms_unavailable");
  const denied = Object.assign(named("AccessDeniedException"), {
    $metadata: { httpStatusCode: 500 },
  });
  assertEquals(fromAwsError(denied).code, "kms_access_denied");
});

Deno.test("what is no error at all is an outage, and our own errors stay what they are", () => {
  assertEquals(fromAwsError("text").code, "kms_unavailable");
  assertEquals(fromAwsError(undefined).code, "kms_unavailable");
  const own = new SuiteError("decryption_failed");
  assertStrictEquals(fromAwsError(own), own);
});

Deno.test("only expired credentials call for new ones", () => {
  assertEquals(isExpiredCredentials(named("ExpiredTokenException")), true);
  assertEquals(isExpiredCredentials(named("ExpiredToken")), true);
  assertEquals(isExpiredCredentials(named("AccessDeniedException")), false);
  assertEquals(isExpiredCredentials("ExpiredToken"), false);
});

Deno.test("a role that need not administer keys is no ended session, whatever else a refusal says is", () => {
  const refusal = (action: string, why: string) =>
    Object.assign(
      new Error(
        "User: arn:aws:sts::123456789012:assumed-role/kms/tests is not authorized to perform: " +
          `${action} on resource: ${MULTI_REGION} ${why}`,
      ),
      { name: "AccessDeniedException" },
    );
  const none = (action: string, kind = "identity") =>
    refusal(action, `because no ${kind}-based policy allows the ${action} action`);
  for (const name of ["GetKeyRotationStatus", "ListKeyRotations", "RotateKeyOnDemand", "Encrypt"]) {
    assertEquals(mayBeEndedSession(none(`kms:${name}`)), false, name);
    assertEquals(mayBeEndedSession(none(`kms:${name}`, "resource")), false, name);
    const deny = "with an explicit deny in an identity-based policy";
    assertEquals(mayBeEndedSession(refusal(`kms:${name}`, deny)), true, name);
  }
  // Of a role that was made anew the old sessions have no policies at all.
  assertEquals(mayBeEndedSession(none("kms:Decrypt")), true);
  assertEquals(mayBeEndedSession(none("kms:EncryptMore")), true);
  assertEquals(mayBeEndedSession(named("AccessDeniedException")), true, "unknown wording");
  assertEquals(mayBeEndedSession(named("DisabledException")), false);
  assertEquals(mayBeEndedSession(undefined), false);
});

Deno.test("key ARNs are taken apart and put together again", () => {
  for (
    const arn of [MULTI_REGION, SINGLE_REGION, MULTI_REGION.replace("arn:aws:", "arn:aws-us-gov:")]
  ) {
    const parsed = parseKeyArn(arn);
    assertEquals(parsed && formatKeyArn(parsed), arn);
  }
  const parsed = parseKeyArn(MULTI_REGION);
  assertEquals(parsed, {
    partition: "aws",
    region: "us-east-1",
    account: "123456789012",
    keyId: "mrk-0123456789abcdef0123456789abcdef",
  });
});

Deno.test("what is no ARN of a KMS key is none", () => {
  for (
    const text of [
      "",
      "mrk-1",
      "alias/x",
      MULTI_REGION.replace(":key/", ":alias/"),
      ` ${MULTI_REGION}`,
      `${MULTI_REGION}\n`,
      MULTI_REGION.replace("123456789012", "12345678901"),
      MULTI_REGION.replace(":kms:", ":s3:"),
      MULTI_REGION.replace("us-east-1", "us-east-1/x"),
      MULTI_REGION.replace("arn:aws:", "arn:evil:"),
      `${MULTI_REGION}/x`,
      `${MULTI_REGION}\u0000`,
    ]
  ) {
    assertEquals(parseKeyArn(text), undefined, text);
  }
});

Deno.test("a multi-region key is found in another region, a single-region key is not", () => {
  const multi = parseKeyArn(MULTI_REGION);
  const single = parseKeyArn(SINGLE_REGION);
  if (multi === undefined || single === undefined) throw new Error("the ARNs above are ARNs");
  assertEquals([isMultiRegion(multi), isMultiRegion(single)], [true, false]);
  assertEquals(keyArnIn("eu-west-1", multi), MULTI_REGION.replace("us-east-1", "eu-west-1"));
  assertEquals(keyArnIn("eu-west-1", single), undefined);
  assertEquals(keyArnIn("us-east-1", single), SINGLE_REGION);
});

Deno.test("a failure is an answer, throttling, or the region's own", () => {
  for (
    const names of [CLASSES.decryption_failed, CLASSES.kms_key_unusable, CLASSES.kms_access_denied]
  ) {
    for (const name of names) assertEquals(classifyAwsError(named(name)), "answer", name);
  }
  for (const name of ["ThrottlingException", "Throttling", "TooManyRequestsException"]) {
    assertEquals(classifyAwsError(named(name)), "throttled", name);
  }
  for (
    const name of [
      "KMSInternalException",
      "DependencyTimeoutException",
      "TimeoutError",
      "TypeError",
    ]
  ) {
    assertEquals(classifyAwsError(named(name)), "infrastructure", name);
  }
  assertEquals(classifyAwsError(undefined), "infrastructure");
});

Deno.test("a key that is being created will be well; one in another wrong state is unusable", () => {
  const state = (message: string) =>
    classifyAwsError(Object.assign(new Error(message), { name: "KMSInvalidStateException" }));
  assertEquals(state(`${MULTI_REGION} is creating.`), "throttled");
  assertEquals(state(`${MULTI_REGION} is pending deletion.`), "answer");
});

Deno.test("only a refused signature is a wrong clock, and only when the SDK has corrected it", () => {
  const corrected = (name: string) =>
    Object.assign(named(name), { $metadata: { clockSkewCorrected: true } });
  assertEquals(isClockSkew(corrected("InvalidSignatureException")), true);
  assertEquals(isClockSkew(corrected("SignatureDoesNotMatch")), true);
  assertEquals(isClockSkew(corrected("AccessDeniedException")), false);
  assertEquals(isClockSkew(named("InvalidSignatureException")), false);
  assertEquals(isClockSkew(undefined), false);
});

Deno.test("a key is named in a region by its ARN or alias there", () => {
  const alias = "arn:aws:kms:us-east-1:123456789012:alias/x/y";
  assertEquals(keyIdIn("eu-west-1", "alias/x"), "alias/x");
  assertEquals(keyIdIn("eu-west-1", alias), alias.replace("us-east-1", "eu-west-1"));
  assertEquals(keyIdIn("eu-west-1", MULTI_REGION), MULTI_REGION.replace("us-east-1", "eu-west-1"));
  assertEquals(keyIdIn("eu-west-1", SINGLE_REGION), undefined);
});
