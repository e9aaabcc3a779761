/** Rate limits of requests: which ones hold, whether they let a request through, and what it is told. */
import type { Limit, RateLimitConfig, RouteClass } from "../config-rate-limits.ts";
import { SuiteError } from "../errors.ts";
import { clientAddress } from "./address.ts";
import { keyedHash, networkOf } from "./network.ts";
import type { LimitedKey, RateLimitStore, Taken } from "./rate-limit-store.ts";

/** A limit that holds for a request, under the name that the headers give it. */
export interface Policy extends LimitedKey {
  readonly name: string;
}

/** Who calls, as far as limits are concerned. */
type Subject =
  | { readonly kind: "user"; readonly userId: string }
  | { readonly kind: "secret_key"; readonly keyName: string };

interface LimitConfig {
  readonly rateLimits: RateLimitConfig;
  readonly supabase: { readonly secretKeys: Readonly<Record<string, string>> };
}

/**
 * A user's own limit and that of their address; a server's own alone: its key says who it is, and all
 * its users' requests come from one address.
 */
export function policiesOf(
  routeClass: RouteClass,
  subject: Subject,
  request: Request,
  config: LimitConfig,
): readonly Policy[] {
  const { user, server, address } = config.rateLimits;
  if (subject.kind === "secret_key") {
    return policy(routeClass, `server:${subject.keyName}`, server[routeClass]);
  }
  return [
    ...policy(routeClass, `user:${subject.userId}`, user[routeClass]),
    ...policy(`${routeClass}_address`, () => network(request, config), address[routeClass]),
  ];
}

/** The limit of requests without valid credentials. */
export function failurePolicies(request: Request, config: LimitConfig): readonly Policy[] {
  return policy("auth_failure", () => network(request, config), config.rateLimits.authFailure);
}

function policy(
  name: string,
  subject: string | (() => string),
  limit: Limit | undefined,
): readonly Policy[] {
  if (limit === undefined) return [];
  const key = `${name}:${typeof subject === "string" ? subject : subject()}`;
  return [{ name, key, limit: limit.count, seconds: limit.seconds }];
}

/** Requests whose address the platform does not tell share one counter. */
function network(request: Request, { supabase }: LimitConfig): string {
  return keyedHash(networkOf(clientAddress(request)), supabase.secretKeys);
}

/** What a request was told about its limits. */
export interface Admission {
  readonly headers: Readonly<Record<string, string>>;
  /** Why it goes no further, if it does not. */
  readonly refusal?: SuiteError;
}

/** @throws {SuiteError} database_unavailable: what cannot be counted is not let through. */
export async function admit(
  store: RateLimitStore,
  policies: readonly Policy[],
): Promise<Admission> {
  if (policies.length === 0) return { headers: {} };
  const taken = await store.take(policies.map(({ key, limit, seconds }) => ({
    key,
    limit,
    seconds,
  })));
  const headers = rateLimitHeaders(policies, taken);
  if (taken.allowed) return { headers };
  return {
    headers,
    refusal: new SuiteError("rate_limited", { retryAfterSeconds: taken.reset }),
  };
}

/** draft-ietf-httpapi-ratelimit-headers-10: every policy, and where the tightest stands. */
export function rateLimitHeaders(
  policies: readonly Policy[],
  { index, remaining, reset }: Taken,
): Record<string, string> {
  const tightest = policies[index];
  return {
    "ratelimit-policy": policies.map(({ name, limit, seconds }) =>
      `"${name}";q=${limit};w=${seconds}`
    )
      .join(", "),
    ...tightest === undefined
      ? {}
      : { "ratelimit": `"${tightest.name}";r=${remaining};t=${reset}` },
  };
}
