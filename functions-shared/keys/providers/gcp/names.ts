import type { KeyNames } from "../rest/key-names.ts";

export const GCP_KEYS: KeyNames = {
  name: "gcp",
  providerId: "gcp-kms",
  keyIdPrefix: "projects/",
};
