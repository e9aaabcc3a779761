/** That the access key is worth nothing by itself: it lies in the functions' secrets for years. */
import type { KMSClient } from "@aws-sdk/client-kms";
import type { AwsConfig, Config } from "../../functions-shared/config.ts";
import { DATA_CLASSES, type DataClass } from "../../functions-shared/data-class.ts";
import { keyIdIn } from "../../functions-shared/keys/providers/aws/arn.ts";
import {
  awsClientOptions,
  type AwsClock,
} from "../../functions-shared/keys/providers/aws/client-options.ts";
import type { AwsCredentials } from "../../functions-shared/keys/providers/aws/credentials.ts";
import { awsFailureKind } from "./aws-failure.ts";
import { doctorContext } from "./context.ts";
import { type Failure, probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

type Sdk = typeof import("@aws-sdk/client-kms");
type Operation =
  | "DescribeKey"
  | "GenerateDataKey"
  | "GenerateDataKeyWithoutPlaintext"
  | "Encrypt"
  | "Decrypt";

/** What became of one operation that the access key alone asked for. */
interface Tried {
  readonly operation: Operation;
  readonly dataClass: DataClass;
  readonly region: string;
  /** Undefined when KMS did it, or would have. */
  readonly refusal: Failure | undefined;
}

export interface AwsCaller {
  readonly credentials: AwsCredentials;
  readonly clock: AwsClock;
  /** The role's session, which makes what the access key must not decrypt. */
  readonly session: AwsCredentials | undefined;
}

/**
 * Tries what the functions do with the key of each class, in each region: of IAM's permissions none implies
 * another. KMS does nothing of it (`DryRun`), nor has it to answer with a plaintext.
 */
export async function checkCaller(
  report: Report,
  config: Config,
  aws: AwsConfig,
  caller: AwsCaller,
): Promise<void> {
  const sdk = await import("@aws-sdk/client-kms");
  const regions = [aws.region, ...aws.fallbackRegions];
  const tried = await Promise.all(regions.flatMap((region) => {
    const client = (credentials: AwsCredentials) =>
      new sdk.KMSClient(awsClientOptions(aws, region, credentials, caller.clock));
    const kms = client(caller.credentials);
    const role = caller.session && client(caller.session);
    return DATA_CLASSES.map((dataClass) =>
      tryAll(sdk, { kms, role }, {
        region,
        dataClass,
        keyId: keyIdIn(region, aws.aliases[dataClass]) ?? aws.aliases[dataClass],
        context: doctorContext(config, dataClass),
      })
    );
  }));
  judge(report, tried.flat(), caller.session !== undefined);
}

interface Target {
  readonly region: string;
  readonly dataClass: DataClass;
  readonly keyId: string;
  readonly context: Record<string, string>;
}

/** Without Decrypt when the role makes no ciphertext to try it on. */
async function tryAll(
  sdk: Sdk,
  { kms, role }: { readonly kms: KMSClient; readonly role: KMSClient | undefined },
  { region, dataClass, keyId: KeyId, context: EncryptionContext }: Target,
): Promise<readonly Tried[]> {
  const use = { KeyId, EncryptionContext, DryRun: true };
  const dataKey = { ...use, NumberOfBytes: 32 };
  const made = role && await probe((abortSignal) =>
    role.send(
      new sdk.GenerateDataKeyWithoutPlaintextCommand({ ...dataKey, DryRun: false }),
      { abortSignal },
    )
  );
  const attempt = async (
    operation: Operation,
    call: (options: { abortSignal: AbortSignal }) => Promise<unknown>,
  ): Promise<Tried> => {
    const found = await probe((abortSignal) => call({ abortSignal }));
    const allowed = found.ok || found.error === "DryRunOperationException";
    return { operation, dataClass, region, refusal: allowed ? undefined : found };
  };
  return await Promise.all([
    attempt("DescribeKey", (options) => kms.send(new sdk.DescribeKeyCommand({ KeyId }), options)),
    attempt(
      "GenerateDataKey",
      (options) => kms.send(new sdk.GenerateDataKeyCommand(dataKey), options),
    ),
    attempt(
      "GenerateDataKeyWithoutPlaintext",
      (options) => kms.send(new sdk.GenerateDataKeyWithoutPlaintextCommand(dataKey), options),
    ),
    attempt(
      "Encrypt",
      (options) =>
        kms.send(new sdk.EncryptCommand({ ...use, Plaintext: new Uint8Array(32) }), options),
    ),
    ...made?.ok
      ? [attempt(
        "Decrypt",
        (options) =>
          kms.send(
            new sdk.DecryptCommand({ ...use, CiphertextBlob: made.value.CiphertextBlob }),
            options,
          ),
      )]
      : [],
  ]);
}

/** One permission is one too many; and "none" is said only when every one was refused. */
function judge(report: Report, tried: readonly Tried[], hasSession: boolean): void {
  const allowed = tried.filter(({ refusal }) => refusal === undefined);
  if (allowed.length > 0) {
    const names = (of: (one: Tried) => string) => listed([...new Set(allowed.map(of))]);
    report.warn(
      "aws.caller",
      `the access key may call KMS without the role: ${names(({ operation }) => operation)} with ` +
        `the key of ${names(({ dataClass }) => dataClass)} in ${names(({ region }) => region)}`,
      "leave it sts:AssumeRole on that role and nothing else (docs/deployment.md, 2)",
    );
    return;
  }
  for (const { operation, dataClass, region, refusal } of tried) {
    if (refusal === undefined || awsFailureKind(refusal) === "denied") continue;
    if (refusal.error === "NotFoundException") {
      return report.notChecked("aws.caller", `aws.alias.${dataClass}`);
    }
    return report.warn(
      "aws.caller",
      `KMS in ${region} did not say whether the access key may ${operation}: ${refusal.reason}`,
      `look at ${listed([`aws.alias.${dataClass}`, `aws.state.${dataClass}`])}`,
    );
  }
  const mayNotDecrypt = new Set(
    tried.filter(({ operation }) => operation === "Decrypt").map(place),
  );
  const untried = tried.find((one) => !mayNotDecrypt.has(place(one)));
  if (untried !== undefined) {
    return report.warn(
      "aws.caller",
      "the access key alone is refused, but for Decrypt, which could not be tried",
      `mend ${hasSession ? `aws.use.${untried.dataClass}` : "aws.role"} first`,
    );
  }
  report.pass("aws.caller", "the access key alone may not call KMS");
}

function place({ region, dataClass }: Tried): string {
  return `${region} ${dataClass}`;
}
