/** The requests of the load, as a mix of what an application sends. */
import { randomCardNumber } from "../bench/cards.ts";

/** How to reach the stack, and as whom. */
export interface Target {
  readonly url: string;
  readonly publishableKey: string;
  readonly token: string;
}

export interface Operation {
  readonly name: string;
  /** Share of the load, by weight. */
  readonly weight: number;
  readonly request: (target: Target) => Request;
}

/** An answer that takes longer is an error: the platform itself gives up after 150 s. */
const TIMEOUT_MS = 30_000;

export const OPERATIONS: readonly Operation[] = [{
  name: "encrypt a card",
  weight: 5,
  request: (target) =>
    post(target, {
      data_class: "payment",
      card: { number: randomCardNumber(), exp_month: 12, exp_year: new Date().getFullYear() + 3 },
    }),
}, {
  name: "encrypt personal data",
  weight: 2,
  request: (target) => post(target, { data_class: "pii", data: { passport: crypto.randomUUID() } }),
}, {
  name: "list cards",
  weight: 4,
  request: (target) =>
    new Request(`${target.url}/functions/v1/manage-payment-methods-kms?limit=20`, {
      headers: headers(target),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
}, {
  name: "health",
  weight: 1,
  request: ({ url }) =>
    new Request(`${url}/functions/v1/kms-health-check`, {
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
}];

export function pick(): Operation {
  let at = Math.random() * OPERATIONS.reduce((sum, { weight }) => sum + weight, 0);
  return OPERATIONS.find(({ weight }) => (at -= weight) < 0) ?? OPERATIONS[0]!;
}

/** Undefined for a success, or else the error's class. */
export async function send(operation: Operation, target: Target): Promise<string | undefined> {
  try {
    const response = await fetch(operation.request(target), { redirect: "error" });
    const text = await response.text();
    if (response.ok) return undefined;
    return `${response.status}_${problemCode(text)}`;
  } catch (error) {
    return error instanceof DOMException ? error.name : "connection_failed";
  }
}

/** A user of its own, so that nobody else's cards are touched. */
export async function signUp(url: string, publishableKey: string): Promise<string> {
  const response = await fetch(`${url}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: publishableKey, "content-type": "application/json" },
    body: JSON.stringify({
      email: `load-${crypto.randomUUID()}@example.com`,
      password: crypto.randomUUID(),
    }),
  });
  const answer = await response.json() as { access_token?: string };
  if (!response.ok || answer.access_token === undefined) {
    throw new Error(`sign-up answered ${response.status}`);
  }
  return answer.access_token;
}

function post(target: Target, body: unknown): Request {
  return new Request(`${target.url}/functions/v1/encrypt-payment-data`, {
    method: "POST",
    headers: {
      ...headers(target),
      "content-type": "application/json",
      "idempotency-key": crypto.randomUUID(),
    },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
}

function headers({ publishableKey, token }: Target): Record<string, string> {
  return { apikey: publishableKey, authorization: `Bearer ${token}` };
}

function problemCode(text: string): string {
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    return typeof code === "string" ? code : "unknown";
  } catch {
    return "no_json";
  }
}
