/**
 * Parameter Store over AWS JSON 1.1: `X-Amz-Target: AmazonSSM.<Operation>`. A SecureString is encrypted by
 * the local KMS in the caller's own name, bound to its parameter, as Systems Manager does it.
 * Source: docs.aws.amazon.com/systems-manager/latest/APIReference, and
 * docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html.
 */

import { Buffer } from "node:buffer";
import { AwsError } from "../errors.ts";
import { globalContext, identityRefusal } from "../iam/access.ts";
import {
  answer,
  AUTHENTICATION_ERRORS,
  parseJson,
  refusal,
  requireForm,
} from "../json/protocol.ts";
import type { KmsService } from "../kms/service.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import { boolean, type Infer, oneOf, readInput, required, string, structure } from "../shapes.ts";
import type { ParameterStore, ParameterVersion } from "./store.ts";

const TARGET_PREFIX = "AmazonSSM.";

const name = string({ min: 1, max: 2048 });
const INPUTS = {
  PutParameter: structure({
    Name: required(name),
    Description: string({ min: 0, max: 1024 }),
    Value: required(string({ min: 1, max: 4096, secret: true })),
    Type: oneOf(["String", "StringList", "SecureString"]),
    KeyId: string({ min: 1, max: 256, pattern: "([a-zA-Z0-9:/_-]+)" }),
    Overwrite: boolean(),
    DataType: string({ min: 0, max: 128 }),
    Tier: oneOf(["Standard", "Advanced", "Intelligent-Tiering"]),
  }),
  GetParameter: structure({ Name: required(name), WithDecryption: boolean() }),
  DeleteParameter: structure({ Name: required(name) }),
} as const;

type Operation = keyof typeof INPUTS;

export interface SsmOptions {
  readonly store: ParameterStore;
  readonly kms: Pick<KmsService, "run">;
  readonly accountId: string;
  /** Resolves when every change made so far is on disk. */
  readonly durable: () => Promise<void>;
}

export class SsmService implements Service {
  readonly name = "ssm";
  readonly authenticationErrors = AUTHENTICATION_ERRORS;
  readonly #options: SsmOptions;

  constructor(options: SsmOptions) {
    this.#options = options;
  }

  claim(request: AwsRequest): string | null {
    const target = request.headers.get("x-amz-target");
    return target?.startsWith(TARGET_PREFIX) ? target.slice(TARGET_PREFIX.length) : null;
  }

  checkOperation(operation: string, request: AwsRequest): void {
    requireForm(request);
    if (!Object.hasOwn(INPUTS, operation)) throw new AwsError("UnknownOperationException");
  }

  async perform(call: AwsCall): Promise<AwsReply> {
    const json = parseJson(call.request.body);
    try {
      return answer(await this.#run(call, json));
    } finally {
      await this.#options.durable();
    }
  }

  #run(call: AwsCall, json: unknown): Promise<Record<string, unknown>> {
    switch (call.operation as Operation) {
      case "PutParameter":
        return this.#put(call, readInput(INPUTS.PutParameter, json));
      case "GetParameter":
        return this.#get(call, readInput(INPUTS.GetParameter, json));
      case "DeleteParameter":
        return this.#delete(call, readInput(INPUTS.DeleteParameter, json));
    }
  }

  async #put(call: AwsCall, input: Infer<typeof INPUTS.PutParameter>) {
    checkName(input.Name);
    this.#require(call, input.Name);
    const { store } = this.#options;
    const standing = store.find(call.region, input.Name);
    if (standing !== undefined && input.Overwrite !== true) {
      throw new AwsError(
        "ParameterAlreadyExists",
        "The parameter already exists. To overwrite this value, set the overwrite option in the " +
          "request to true.",
      );
    }
    const type = input.Type ?? standing?.versions.at(-1)?.type;
    if (type === undefined) {
      throw new AwsError(
        "ValidationException",
        "A parameter type is required when you create a parameter.",
      );
    }
    if (type === "StringList") {
      throw new AwsError("UnsupportedParameterType", "The local AWS has no StringList.");
    }
    const modifiedAt = call.now;
    const version: ParameterVersion = type === "String"
      ? { type, value: input.Value, modifiedAt }
      : {
        type,
        keyId: requireKeyId(input.KeyId),
        value: await this.#encrypt(call, input.Name, requireKeyId(input.KeyId), input.Value),
        modifiedAt,
      };
    return { Version: store.put(call.region, input.Name, version), Tier: "Standard" };
  }

  async #get(call: AwsCall, input: Infer<typeof INPUTS.GetParameter>) {
    const [, plain = "", number] = /^(.*?)(?::(\d{1,9}))?$/s.exec(input.Name) ?? [];
    checkName(plain);
    this.#require(call, plain);
    const parameter = this.#options.store.find(call.region, plain);
    if (parameter === undefined) throw new AwsError("ParameterNotFound");
    const at = number === undefined ? parameter.versions.length : Number(number);
    const version = parameter.versions[at - 1];
    if (version === undefined) {
      throw new AwsError(
        "ParameterVersionNotFound",
        `Systems Manager could not find version ${at} of ${plain}. Verify the version and try again.`,
      );
    }
    const decrypt = version.type === "SecureString" && input.WithDecryption === true;
    return {
      Parameter: {
        Name: plain,
        Type: version.type,
        Value: decrypt ? await this.#decrypt(call, plain, version.value) : version.value,
        Version: at,
        ...number === undefined ? {} : { Selector: `:${number}` },
        LastModifiedDate: version.modifiedAt / 1000,
        ARN: this.#arn(call.region, plain),
        DataType: "text",
      },
    };
  }

  // deno-lint-ignore require-await -- as the other two, which wait for KMS
  async #delete(call: AwsCall, input: Infer<typeof INPUTS.DeleteParameter>) {
    checkName(input.Name);
    this.#require(call, input.Name);
    const parameter = this.#options.store.find(call.region, input.Name);
    if (parameter === undefined) throw new AwsError("ParameterNotFound");
    this.#options.store.delete(parameter);
    return {};
  }

  async #encrypt(call: AwsCall, name: string, keyId: string, value: string): Promise<string> {
    try {
      const answer = await this.#kms(call, "Encrypt", {
        KeyId: keyId,
        Plaintext: Buffer.from(value).toString("base64"),
        EncryptionContext: this.#context(call.region, name),
      });
      return String(answer.CiphertextBlob);
    } catch (error) {
      if (!(error instanceof AwsError) || error.code === "AccessDeniedException") throw error;
      throw new AwsError("InvalidKeyId", error.message);
    }
  }

  async #decrypt(call: AwsCall, name: string, value: string): Promise<string> {
    try {
      const answer = await this.#kms(call, "Decrypt", {
        CiphertextBlob: value,
        EncryptionContext: this.#context(call.region, name),
      });
      return Buffer.from(String(answer.Plaintext), "base64").toString();
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (error.code !== "AccessDeniedException") {
        throw new AwsError("InvalidKeyId", error.message);
      }
      throw new AwsError(
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in this " +
          "region, or you are not allowed to access.",
      );
    }
  }

  async #kms(
    { region, caller, now }: AwsCall,
    operation: "Encrypt" | "Decrypt",
    input: Record<string, unknown>,
  ) {
    return await this.#options.kms.run({ operation, region, caller, now }, input) ?? {};
  }

  #context(region: string, name: string): Record<string, string> {
    return { PARAMETER_ARN: this.#arn(region, name) };
  }

  #arn(region: string, name: string): string {
    const { accountId } = this.#options;
    return `arn:aws:ssm:${region}:${accountId}:parameter/${name.replace(/^\//, "")}`;
  }

  /** Throws AccessDeniedException unless the caller's policies allow the call on the parameter. */
  #require(call: AwsCall, name: string): void {
    const denied = identityRefusal({
      action: `ssm:${call.operation}`,
      resource: this.#arn(call.region, name),
      caller: call.caller,
      context: globalContext(call),
    });
    if (denied !== null) throw new AwsError("AccessDeniedException", denied);
  }

  refuse(error: AwsError, _request: AwsRequest): AwsReply {
    return refusal(error);
  }
}

/** Throws ValidationException. */
function checkName(name: string): void {
  if (!/^[a-zA-Z0-9_.\/-]+$/.test(name)) {
    throw new AwsError(
      "ValidationException",
      'Parameter name: can\'t be prefixed with "ssm" (case-insensitive). If formed as a path, it can ' +
        "consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of " +
        "letters, numbers and the following 3 symbols .-_",
    );
  }
  if (name.includes("/") && !name.startsWith("/")) {
    throw new AwsError("ValidationException", "Parameter name must be a fully qualified name.");
  }
}

/** AWS would take the account's own `aws/ssm`, which this AWS does not have. */
function requireKeyId(keyId: string | undefined): string {
  if (keyId !== undefined) return keyId;
  throw new AwsError(
    "UnsupportedOperationException",
    "The local AWS has no AWS managed keys: name a KMS key.",
  );
}
