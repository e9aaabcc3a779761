/** The query protocol, version 2010-08-01: form in, XML out; what clients spoke before 2025. */

import { Buffer } from "node:buffer";
import { AwsError, statusOf } from "../errors.ts";
import type { AwsRequest } from "../service.ts";
import { escape } from "../query/xml.ts";
import { contentType, malformed, type Protocol, queryCode, readBody } from "./protocol.ts";

const VERSION = "2010-08-01";
const NAMESPACE = `http://monitoring.amazonaws.com/doc/${VERSION}/`;
const FORM = "application/x-www-form-urlencoded";
const CONTENT_TYPE = "text/xml";

/** Members that are no strings, by their path with every `.member.N` written as `[]`. */
const NUMBERS =
  /^(MetricData\[\]\.(Value|Values\[\]|Counts\[\]|StatisticValues\.\w+|StorageResolution)|Period|MetricDataQueries\[\]\.(MetricStat\.)?Period|MaxDatapoints)$/;
const TIMES = /^(MetricData\[\]\.Timestamp|StartTime|EndTime)$/;
const BOOLEANS = /^MetricDataQueries\[\]\.ReturnData$/;

export const query: Protocol = {
  claim(request) {
    if (request.headers.has("x-amz-target")) return null;
    let form: URLSearchParams;
    try {
      form = formOf(request);
    } catch {
      return null;
    }
    return form.get("Version") === VERSION ? form.get("Action") : null;
  },

  fits(request) {
    return request.path === "/" &&
      (request.method === "GET" || (request.method === "POST" && contentType(request) === FORM));
  },

  read(request) {
    const root: Tree = new Map();
    for (const [name, value] of formOf(request)) {
      if (name !== "Action" && name !== "Version") plant(root, name, value);
    }
    return unfold(root, "");
  },

  answer(operation, result, request) {
    const inner = result === null ? "" : element(`${operation}Result`, result);
    const body = `<${operation}Response xmlns="${NAMESPACE}">${inner}` +
      `${element("ResponseMetadata", { RequestId: request.id })}</${operation}Response>\n`;
    return { status: 200, contentType: CONTENT_TYPE, body };
  },

  refuse(error, request) {
    const code = queryCode(error.code);
    // The protocol's own names have statuses of their own, such as 403 for AccessDenied.
    const status = Math.max(error.status, statusOf(code));
    const body = `<ErrorResponse xmlns="${NAMESPACE}">` +
      element("Error", {
        Type: status >= 500 ? "Receiver" : "Sender",
        Code: code,
        Message: error.message,
      }) + `${element("RequestId", request.id)}</ErrorResponse>\n`;
    return { status, contentType: CONTENT_TYPE, body, errorName: error.code };
  },
};

function formOf(request: AwsRequest): URLSearchParams {
  if (request.method === "GET") return new URLSearchParams(request.query);
  if (contentType(request) !== FORM) return new URLSearchParams();
  return new URLSearchParams(Buffer.from(readBody(request)).toString("utf8"));
}

type Tree = Map<string, Tree | string>;

function plant(root: Tree, name: string, value: string): void {
  const path = name.split(".");
  const leaf = path.pop() ?? "";
  let tree = root;
  for (const part of path) {
    const branch = tree.get(part) ?? new Map();
    if (typeof branch === "string") throw malformed();
    tree.set(part, branch);
    tree = branch;
  }
  if (tree.has(leaf)) throw malformed();
  tree.set(leaf, value);
}

function unfold(tree: Tree, path: string): unknown {
  const list = tree.get("member");
  if (list !== undefined && typeof list !== "string" && tree.size === 1) {
    return [...list].sort(([a], [b]) => Number(a) - Number(b))
      .map(([, entry]) => convert(entry, `${path}[]`));
  }
  return Object.fromEntries([...tree].map(([name, entry]) => [
    name,
    convert(entry, path === "" ? name : `${path}.${name}`),
  ]));
}

function convert(entry: Tree | string, path: string): unknown {
  if (typeof entry !== "string") return unfold(entry, path);
  if (BOOLEANS.test(path)) return entry === "true";
  if (TIMES.test(path)) return finite(Date.parse(entry) / 1000);
  if (!NUMBERS.test(path)) return entry;
  return entry === "NaN" || /^-?Infinity$/.test(entry) ? entry : finite(Number(entry || NaN));
}

function finite(value: number): number {
  if (!Number.isFinite(value)) throw new AwsError("SerializationException", "Malformed input");
  return value;
}

function element(name: string, value: unknown): string {
  if (value === undefined) return "";
  const inner = name === "ExtendedStatistics" ? entries(value) : content(value);
  return `<${name}>${inner}</${name}>`;
}

function content(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map((entry) => element("member", entry)).join("");
  if (typeof value !== "object" || value === null) return escape(String(value));
  return Object.entries(value).map(([name, member]) => element(name, member)).join("");
}

/** The one map of the answers. */
function entries(map: unknown): string {
  return Object.entries(map ?? {})
    .map(([key, value]) => element("entry", { key, value })).join("");
}
