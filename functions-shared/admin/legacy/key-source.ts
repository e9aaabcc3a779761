/** Where keys of older setups are kept. */
import { SuiteError } from "../../errors.ts";
import { keyImportFailed } from "./key.ts";

/** A key as it is kept there. */
export interface KeyLocation {
  /** Its id in the older setup; what is reported when it is not found. */
  readonly keyId: string;
  /** Where it is kept; by default where the key management guide puts the key of that id. */
  readonly name?: string | undefined;
  /** An earlier version, from before the older setup rotated; the newest unless given. */
  readonly version?: number | undefined;
}

/**
 * The text that is kept there, read once.
 * @throws {SuiteError} kms_key_unusable (not found, or not usable), kms_access_denied, kms_unavailable; the
 *   message of the cause says which in the guide's words, and is nothing that must not be shown.
 */
export type KeySource = (at: KeyLocation, signal?: AbortSignal) => Promise<string>;

/** A source without credentials is undefined. */
export interface KeySources {
  readonly aws: KeySource | undefined;
  readonly gcp: KeySource | undefined;
  readonly vault: KeySource | undefined;
  readonly env: KeySource | undefined;
}

/**
 * The text that `source` keeps.
 * @throws {SuiteError} key_import_failed with a refusal in the key management guide's words; kms_unavailable.
 */
export async function fetchKey(
  source: KeySource | undefined,
  at: KeyLocation,
  signal?: AbortSignal,
): Promise<string> {
  if (source === undefined) {
    throw keyImportFailed(
      "source_not_configured",
      "The configuration has no credentials for this source",
    );
  }
  try {
    return await source(at, signal);
  } catch (error) {
    throw inTheGuidesWords(error);
  }
}

/** Refusals as that guide lists them; an outage stays one. */
function inTheGuidesWords(error: unknown): unknown {
  if (!(error instanceof SuiteError) || !(error.cause instanceof Error)) return error;
  switch (error.code) {
    case "kms_access_denied":
      return keyImportFailed("access_denied", "Access denied to encryption key", error.cause);
    case "kms_key_unusable": {
      const { message } = error.cause;
      const code = message.includes("not found") ? "key_not_found" : "key_not_usable";
      return keyImportFailed(code, message, error.cause);
    }
    default:
      return error;
  }
}
