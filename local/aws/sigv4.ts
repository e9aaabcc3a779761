/**
 * AWS Signature Version 4, the verifier's side: takes an Authorization header apart, recomputes
 * the signature and compares it in constant time.
 * Source: AWS General Reference, "Create a signed AWS API request".
 */

import { Buffer } from "node:buffer";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { AuthenticationFault, AwsRequest } from "./service.ts";

const ALGORITHM = "AWS4-HMAC-SHA256";
const TERMINATOR = "aws4_request";
/** AWS accepts requests signed within five minutes of its clock. */
const TOLERANCE_MS = 5 * 60_000;

export class SignatureError extends Error {
  readonly fault: AuthenticationFault;
  constructor(fault: AuthenticationFault, message: string) {
    super(message);
    this.name = "SignatureError";
    this.fault = fault;
  }
}

export interface SignatureClaim {
  readonly accessKeyId: string;
  /** `YYYYMMDD` of the scope. */
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly terminator: string;
  readonly signedHeaders: readonly string[];
  /** Lower-case hex as sent. */
  readonly signature: string;
  /** `YYYYMMDDTHHMMSSZ` of the request. */
  readonly timestamp: string;
  readonly signedAt: number;
}

/** Throws SignatureError (`missing`, `incomplete`); says nothing about the signature's truth. */
export function parseAuthorization(request: AwsRequest): SignatureClaim {
  const header = request.headers.get("authorization");
  if (header === undefined || header === "") {
    throw new SignatureError("missing", "Missing Authentication Token");
  }
  const hashed = createHash("sha256").update(header).digest("base64");
  const incomplete = (problem: string) =>
    new SignatureError(
      "incomplete",
      `${problem} (Hashed with SHA-256 and encoded with Base64) Authorization=${hashed}`,
    );
  const space = header.indexOf(" ");
  const algorithm = space < 0 ? header : header.slice(0, space);
  if (algorithm !== ALGORITHM) throw incomplete("Unsupported AWS 'algorithm'.");
  const parameters = new Map<string, string>();
  for (const part of (space < 0 ? "" : header.slice(space + 1)).split(",")) {
    const equals = part.indexOf("=");
    if (equals > 0) parameters.set(part.slice(0, equals).trim(), part.slice(equals + 1).trim());
  }
  const missing = ["Credential", "Signature", "SignedHeaders"]
    .filter((name) => !parameters.get(name))
    .map((name) => `Authorization header requires '${name}' parameter.`);
  const timestamp = readTimestamp(request);
  if (timestamp === null) {
    missing.push(
      "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
    );
  }
  if (missing.length > 0 || timestamp === null) throw incomplete(missing.join(" "));
  const scope = (parameters.get("Credential") ?? "").split("/");
  if (scope.length !== 5) {
    throw incomplete(
      "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
    );
  }
  const [accessKeyId = "", date = "", region = "", service = "", terminator = ""] = scope;
  const signedHeaders = (parameters.get("SignedHeaders") ?? "").split(";");
  if (!signedHeaders.includes("host")) {
    throw incomplete("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.");
  }
  const absent = signedHeaders.filter((name) => !request.headers.has(name));
  if (absent.length > 0) throw incomplete(`Signed header '${absent[0]}' is not in the request.`);
  return {
    accessKeyId,
    date,
    region,
    service,
    terminator,
    signedHeaders,
    signature: parameters.get("Signature") ?? "",
    timestamp: timestamp.text,
    signedAt: timestamp.at,
  };
}

function readTimestamp(request: AwsRequest): { text: string; at: number } | null {
  const amz = request.headers.get("x-amz-date");
  if (amz !== undefined) {
    const m = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/.exec(amz);
    if (m === null) return null;
    const at = Date.parse(`${m[1]}-${m[2]}-${m[3]}T${m[4]}:${m[5]}:${m[6]}Z`);
    return Number.isNaN(at) ? null : { text: amz, at };
  }
  const at = Date.parse(request.headers.get("date") ?? "");
  return Number.isNaN(at) ? null : { text: compactTime(at), at };
}

/** `YYYYMMDDTHHMMSSZ`. */
export function compactTime(at: number): string {
  return new Date(at).toISOString().replace(/[-:]|\.\d+/g, "");
}

export interface VerificationOptions {
  readonly service: string;
  readonly isRegion: (name: string) => boolean;
  readonly secretAccessKey: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Throws SignatureError (`signature`) unless scope, time and signature all hold. */
export function verifySignature(
  request: AwsRequest,
  claim: SignatureClaim,
  options: VerificationOptions,
): void {
  const refuse = (message: string) => new SignatureError("signature", message);
  if (!options.isRegion(claim.region)) {
    throw refuse("Credential should be scoped to a valid region.");
  }
  if (claim.service !== options.service) {
    throw refuse(`Credential should be scoped to correct service: '${options.service}'.`);
  }
  if (claim.terminator !== TERMINATOR) {
    throw refuse(`Credential should be scoped with a valid terminator: '${TERMINATOR}'.`);
  }
  if (claim.date !== claim.timestamp.slice(0, 8)) {
    throw refuse(
      "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: " +
        `'${claim.date}' != '${claim.timestamp.slice(0, 8)}', from '${claim.timestamp}'.`,
    );
  }
  const clock = compactTime(options.now);
  if (claim.signedAt < options.now - TOLERANCE_MS) {
    const earliest = compactTime(options.now - TOLERANCE_MS);
    throw refuse(
      `Signature expired: ${claim.timestamp} is now earlier than ${earliest} (${clock} - 5 min.)`,
    );
  }
  if (claim.signedAt > options.now + TOLERANCE_MS) {
    const latest = compactTime(options.now + TOLERANCE_MS);
    throw refuse(
      `Signature not yet current: ${claim.timestamp} is still later than ${latest} ` +
        `(${clock} + 5 min.)`,
    );
  }
  const expected = computeSignature(request, claim, options.secretAccessKey);
  const given = Buffer.from(claim.signature, "utf8");
  const wanted = Buffer.from(expected, "utf8");
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
    throw refuse(
      "The request signature we calculated does not match the signature you provided. Check your " +
        "AWS Secret Access Key and signing method. Consult the service documentation for details.",
    );
  }
}

/** Lower-case hex. The payload's hash is computed from the body, never taken from a header. */
export function computeSignature(
  request: AwsRequest,
  claim: Pick<
    SignatureClaim,
    "date" | "region" | "service" | "terminator" | "signedHeaders" | "timestamp"
  >,
  secretAccessKey: string,
): string {
  const canonicalRequest = [
    request.method,
    canonicalPath(request.path),
    canonicalQuery(request.query),
    claim.signedHeaders.map((name) => `${name}:${canonicalHeader(request, name)}\n`).join(""),
    claim.signedHeaders.join(";"),
    createHash("sha256").update(request.body).digest("hex"),
  ].join("\n");
  const scope = [claim.date, claim.region, claim.service, claim.terminator].join("/");
  const stringToSign = [
    ALGORITHM,
    claim.timestamp,
    scope,
    createHash("sha256").update(canonicalRequest).digest("hex"),
  ].join("\n");
  let key: Uint8Array = new TextEncoder().encode(`AWS4${secretAccessKey}`);
  for (const part of [claim.date, claim.region, claim.service, claim.terminator]) {
    key = new Uint8Array(createHmac("sha256", key).update(part).digest());
  }
  return createHmac("sha256", key).update(stringToSign).digest("hex");
}

function canonicalHeader(request: AwsRequest, name: string): string {
  return (request.headers.get(name) ?? "").trim().replace(/ +/g, " ");
}

function canonicalPath(path: string): string {
  const segments: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "..") segments.pop();
    else if (segment !== "." && segment !== "") segments.push(encode(segment));
  }
  const trailing = path.length > 1 && path.endsWith("/") ? "/" : "";
  return segments.length === 0 ? "/" : `/${segments.join("/")}${trailing}`;
}

function canonicalQuery(query: string): string {
  return query.split("&").filter((pair) => pair !== "").map((pair) => {
    const equals = pair.indexOf("=");
    const name = equals < 0 ? pair : pair.slice(0, equals);
    const value = equals < 0 ? "" : pair.slice(equals + 1);
    return [encode(decode(name)), encode(decode(value))] as const;
  }).sort(([a, x], [b, y]) => a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0)
    .map(([name, value]) => `${name}=${value}`).join("&");
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function encode(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
