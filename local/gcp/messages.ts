/**
 * Request bodies as ProtoJSON reads them: unknown members refused, bytes in either base64, int64 as text
 * or number.
 */
import { crc32c } from "../../functions-shared/keys/providers/gcp/crc32c.ts";
import { base64Bytes } from "../rest/server.ts";
import { GcpError } from "./errors.ts";

const MAX_BYTES = 64 * 1024;

export type Fields = Readonly<Record<string, "bytes" | "int64" | "string">>;

/** @throws {GcpError} INVALID_ARGUMENT */
export function readMessage(body: string, fields: Fields): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new GcpError("INVALID_ARGUMENT", "Invalid JSON payload received. Parse error.");
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new GcpError("INVALID_ARGUMENT", "Invalid JSON payload received. Root is no object.");
  }
  for (const [name, value] of Object.entries(json)) {
    const type = fields[name];
    if (type === undefined) {
      throw new GcpError(
        "INVALID_ARGUMENT",
        `Invalid JSON payload received. Unknown name "${name}": Cannot find field.`,
      );
    }
    if (!isOfType(value, type)) {
      throw new GcpError(
        "INVALID_ARGUMENT",
        `Invalid value at '${name}' (TYPE_${type.toUpperCase()})`,
      );
    }
  }
  return json as Record<string, unknown>;
}

function isOfType(value: unknown, type: Fields[string]): boolean {
  if (type === "int64") {
    return /^\d{1,19}$/.test(String(value)) && ["string", "number"].includes(typeof value);
  }
  return typeof value === "string" && (type === "string" || base64Bytes(value) !== null);
}

/**
 * The bytes of a field, and whether a checksum came with them and was right.
 * @throws {GcpError} INVALID_ARGUMENT
 */
export function checkedField(
  message: Readonly<Record<string, unknown>>,
  name: string,
): { readonly bytes: Uint8Array; readonly verified: boolean } {
  const bytes = base64Bytes(String(message[name] ?? "")) ?? new Uint8Array();
  if (bytes.length > MAX_BYTES) {
    throw new GcpError("INVALID_ARGUMENT", `${name} must be no larger than ${MAX_BYTES} bytes.`);
  }
  const checksum = message[`${name}Crc32c`];
  if (checksum === undefined) return { bytes, verified: false };
  if (String(checksum) !== String(crc32c(bytes))) {
    throw new GcpError(
      "INVALID_ARGUMENT",
      `The checksum in field ${name}_crc32c did not match the data in field ${name}.`,
    );
  }
  return { bytes, verified: true };
}
