/** AWS JSON 1.0: what the SDK for JavaScript and the command line speak. */

import { AwsError } from "../errors.ts";
import { contentType, malformed, type Protocol, queryErrorHeader, readBody } from "./protocol.ts";

const TARGET_PREFIX = "GraniteServiceVersion20100801.";
const CONTENT_TYPE = "application/x-amz-json-1.0";

export const json: Protocol = {
  claim(request) {
    const target = request.headers.get("x-amz-target");
    return target?.startsWith(TARGET_PREFIX) ? target.slice(TARGET_PREFIX.length) : null;
  },

  fits(request) {
    return request.method === "POST" && request.path === "/" &&
      contentType(request) === CONTENT_TYPE;
  },

  read(request) {
    const text = new TextDecoder("utf-8", { fatal: true });
    try {
      return JSON.parse(text.decode(readBody(request)));
    } catch (error) {
      throw error instanceof AwsError ? error : malformed();
    }
  },

  answer(_operation, result) {
    const body = JSON.stringify(withSeconds(result ?? {}));
    return { status: 200, contentType: CONTENT_TYPE, body };
  },

  refuse(error, request) {
    return {
      status: error.status,
      contentType: CONTENT_TYPE,
      headers: queryErrorHeader(error, request),
      body: JSON.stringify({
        __type: `com.amazonaws.cloudwatch#${error.code}`,
        ...error.hasMessage ? { message: error.message } : {},
      }),
      errorName: error.code,
    };
  },
};

/** Times as seconds since the epoch. */
function withSeconds(value: unknown): unknown {
  if (value instanceof Date) return value.getTime() / 1000;
  if (Array.isArray(value)) return value.map(withSeconds);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, withSeconds(member)]),
  );
}
