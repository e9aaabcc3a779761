/**
 * `/_local/*`: faults, calls and clock for other processes. Unsigned, and therefore closed to web
 * pages: the Host must be loopback's, and a request that a browser made on a page's behalf is
 * refused.
 */

import type { Faults } from "./faults.ts";
import type { AwsReply, AwsRequest } from "./service.ts";
import type { CallRecord, ClockSwitch, FaultRule } from "./types.ts";

export const LOCAL_PREFIX = "/_local/";

export interface LocalApi {
  readonly faults: Faults;
  readonly clock: ClockSwitch;
  readonly calls: () => readonly CallRecord[];
  readonly resetCalls: () => void;
}

type Handler = (api: LocalApi, body: () => unknown) => unknown;

const ROUTES: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  health: { GET: () => ({ status: "ok" }) },
  faults: {
    GET: (api) => ({ rules: api.faults.rules() }),
    PUT: (api, body) => {
      api.faults.set(readRules(body()));
      return { rules: api.faults.rules() };
    },
    DELETE: (api) => {
      api.faults.clear();
      return { rules: [] };
    },
  },
  calls: {
    GET: (api) => ({ calls: api.calls() }),
    DELETE: (api) => {
      api.resetCalls();
      return { calls: [] };
    },
  },
  clock: {
    GET: (api) => ({ offset_ms: api.clock.offsetMs }),
    PUT: (api, body) => {
      api.clock.set(readOffset(body()));
      return { offset_ms: api.clock.offsetMs };
    },
    DELETE: (api) => {
      api.clock.set(0);
      return { offset_ms: 0 };
    },
  },
};

export function answerLocalApi(request: AwsRequest, api: LocalApi): AwsReply {
  if (!isLocal(request)) return reply(403, { error: "only local programs may use this address" });
  const route = own(ROUTES, request.path.slice(LOCAL_PREFIX.length));
  if (route === undefined) return reply(404, { error: "there is nothing at this address" });
  const handler = own(route, request.method);
  if (handler === undefined) {
    return reply(405, { error: `use one of ${Object.keys(route).join(", ")}` });
  }
  try {
    return reply(200, handler(api, () => JSON.parse(new TextDecoder().decode(request.body))));
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) {
      return reply(400, { error: error.message });
    }
    throw error;
  }
}

/** A member of the table itself, never of its prototype. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** A page cannot set these headers: browsers do, and name the site they were asked for. */
function isLocal(request: AwsRequest): boolean {
  const host = request.headers.get("host") ?? "";
  if (!/^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?$/i.test(host)) return false;
  const site = request.headers.get("sec-fetch-site");
  return !request.headers.has("origin") && (site === undefined || site === "none");
}

/** A list of rules, or `{rules: [...]}` as GET answers. `set` checks each. */
function readRules(json: unknown): readonly FaultRule[] {
  const list = Array.isArray(json) ? json : (json as { rules?: unknown } | null)?.rules;
  if (!Array.isArray(list)) throw new TypeError("the body must be a list of rules");
  return list;
}

function readOffset(json: unknown): number {
  const offset = (json as { offset_ms?: unknown } | null)?.offset_ms;
  if (typeof offset !== "number" || !Number.isFinite(offset)) {
    throw new TypeError("offset_ms must be a number");
  }
  return offset;
}

function reply(status: number, body: unknown): AwsReply {
  return { status, contentType: "application/json", body: JSON.stringify(body) };
}
