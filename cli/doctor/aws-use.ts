/** Uses the key of a class as the functions do, in every region, and as they must not be able to. */
import type { Config } from "../../functions-shared/config.ts";
import type { DataClass } from "../../functions-shared/data-class.ts";
import { keyArnIn, keyIdIn, parseKeyArn } from "../../functions-shared/keys/providers/aws/arn.ts";
import type { KMSClient } from "@aws-sdk/client-kms";
import { nextAfter } from "./aws-failure.ts";
import { doctorContext } from "./context.ts";
import { type Failure, probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

export interface AwsUse {
  readonly dataClass: DataClass;
  readonly alias: string;
  /** Regions where the key is enabled. */
  readonly usable: readonly string[];
  /** All that are configured. */
  readonly all: readonly string[];
  readonly clientOf: (region: string) => KMSClient;
}

export async function checkAwsUse(report: Report, config: Config, use: AwsUse): Promise<void> {
  const check = `aws.use.${use.dataClass}`;
  if (use.usable.length === 0) return report.notChecked(check, `aws.state.${use.dataClass}`);
  for (const region of use.usable) {
    const fault = await faultIn(region, config, use);
    if (fault !== undefined) return report.fail(check, `${region}: ${fault.what}`, fault.next);
  }
  const left = use.all.filter((region) => !use.usable.includes(region));
  if (left.length > 0) {
    report.warn(
      check,
      `works in ${listed(use.usable)}; not checked in ${listed(left)}`,
      `mend aws.alias.${use.dataClass} or aws.state.${use.dataClass} first`,
    );
  } else {
    report.pass(
      check,
      `encrypts, decrypts everywhere and refuses a wrong context in ${listed(use.usable)}`,
    );
  }
}

interface Fault {
  readonly what: string;
  readonly next: string;
}

/** A data key made in `region`, read in every region, and refused under another row's context. */
async function faultIn(
  region: string,
  config: Config,
  { dataClass, alias, usable, clientOf }: AwsUse,
): Promise<Fault | undefined> {
  const { DecryptCommand, GenerateDataKeyCommand } = await import("@aws-sdk/client-kms");
  const EncryptionContext = doctorContext(config, dataClass);
  const made = await probe((abortSignal) =>
    clientOf(region).send(
      new GenerateDataKeyCommand({
        KeyId: keyIdIn(region, alias) ?? alias,
        NumberOfBytes: 32,
        EncryptionContext,
      }),
      { abortSignal },
    )
  );
  if (!made.ok) return failed("GenerateDataKey", region, made);
  const { Plaintext, CiphertextBlob, KeyId = "" } = made.value;
  const arn = parseKeyArn(KeyId);
  const decrypt = (where: string, context: Record<string, string>) =>
    probe(async (abortSignal) => {
      const answer = await clientOf(where).send(
        new DecryptCommand({
          KeyId: (arn && keyArnIn(where, arn)) ?? KeyId,
          CiphertextBlob,
          EncryptionContext: context,
        }),
        { abortSignal },
      );
      const same = sameBytes(answer.Plaintext, Plaintext);
      answer.Plaintext?.fill(0);
      return same;
    });
  try {
    for (const where of usable) {
      const read = await decrypt(where, EncryptionContext);
      if (!read.ok) return failed(`Decrypt in ${where}`, where, read);
      if (!read.value) {
        return {
          what: `another plaintext came back from ${where}`,
          next: "these are not the same key: compare the key material of both regions",
        };
      }
    }
    const wrong = await decrypt(region, { ...EncryptionContext, record: "another" });
    if (wrong.ok) {
      return {
        what: "decrypts under the wrong context",
        next: "this is no KMS to trust: look at AWS_ENDPOINT_URL",
      };
    }
    if (wrong.error !== "InvalidCiphertextException") {
      return failed("Decrypt", region, wrong);
    }
  } finally {
    Plaintext?.fill(0);
  }
}

function failed(operation: string, region: string, failure: Failure): Fault {
  return {
    what: `${operation} failed: ${failure.reason}`,
    next: nextAfter(
      failure,
      region,
      "the role needs kms:GenerateDataKey and kms:Decrypt on the key (docs/deployment.md, 2), and " +
        "the key's own policy must not deny them",
    ),
  };
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a !== undefined && b !== undefined && a.length === b.length &&
    a.every((byte, index) => byte === b[index]);
}
