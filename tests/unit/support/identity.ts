import type { FieldIdentity } from "../../../functions-shared/keys/field-cipher.ts";

/** The number of a card of somebody. */
export const IDENTITY: FieldIdentity = {
  dataClass: "payment",
  owner: "0b9bd1a5-1111-4111-8111-111111111111",
  table: "payment_methods",
  record: "0b9bd1a5-2222-4222-8222-222222222222",
  field: "number",
};

export const APP = { appName: "parker-flight", environment: "development" } as const;

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (data: Uint8Array): string => new TextDecoder().decode(data);
