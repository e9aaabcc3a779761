/** The variables of the provider `vault`: HashiCorp Vault's Transit engine. */
import type { DataClass } from "./data-class.ts";
import { type EnvironmentReader, perClass } from "./environment.ts";

export interface VaultConfig {
  /** Without a trailing slash. */
  readonly address: string;
  /** Without slashes at either end; undefined = the root namespace. */
  readonly namespace: string | undefined;
  /** Where the Transit engine is mounted, without slashes at either end. */
  readonly mount: string;
  /** Name of each class's key. */
  readonly keys: Readonly<Record<DataClass, string>>;
  readonly auth:
    | { readonly kind: "token"; readonly token: string }
    | {
      readonly kind: "approle";
      /** Where the method is mounted below `auth/`. */
      readonly mount: string;
      readonly roleId: string;
      readonly secretId: string;
    };
}

/** Segments of letters, digits, underscores and hyphens: nothing that a URL would resolve or decode. */
const PATH = /^[\w-]{1,64}(\/[\w-]{1,64}){0,9}$/;
const PATH_CONSTRAINT = "must be names of letters, digits, underscores or hyphens between slashes";
/** The Transit engine's own rule for names. */
const NAME = /^\w([\w.-]{0,126}\w)?$/;
const CREDENTIAL = /^[\x21-\x7e]{1,1024}$/;
const CREDENTIAL_CONSTRAINT = "must be 1 to 1024 characters without spaces";

/** Whether the environment has credentials for it. */
export function hasVault(read: EnvironmentReader): boolean {
  return read.isSet("VAULT_TOKEN") || read.isSet("VAULT_ROLE_ID");
}

/** `required` says when the variables must be given. */
export function readVault(
  read: EnvironmentReader,
  names: { readonly appName: string; readonly environment: string },
  required: string,
): VaultConfig {
  const path = (variable: string, fallback?: string) =>
    read.text(variable, {
      // `vault` itself shows paths with a slash at their end.
      matches: (value) => PATH.test(trimSlashes(value)),
      constraint: PATH_CONSTRAINT,
      ...fallback === undefined ? {} : { fallback },
    });
  return {
    address: read.serviceUrl("VAULT_ADDR", { required }),
    namespace: trimSlashes(path("VAULT_NAMESPACE")) || undefined,
    mount: trimSlashes(path("VAULT_TRANSIT_MOUNT", "transit")),
    keys: perClass((variable, dataClass) => {
      const name = `VAULT_TRANSIT_${variable}_KEY`;
      const value = read.text(name, {
        pattern: NAME,
        constraint: "must be a Transit key's name: letters, digits, dots, underscores or hyphens",
        fallback: `${names.appName}-${dataClass}-${names.environment}`,
      });
      return value;
    }),
    auth: readAuth(read, required, path),
  };
}

function readAuth(
  read: EnvironmentReader,
  required: string,
  path: (variable: string, fallback: string) => string,
): VaultConfig["auth"] {
  const credential = (name: string, mustBe?: string) =>
    read.text(name, {
      pattern: CREDENTIAL,
      constraint: CREDENTIAL_CONSTRAINT,
      required: mustBe,
    });
  const mount = trimSlashes(path("VAULT_APPROLE_MOUNT", "approle"));
  const roleId = credential("VAULT_ROLE_ID");
  const hasRole = read.isSet("VAULT_ROLE_ID");
  const secretId = credential("VAULT_SECRET_ID", hasRole ? "when VAULT_ROLE_ID is set" : undefined);
  const token = credential("VAULT_TOKEN");
  if (hasRole) {
    if (read.isSet("VAULT_TOKEN")) {
      read.fault("VAULT_TOKEN", "must not be set beside VAULT_ROLE_ID: it would not be used");
    }
    return { kind: "approle", mount, roleId, secretId };
  }
  if (!read.isSet("VAULT_TOKEN")) {
    read.fault("VAULT_TOKEN", `or VAULT_ROLE_ID with VAULT_SECRET_ID is required ${required}`);
  }
  return { kind: "token", token };
}

function trimSlashes(path: string): string {
  return path.replace(/^\/+|\/+$/g, "");
}
