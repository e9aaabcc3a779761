import type { KeyNames } from "../rest/key-names.ts";

export const VAULT_KEYS: KeyNames = {
  name: "vault",
  providerId: "vault-transit",
  keyIdPrefix: "vault:",
};
