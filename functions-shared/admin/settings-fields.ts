/**
 * What administrators may set, and the environment variable that each field stands for: the suite has one
 * validator, `loadConfig`, and its faults come back at the fields they are about.
 *
 * Names that are bound into messages are not among them: with another one no row could be read.
 */
import * as v from "valibot";
import type { Config } from "../config.ts";
import { ConfigError, type Environment } from "../environment.ts";
import type { Violation } from "../errors.ts";
import { readableText } from "../validation.ts";

export const PROVIDERS = ["aws", "gcp", "vault", "env"] as const;
export type ProviderName = Config["provider"];
/** By variable; an empty value unsets what the environment has. */
export type Variables = Readonly<Record<string, string>>;

type Fields = Readonly<Record<string, string>>;

const perClass = (field: string, variable: (name: string) => string): Fields =>
  Object.fromEntries(
    ["payment", "pii", "general"].map((name) => [
      `${field}/${name}`,
      variable(name.toUpperCase()),
    ]),
  );

/** Keys, JSON pointers into the request; values, variables. */
const FIELDS: Readonly<Record<ProviderName, Fields>> = {
  aws: {
    "/region": "AWS_REGION",
    "/fallback_regions": "KMS_FALLBACK_REGIONS",
    "/role_arn": "AWS_ROLE_ARN",
    "/account_id": "AWS_ACCOUNT_ID",
    ...perClass("/aliases", (name) => `KMS_${name}_ALIAS`),
  },
  gcp: {
    "/project": "GOOGLE_CLOUD_PROJECT",
    "/location": "GOOGLE_KMS_LOCATION",
    "/key_ring": "GOOGLE_KMS_KEY_RING",
    ...perClass("/keys", (name) => `GOOGLE_KMS_${name}_KEY`),
  },
  vault: {
    "/addr": "VAULT_ADDR",
    "/namespace": "VAULT_NAMESPACE",
    "/mount": "VAULT_TRANSIT_MOUNT",
    "/approle_mount": "VAULT_APPROLE_MOUNT",
    ...perClass("/keys", (name) => `VAULT_TRANSIT_${name}_KEY`),
  },
  env: {},
};

/** Never shown; those not given stay, for nobody could send them back. */
const CREDENTIALS: Readonly<Record<ProviderName, Fields>> = {
  aws: {
    "/credentials/accessKeyId": "AWS_ACCESS_KEY_ID",
    "/credentials/secretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "/credentials/sessionToken": "AWS_SESSION_TOKEN",
  },
  gcp: {
    "/credentials/service_account": "GOOGLE_CREDENTIALS_JSON",
    "/credentials/access_token": "GOOGLE_ACCESS_TOKEN",
  },
  vault: {
    "/credentials/token": "VAULT_TOKEN",
    "/credentials/role_id": "VAULT_ROLE_ID",
    "/credentials/secret_id": "VAULT_SECRET_ID",
  },
  env: { "/credentials/encryption_key": "ENCRYPTION_KEY" },
};

/** A secret of its own: credentials may change without it, and it without them. */
const EXTERNAL_ID: Fields = { "/external_id": "AWS_EXTERNAL_ID" };

/** Of any provider. */
const COMMON: Fields = {
  ...perClass("/keyrings", (name) => `KMS_${name}_KEYRING`),
  ...perClass("/branch_key_scopes", (name) => `KMS_${name}_BRANCH_KEY_SCOPE`),
};

const allOf = (provider: ProviderName): Fields => ({
  ...FIELDS[provider],
  ...CREDENTIALS[provider],
  ...provider === "aws" ? EXTERNAL_ID : {},
});

const KNOWN: ReadonlySet<string> = new Set([
  "KMS_PROVIDER",
  ...Object.values(COMMON),
  ...PROVIDERS.flatMap((provider) => Object.values(allOf(provider))),
]);

// ── The request ────────────────────────────────────────────────────────────────────────────────

const value = v.optional(v.nullable(
  v.pipe(v.string(), v.maxLength(4096, "invalid_length: must be at most 4096 characters")),
));
const ofClasses = v.optional(v.strictObject({ payment: value, pii: value, general: value }));
const common = {
  /** The guide's: `default`, or the one key of all classes. */
  keyId: value,
  keyrings: ofClasses,
  branch_key_scopes: ofClasses,
};

const candidates = <Extra extends v.ObjectEntries>(extra: Extra) =>
  v.variant("provider", [
    v.strictObject({
      provider: v.literal("aws"),
      ...common,
      region: value,
      fallback_regions: v.optional(v.nullable(
        v.pipe(v.array(v.string()), v.maxLength(32, "invalid_length: must be at most 32 regions")),
      )),
      role_arn: value,
      external_id: value,
      account_id: value,
      aliases: ofClasses,
      credentials: v.optional(
        v.strictObject({ accessKeyId: value, secretAccessKey: value, sessionToken: value }),
      ),
      ...extra,
    }),
    v.strictObject({
      provider: v.literal("gcp"),
      ...common,
      project: value,
      location: value,
      key_ring: value,
      keys: ofClasses,
      credentials: v.optional(v.strictObject({
        service_account: v.optional(v.nullable(v.record(v.string(), v.unknown()))),
        access_token: value,
      })),
      ...extra,
    }),
    v.strictObject({
      provider: v.literal("vault"),
      ...common,
      addr: value,
      namespace: value,
      mount: value,
      approle_mount: value,
      keys: ofClasses,
      credentials: v.optional(
        v.strictObject({ token: value, role_id: value, secret_id: value }),
      ),
      ...extra,
    }),
    v.strictObject({
      provider: v.literal("env"),
      ...common,
      credentials: v.optional(v.strictObject({ encryption_key: value })),
      ...extra,
    }),
  ]);

export const revision = v.pipe(
  v.number(),
  v.check(
    (n) => Number.isInteger(n) && n >= 0 && n <= 999_999_998,
    "out_of_range: must be the number of a revision",
  ),
);

const remove = v.optional(v.pipe(
  v.array(v.picklist(PROVIDERS)),
  v.maxLength(PROVIDERS.length, "invalid_length: must be at most 4 providers"),
));

const why = { remove, reason: v.optional(readableText(200)), revision: v.optional(revision) };

export const testSchema = candidates({ remove });
export const putSchema = candidates(why);
export const rollbackSchema = v.strictObject({
  revision,
  reason: why.reason,
  remove,
});

export type Candidate = v.InferOutput<typeof testSchema>;

// ── From requests to variables ─────────────────────────────────────────────────────────────────

/**
 * What is stored after the request: its provider's fields are replaced, its credentials too if any is
 * given; what was stored for other providers stays, so that they read what they wrote.
 */
export function merge(stored: Variables, candidate: Candidate): Variables {
  const { provider, keyId, remove: _, ...fields } = candidate;
  const sent = flatten(withKeyId(provider, keyId, fields), allOf(provider));
  const replaced = new Set([
    "KMS_PROVIDER",
    ...Object.values(COMMON),
    ...Object.values(FIELDS[provider]),
    ...provider === "aws" && "AWS_EXTERNAL_ID" in sent ? ["AWS_EXTERNAL_ID"] : [],
  ]);
  const kept = Object.entries(stored).filter(([name]) => !replaced.has(name));
  // Given ones are a set: an old session token or AppRole must not be mixed with them.
  const unset = candidate.credentials === undefined
    ? []
    : Object.values(CREDENTIALS[provider]).map((name) => [name, ""] as const);
  return drop(
    { ...Object.fromEntries([...kept, ...unset]), ...sent, KMS_PROVIDER: provider },
    candidate.remove,
  );
}

/**
 * An older revision once more; providers that it did not know stay, so that what they wrote is read. One
 * that was removed since is the environment's again, as it was then. `chosen`, its own, it knows even if it
 * says nothing of it: then the environment's values count. Those that are `writing`, in workers that have
 * not followed yet, stay as they are whatever it says of them: they are removed with a later change.
 */
export function restore(
  stored: Variables,
  older: Variables,
  chosen: ProviderName,
  { writing, removed }: {
    readonly writing: readonly ProviderName[];
    readonly removed?: readonly ProviderName[] | undefined;
  },
): Variables {
  const namesOf = (provider: ProviderName) => Object.values(allOf(provider));
  const isRestored = (provider: ProviderName) =>
    provider === chosen || !writing.includes(provider) && (
        namesOf(provider).some((name) => name in older) ||
        !namesOf(provider).some((name) => stored[name])
      );
  const restored = new Set([
    "KMS_PROVIDER",
    ...Object.values(COMMON),
    ...PROVIDERS.filter(isRestored).flatMap(namesOf),
  ]);
  return drop({
    ...Object.fromEntries(Object.entries(stored).filter(([name]) => !restored.has(name))),
    ...Object.fromEntries(Object.entries(older).filter(([name]) => restored.has(name))),
  }, removed);
}

/** Without these providers, those of the environment included. */
function drop(variables: Variables, removed: readonly ProviderName[] = []): Variables {
  const names = new Set(removed.flatMap((provider) => Object.values(allOf(provider))));
  const kept = Object.entries(variables).filter(([name]) => !names.has(name));
  const unset = removed.flatMap((provider) => Object.values(CREDENTIALS[provider]))
    .map((name) => [name, ""] as const);
  return Object.fromEntries([...kept, ...unset]);
}

/** The guide has one key, the suite one a class. */
function withKeyId(
  provider: ProviderName,
  keyId: string | null | undefined,
  fields: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  if (keyId === undefined || keyId === null || keyId === "default" || provider === "env") {
    return fields;
  }
  const field = provider === "aws" ? "aliases" : "keys";
  const each = { payment: keyId, pii: keyId, general: keyId };
  return { ...fields, [field]: { ...each, ...fields[field] as object | undefined } };
}

function flatten(fields: Readonly<Record<string, unknown>>, own: Fields): Record<string, string> {
  const names: Fields = { ...own, ...COMMON };
  const variables: Record<string, string> = {};
  const walk = (node: unknown, pointer: string) => {
    const name = names[pointer];
    if (node === undefined) return;
    if (name !== undefined) {
      variables[name] = node === null ? "" : typeof node === "string" ? node : JSON.stringify(node);
    } else if (typeof node === "object" && node !== null) {
      for (const [key, child] of Object.entries(node)) walk(child, `${pointer}/${key}`);
    }
  };
  walk(fields, "");
  return variables;
}

// ── From faults to fields ──────────────────────────────────────────────────────────────────────

/** @throws {ConfigError} naming no value, when what was opened is not what was ever sealed. */
export function readVariables(plaintext: string): Variables {
  let parsed: unknown;
  try {
    parsed = JSON.parse(plaintext);
  } catch {
    // The parser's message would quote credentials.
  }
  const entries = typeof parsed === "object" && parsed !== null
    ? Object.entries(parsed)
    : undefined;
  if (entries?.every(([name, text]) => KNOWN.has(name) && typeof text === "string")) {
    return Object.fromEntries(entries) as Variables;
  }
  throw new ConfigError(["The stored settings hold what this version does not know"]);
}

/** Names of variables and constraints as fields of the request. */
export function violationsOf(error: ConfigError, provider: ProviderName): readonly Violation[] {
  const names: Fields = { "/provider": "KMS_PROVIDER", ...COMMON, ...allOf(provider) };
  const pointers = new Map(Object.entries(names).map(([pointer, name]) => [name, pointer]));
  return error.faults.map((fault) => {
    const [name = "", ...constraint] = fault.split(" ");
    return {
      pointer: pointers.get(name) ?? "",
      code: fault.includes("is required") ? "missing_field" : "invalid_value",
      detail: pointers.has(name) ? constraint.join(" ") : fault,
    };
  });
}

/** Fields of the credentials that are set, never their values. */
export function credentialsSet(provider: ProviderName, environment: Environment): string[] {
  return Object.entries({ ...CREDENTIALS[provider], ...provider === "aws" ? EXTERNAL_ID : {} })
    .filter(([, name]) => (environment[name] ?? "").trim() !== "")
    .map(([pointer]) => pointer.slice(pointer.lastIndexOf("/") + 1));
}

/** The settings of the provider in force, as a request would have them, without any secret. */
export function shownSettings(config: Config): Readonly<Record<string, unknown>> {
  const { provider, aws, gcp, vault, keyrings, branchKeyScopes } = config;
  const common = { keyrings, branch_key_scopes: branchKeyScopes };
  if (provider === "aws" && aws !== undefined) {
    return {
      region: aws.region,
      fallback_regions: aws.fallbackRegions,
      aliases: aws.aliases,
      role_arn: aws.role?.arn ?? null,
      account_id: aws.accountId ?? null,
      ...common,
    };
  }
  if (provider === "gcp" && gcp !== undefined) {
    const { project, location, keyRing, keys } = gcp;
    return { project, location, key_ring: keyRing, keys, ...common };
  }
  if (provider === "vault" && vault !== undefined) {
    const { address, namespace = null, mount, keys, auth } = vault;
    const approle = auth.kind === "approle" ? { approle_mount: auth.mount } : {};
    return { addr: address, namespace, mount, keys, ...approle, ...common };
  }
  return common;
}
