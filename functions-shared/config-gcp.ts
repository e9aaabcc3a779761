/** The variables of the provider `gcp`: Google Cloud KMS. */
import type { DataClass } from "./data-class.ts";
import { type Environment, type EnvironmentReader, perClass } from "./environment.ts";

export interface GcpConfig {
  readonly project: string;
  readonly location: string;
  readonly keyRing: string;
  /** Name of each class's key in the ring. */
  readonly keys: Readonly<Record<DataClass, string>>;
  /** Where Cloud KMS is reached, without a trailing slash. */
  readonly endpoint: string;
  /** Where Secret Manager is reached, without a trailing slash: for the import of older keys only. */
  readonly secretManagerEndpoint: string;
  readonly credentials:
    | {
      readonly kind: "service_account";
      readonly clientEmail: string;
      /** PKCS #8 in PEM. */
      readonly privateKey: string;
      readonly privateKeyId: string | undefined;
      readonly tokenUri: string;
    }
    | { readonly kind: "access_token"; readonly token: string };
}

const PROJECT = /^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$/;
const NAME = /^[a-zA-Z0-9_-]{1,63}$/;
const NAME_CONSTRAINT = "must be 1 to 63 letters, digits, underscores or hyphens";

/** Whether the environment has credentials for it. */
export function hasGcp(read: EnvironmentReader): boolean {
  return read.isSet("GOOGLE_CREDENTIALS_JSON") || read.isSet("GOOGLE_ACCESS_TOKEN");
}

/** `required` says when the variables must be given. */
export function readGcp(
  read: EnvironmentReader,
  names: { readonly appName: string; readonly environment: string },
  required: string,
): GcpConfig {
  const name = (variable: string, fallback: string) => {
    const value = read.text(variable, { pattern: NAME, constraint: NAME_CONSTRAINT, fallback });
    if (value !== "" && !NAME.test(value)) {
      read.fault(
        variable,
        `is required: its default would come from APP_NAME, but it ${NAME_CONSTRAINT}`,
      );
    }
    return value;
  };
  return {
    project: read.text("GOOGLE_CLOUD_PROJECT", {
      pattern: PROJECT,
      constraint: "must be a Google Cloud project id",
      required,
    }),
    location: read.text("GOOGLE_KMS_LOCATION", {
      pattern: /^[a-z][a-z0-9-]{1,62}$/,
      constraint: "must be a Cloud KMS location such as global or europe-west1",
      fallback: "global",
    }),
    keyRing: name("GOOGLE_KMS_KEY_RING", names.appName),
    keys: perClass((variable, dataClass) =>
      name(`GOOGLE_KMS_${variable}_KEY`, `${names.appName}-${dataClass}-${names.environment}`)
    ),
    endpoint: read.serviceUrl("GOOGLE_KMS_ENDPOINT") || "https://cloudkms.googleapis.com",
    secretManagerEndpoint: read.serviceUrl("GOOGLE_SECRET_MANAGER_ENDPOINT") ||
      "https://secretmanager.googleapis.com",
    credentials: readCredentials(read, required),
  };
}

/**
 * The environment with the file of GOOGLE_APPLICATION_CREDENTIALS read into GOOGLE_CREDENTIALS_JSON, unless
 * other credentials are set. For command lines: an edge function has no files.
 */
export function withCredentialsFile(
  env: Environment,
  readTextFile: (path: string) => string,
): Environment {
  const path = env.GOOGLE_APPLICATION_CREDENTIALS?.trim() ?? "";
  const others = [env.GOOGLE_CREDENTIALS_JSON, env.GOOGLE_ACCESS_TOKEN];
  if (path === "" || others.some((value) => value !== undefined && value.trim() !== "")) return env;
  return { ...env, GOOGLE_CREDENTIALS_JSON: readTextFile(path) };
}

function readCredentials(read: EnvironmentReader, required: string): GcpConfig["credentials"] {
  const token = read.text("GOOGLE_ACCESS_TOKEN", {
    pattern: /^[\x21-\x7e]{16,4096}$/,
    constraint: "must be an OAuth 2.0 access token: 16 to 4096 characters without spaces",
  });
  const path = read.isSet("GOOGLE_APPLICATION_CREDENTIALS");
  if (read.isSet("GOOGLE_CREDENTIALS_JSON")) return readServiceAccount(read);
  if (!read.isSet("GOOGLE_ACCESS_TOKEN")) {
    if (path) {
      read.fault(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "cannot be used: an edge function has no files. Put the file's content into GOOGLE_CREDENTIALS_JSON",
      );
    } else read.fault("GOOGLE_CREDENTIALS_JSON", `or GOOGLE_ACCESS_TOKEN is required ${required}`);
  }
  return { kind: "access_token", token };
}

const JSON_NAME = "GOOGLE_CREDENTIALS_JSON";

function readServiceAccount(read: EnvironmentReader): GcpConfig["credentials"] {
  const json = read.json(JSON_NAME);
  const account = (typeof json === "object" ? json : null) as Record<string, unknown> | null;
  const text = (name: string) => {
    const value = account?.[name];
    return typeof value === "string" ? value : "";
  };
  const clientEmail = text("client_email");
  const privateKey = text("private_key");
  const tokenUri = text("token_uri") || "https://oauth2.googleapis.com/token";
  if (json !== undefined) {
    if (text("type") !== "service_account" || !/^[^\s@]+@[^\s@]+$/.test(clientEmail)) {
      read.fault(JSON_NAME, "must be the JSON key of a service account");
    } else if (
      !/^-{5}BEGIN PRIVATE KEY-{5}\s[\s\S]+\s-{5}END PRIVATE KEY-{5}\s*$/.test(privateKey)
    ) {
      read.fault(JSON_NAME, "must hold the private_key of the service account in PEM (PKCS #8)");
    } else if (!read.isServiceUrl(tokenUri)) {
      read.fault(JSON_NAME, "must have a token_uri that is https, except on a loopback address");
    }
  }
  return {
    kind: "service_account",
    clientEmail,
    privateKey,
    privateKeyId: text("private_key_id") || undefined,
    tokenUri,
  };
}
