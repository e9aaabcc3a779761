import type { KeyProvider } from "../../key-provider.ts";

/** How a provider's keys are told apart from others' in messages and branch key records. */
export interface KeyNames {
  readonly name: KeyProvider["name"];
  /** Provider id of its data keys in messages; `aws-kms...` is AWS's. */
  readonly providerId: string;
  /** What every name of a wrapping key begins with. */
  readonly keyIdPrefix: string;
}
