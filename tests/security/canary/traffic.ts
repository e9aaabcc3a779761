/** Requests with a card number in every right and wrong place, and a record of every answer. */
import { assertEquals } from "@std/assert";
import type { Stack } from "../../../local/stack.ts";
import { call, type CallInit, type TestUser } from "../../support/stack.ts";
import type { Sink } from "./sinks.ts";

export const ENCRYPT = "encrypt-payment-data";
export const MANAGE = "manage-payment-methods-kms";
export const HEALTH = "kms-health-check";
export const ADMIN = "kms-admin";

export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** Calls functions and keeps every answer's status, headers and body. */
export class Traffic {
  readonly #answers: string[] = [];
  #keys = 0;
  readonly stack: Stack;
  readonly user: TestUser;

  constructor(stack: Stack, user: TestUser) {
    this.stack = stack;
    this.user = user;
  }

  get count(): number {
    return this.#answers.length;
  }

  sink(): Sink {
    return { name: "answers", content: this.#answers.join("\n") };
  }

  /** As the user, unless `init` says otherwise. */
  async send(name: string, path: string, init: CallInit = {}): Promise<Answer> {
    const credentials = init.secret || init.token !== undefined ? {} : { token: this.user.token };
    return this.#keep(await call(this.stack, name, path, { ...credentials, ...init }));
  }

  /** A raw request: nothing is added to it. */
  async raw(url: string, init: RequestInit): Promise<Answer> {
    return this.#keep(await fetch(url, init));
  }

  /** `encrypt-payment-data` with a fresh idempotency key, unless `init` brings one. */
  encrypt(json: unknown, init: CallInit = {}): Promise<Answer> {
    const headers = { "idempotency-key": `canary-${++this.#keys}`, ...init.headers };
    return this.send(ENCRYPT, "", { json, ...init, headers });
  }

  /** The one answer that may hold a card number: it is not kept. */
  async reveal(path: string): Promise<Answer> {
    const response = await call(this.stack, MANAGE, `${path}/reveal?user_id=${this.user.userId}`, {
      secret: true,
      json: { purpose: "canary" },
    });
    if (!response.ok) return await this.#keep(response);
    return { status: response.status, body: await response.json() };
  }

  async #keep(response: Response): Promise<Answer> {
    const text = await response.text();
    this.#answers.push(JSON.stringify([response.status, [...response.headers], text]), text);
    return { status: response.status, body: parsed(text) };
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

export function payment(number: string, more: object = {}) {
  return { data_class: "payment", card: { number, exp_month: 12, exp_year: 2030 }, ...more };
}

/** The number typed into every place of a URL. */
export async function inUrls(traffic: Traffic, number: string): Promise<void> {
  const secret = { secret: true } as const;
  const user = `user_id=${traffic.user.userId}`;
  const dashed = number.match(/.{4}/g)?.join("-");
  for (const spelled of [number, dashed, number.match(/.{4}/g)?.join("%20")]) {
    for (const path of [`/${spelled}`, `/records/${spelled}`, `/${spelled}/x/y`]) {
      await traffic.send(MANAGE, path);
      await traffic.send(MANAGE, path, { method: "DELETE" });
      await traffic.send(MANAGE, path, { json: {}, method: "PATCH" });
    }
    await traffic.send(MANAGE, `/${spelled}/reveal?${user}`, { ...secret, json: { purpose: "x" } });
    await traffic.send(MANAGE, `/${spelled}/default`, { json: {} });
    for (const name of ["cursor", "limit", "user_id", "data_class", "card"]) {
      await traffic.send(MANAGE, `?${name}=${spelled}`);
      await traffic.send(MANAGE, `/records?${name}=${spelled}`, secret);
      await traffic.send(HEALTH, `?${name}=${spelled}`);
    }
    await traffic.send(MANAGE, `?${spelled}=1`);
    await traffic.encrypt(payment(number), { method: "PUT" });
    await traffic.send(ENCRYPT, `/${spelled}`, { json: {} });
    await traffic.send(ENCRYPT, `?number=${spelled}`, { json: payment(number) });
    await traffic.send(HEALTH, `/${spelled}`);
    await traffic.send(`${spelled}`, "");
    await traffic.raw(`${traffic.stack.apiUrl}/functions/v1/${ENCRYPT}?n=${spelled}`, {});
  }
}

/** The number typed into what administrators ask of the audit trail. */
export async function inAudit(traffic: Traffic, number: string): Promise<void> {
  const secret = { secret: true } as const;
  const dashed = number.match(/.{4}/g)?.join("-");
  for (const spelled of [number, dashed]) {
    for (const name of ["actor_id", "action", "owner_id", "from", "cursor", "limit", "card"]) {
      await traffic.send(ADMIN, `/audit?${name}=${spelled}`, secret);
    }
    for (const path of ["export?day", "alerts?hours", "anchors?from", "anchors?signed"]) {
      await traffic.send(ADMIN, `/audit/${path}=${spelled}`, secret);
    }
    for (const name of ["from", "cursor", "before", "confirm", "anchors", number]) {
      await traffic.send(ADMIN, "/audit/verify", { ...secret, json: { [name]: spelled } });
      await traffic.send(ADMIN, "/audit/prune", { ...secret, json: { [name]: spelled } });
    }
  }
}

/** The number typed into every header that somebody reads, and into some that nobody does. */
export async function inHeaders(traffic: Traffic, number: string): Promise<void> {
  const { apiUrl, publishableKey } = traffic.stack;
  const names = [
    "user-agent",
    "x-request-id",
    "referer",
    "cookie",
    "accept",
    "accept-language",
    "prefer",
    "x-forwarded-for",
    "traceparent",
    "x-client-info",
    "x-region",
    "origin",
    `x-${number}`,
    "authorization",
    "apikey",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "range",
  ];
  for (const name of names) {
    for (const [fn, path] of [[ENCRYPT, ""], [MANAGE, ""], [HEALTH, ""]] as const) {
      const value = name === "authorization" ? `Bearer ${number}` : number;
      const json = fn === ENCRYPT ? { json: { data_class: number } } : {};
      await traffic.send(fn, path, { ...json, headers: { [name]: value } });
    }
  }
  await traffic.send(ENCRYPT, "", {
    json: {},
    headers: { "content-type": `application/${number}` },
  });
  await traffic.send(ENCRYPT, "", {
    json: payment("4111111111111112"),
    headers: { "idempotency-key": `"${number}"` },
  });
  for (const fn of [ENCRYPT, MANAGE, HEALTH]) {
    await traffic.raw(`${apiUrl}/functions/v1/${fn}`, {
      method: "OPTIONS",
      headers: {
        apikey: publishableKey,
        origin: `https://${number}.example`,
        "access-control-request-method": number,
        "access-control-request-headers": `x-${number}`,
      },
    });
  }
}

/** The number typed into every place of a body where it does not belong. */
export async function inBodies(traffic: Traffic, number: string): Promise<void> {
  const grouped = number.match(/.{4}/g) ?? [];
  const wrong = number.slice(0, -1) + (Number(number.at(-1)) + 1) % 10;
  const card = payment(number).card;
  const bodies: unknown[] = [
    number,
    Number(number),
    [number],
    {},
    { [number]: 1 },
    { data_class: number },
    { data_class: "payment", card: number },
    { data_class: "payment", card: [number] },
    { data_class: "payment", card: { ...card, number: Number(number) } },
    { data_class: "payment", card: { ...card, number: [number] } },
    payment(wrong),
    payment(`${number}0`),
    payment(`${number} `.repeat(3)),
    ...[number, `n${number}`, grouped.join("-"), `n_${grouped.join("_")}`].flatMap((name) => [
      payment(number, { [name]: number }),
      { data_class: "payment", card: { ...card, [name]: 1 } },
      { data_class: "pii", data: { [name]: { cvv: number } } },
    ]),
    ...[number, grouped.join(" "), `card ${grouped.join("-")} of mine`].flatMap((text) => [
      payment(number, { nickname: text }),
      { data_class: "pii", label: text, data: { a: 1 } },
      payment(number, { user_id: text }),
      payment(number, { set_default: text }),
      { data_class: "payment", card: { ...card, exp_month: text, exp_year: text } },
      { data_class: "payment", card: { ...card, exp_year: 2020, cardholder_name: text } },
      { data_class: "payment", card: { ...card, billing_address: { country: text } } },
    ]),
    payment(number, { cvv: number }),
    { data_class: "payment", card: { ...card, exp_month: Number(number) } },
    { data_class: "general", data: { swipe: `%B${number}^DOE/JANE^30121010000000000000?` } },
    { data_class: "general", data: { swipe: `;${number}=30121010000000000000?` } },
    { items: number },
    { items: [], [number]: 1 },
    { items: [number, { data_class: number }] },
    {
      items: [
        payment(wrong),
        payment(number, { nickname: number }),
        payment(number, { [number]: 1 }),
      ],
    },
    { items: [payment(number)], user_id: number },
  ];
  for (const body of bodies) {
    await traffic.encrypt(body);
    await traffic.encrypt(body, { secret: true });
  }
  await inBrokenBodies(traffic, number);
}

async function inBrokenBodies(traffic: Traffic, number: string): Promise<void> {
  const json = { "content-type": "application/json" };
  const raw: [BodyInit, Record<string, string>][] = [
    [`{"card":{"number":"${number}"`, json],
    [`{"number": ${number}x}`, json],
    [number, { "content-type": "text/plain" }],
    [`number=${number}`, { "content-type": "application/x-www-form-urlencoded" }],
    [JSON.stringify(payment(number)), { "content-type": "" }],
    [JSON.stringify(payment(number)) + " ".repeat(70_000), json],
    [`${number},`.repeat(8_000), json],
    [new Uint8Array([0xff, ...new TextEncoder().encode(number)]), json],
    ["[".repeat(5_000) + number + "]".repeat(5_000), json],
    [`{"__proto__":{"number":"${number}"},"constructor":"${number}"}`, json],
  ];
  for (const [body, headers] of raw) {
    await traffic.encrypt(undefined, { method: "POST", body, headers });
    await traffic.send(MANAGE, `/${crypto.randomUUID()}`, { method: "PATCH", body, headers });
  }
  // A stream has no length to announce.
  await traffic.encrypt(undefined, {
    method: "POST",
    headers: json,
    body: ReadableStream.from(
      Array.from({ length: 100 }, () => new TextEncoder().encode(`${number} `.repeat(60))),
    ),
  });
}

const ADMIN_READS = [
  "/health",
  "/key/metadata",
  "/jobs",
  "/config",
  "/config/history",
  "/audit",
  "/audit/anchors",
  "/audit/export",
  "/audit/alerts",
  "/provider/migration",
  "/legacy/keys",
  "/legacy/rows",
] as const;

const ADMIN_WRITES = [
  ["POST", "/key/rotate"],
  ["POST", "/key/retire"],
  ["POST", "/jobs/reencrypt"],
  ["POST", "/jobs/run"],
  ["POST", "/config/test"],
  ["PUT", "/config"],
  ["POST", "/config/rollback"],
  ["POST", "/audit/verify"],
  ["POST", "/audit/prune"],
  ["POST", "/provider/migrate"],
  ["POST", "/users/erase/verify"],
  ["POST", "/legacy/keys"],
  ["POST", "/legacy/rows"],
] as const;

/** The number typed into everything that administrators send, none of which it belongs to. */
export async function inAdministration(traffic: Traffic, number: string): Promise<void> {
  const secret = { secret: true } as const;
  assertEquals((await traffic.send(ADMIN, "/health", secret)).status, 200);
  await traffic.send(ADMIN, "/health");
  for (const path of ADMIN_READS) {
    for (const name of ["cursor", "limit", "actor_id", "data_class", "day", number]) {
      await traffic.send(ADMIN, `${path}?${name}=${number}`, secret);
    }
    await traffic.send(ADMIN, `${path}/${number}`, secret);
  }
  const settings = {
    region: number,
    credentials: { accessKeyId: number, secretAccessKey: number },
  };
  for (const [method, path] of ADMIN_WRITES) {
    for (
      const json of [
        number,
        { [number]: number },
        { provider: number, from: number, to: number, step: number, data_class: number },
        { provider: "aws", keyId: number, ...settings },
        { branch_key_id: number, version: number, revision: number, before: number },
        { key_id: number, source: number, encoding: number, items: [number], proof: number },
      ]
    ) {
      await traffic.send(ADMIN, path, { ...secret, method, json });
    }
  }
  const target = { purpose: number, confirm: number };
  await traffic.send(ADMIN, `/users/${number}/erase`, { ...secret, json: target });
  await traffic.send(ADMIN, `/users/${crypto.randomUUID()}/erase`, { ...secret, json: target });
}

/** The number typed into the bodies that change or reveal what is stored at `path`. */
export async function inChanges(traffic: Traffic, path: string, number: string): Promise<void> {
  const grouped = number.match(/.{4}/g)?.join(" ") ?? "";
  const server = `?user_id=${traffic.user.userId}`;
  for (
    const change of [
      { number },
      { nickname: grouped },
      { exp_year: Number(number) },
      { exp_month: number },
      { [number]: 1 },
      { billing_address: { country: number } },
      { user_id: number },
      {},
      number,
    ]
  ) {
    await traffic.send(MANAGE, path, { method: "PATCH", json: change });
    await traffic.send(MANAGE, `${path}${server}`, { method: "PATCH", json: change, secret: true });
    await traffic.send(MANAGE, `${path}/default`, { json: change });
  }
  for (const purpose of [number, grouped, `p${number}`, `p-${number}`, Number(number), undefined]) {
    await traffic.send(MANAGE, `${path}/reveal${server}`, { json: { purpose }, secret: true });
    await traffic.send(MANAGE, `${path}/reveal`, { json: { purpose } });
  }
  await traffic.send(MANAGE, `${path}/reveal${server}`, {
    json: { purpose: "x", [number]: 1 },
    secret: true,
  });
}
