/** The configuration API for tests: its requests and answers, and what must not be left anywhere. */
import { assert, assertEquals } from "@std/assert";
import { type LocalVault, startLocalVault } from "../../local/vault/mod.ts";
import { databaseSinks, fileSinks, findings, logSinks } from "../security/canary/sinks.ts";
import { call, sharedStack as startedStack } from "../support/stack.ts";
import { admin } from "./admin.ts";
import { type Answer, encrypt, HEALTH, manage, SERVER, sql } from "./suite.ts";

export interface View {
  readonly revision: number;
  readonly source: string;
  readonly everywhere: boolean;
  readonly provider: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly credentials: { readonly set: readonly string[] };
  readonly readers: readonly string[];
  readonly stored?: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

export interface Tested {
  readonly provider: string;
  readonly healthy: boolean;
  readonly classes: Readonly<Record<string, { healthy: boolean; error?: string; key_id?: string }>>;
  readonly locks_out: boolean;
}

export const CLASSES = ["payment", "pii", "general"];
export const ALL_DIRECT = { payment: "direct", pii: "direct", general: "direct" };
/** Every request asks for the settings: what is stored shows in the next one. */
export const AT_ONCE = { KMS_CONFIG_CACHE_MS: "0", KMS_HEALTH_CACHE_MS: "0" };
/** Credentials that are looked for at the end, wherever they could have been left. */
export const sent = new Set<string>();
/** Everything that kms-admin answered. */
export const answers: Answer[] = [];

let ready: Promise<unknown> | undefined;
let started: Promise<LocalVault> | undefined;

export async function sharedStack() {
  const stack = await startedStack();
  ready ??= Promise.all(stack.functions.map((name) => stack.restartFunction(name, AT_ONCE)));
  await ready;
  return stack;
}

/** The one Vault of this file, with the suite's keys. */
export async function sharedVault(): Promise<LocalVault> {
  return await (started ??= (async () => {
    const vault = await startLocalVault();
    addEventListener("unload", () => void vault.close());
    for (const name of CLASSES) vault.createKey(`parker-flight-${name}-development`);
    for (const secret of [vault.roleId, vault.secretId]) sent.add(secret);
    return vault;
  })());
}

export async function vaultConfig(changes: Record<string, unknown> = {}) {
  const { endpoint, roleId, secretId } = await sharedVault();
  return {
    provider: "vault",
    addr: endpoint,
    keyrings: ALL_DIRECT,
    credentials: { role_id: roleId, secret_id: secretId },
    ...changes,
  };
}

/** The guide's request, for the local AWS. */
export async function awsConfig(changes: Record<string, unknown> = {}) {
  const { accessKeyId, secretAccessKey } = (await sharedStack()).aws.identities.caller;
  return {
    provider: "aws",
    keyId: "default",
    region: "us-east-1",
    credentials: { accessKeyId, secretAccessKey },
    ...changes,
  };
}

export async function send(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  await sharedStack();
  const answer = await admin(SERVER, method, path, body, headers);
  answers.push(answer);
  return answer;
}

export async function data<Data>(method: string, path: string, body?: unknown): Promise<Data> {
  const answer = await send(method, path, body);
  assertEquals(
    [answer.status, (answer.body as { success?: boolean }).success],
    [200, true],
    answer.text,
  );
  return (answer.body as { data?: Data }).data as Data;
}

export const present = () => data<View>("GET", "/config");

export async function store(userId: string): Promise<{ id: string; keyArn: string }> {
  await sharedStack();
  const answer = await encrypt(SERVER, { user_id: userId, data_class: "pii", data: { a: 1 } });
  assertEquals(answer.status, 201, answer.text);
  const id = answer.body.record?.id ?? "";
  const [row] = await sql<{ kms_key_arn: string }>(
    "select kms_key_arn from kms.ciphertexts where record_id = $1",
    [id],
  );
  return { id, keyArn: row?.kms_key_arn ?? "" };
}

export async function assertReadable(userId: string, id: string): Promise<void> {
  const revealed = await manage(SERVER, "POST", `/records/${id}/reveal`, {
    purpose: "test",
    user_id: userId,
  });
  assertEquals([revealed.status, revealed.body.record?.data], [200, { a: 1 }], revealed.text);
}

export async function health(): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await call(await sharedStack(), HEALTH, "", { secret: true });
  return { status: response.status, body: await response.json() };
}

export const auditOf = (requestId: string | undefined) =>
  sql<{ action: string; outcome: string; error_code: string | null; actor_type: string }>(
    `select action, outcome, error_code, actor_type from kms.audit_log
     where request_id::text = $1 order by chain_day, seq`,
    [requestId ?? ""],
  );

/** As if the last change were long ago: no worker is on the settings before it any more. */
export async function allFollowed(): Promise<void> {
  await sql("update kms.settings set created_at = created_at - interval '1 hour'");
}

/**
 * Nothing of `sent` is in any answer, log, table or file. `atLeast`: what there must be to look for and in;
 * `stored`: whether settings were.
 */
export async function assertNoCredentialLeft(
  { atLeast, stored }: {
    readonly atLeast: { readonly sent: number; readonly answers: number };
    readonly stored: boolean;
  },
): Promise<void> {
  const stack = await sharedStack();
  const needles = [...sent].flatMap((secret) =>
    [secret, btoa(secret).slice(0, -4), encodeURIComponent(secret)].map((form) => ({
      form: `${secret.slice(0, 8)}…`,
      bytes: new TextEncoder().encode(form),
    }))
  );
  assert(
    sent.size >= atLeast.sent && answers.length >= atLeast.answers,
    `${sent.size} ${answers.length}`,
  );
  const sinks = [
    ...await databaseSinks(stack),
    ...logSinks(stack),
    ...fileSinks(stack.dataDir),
    {
      name: "answers",
      content: answers.map(({ text, headers }) => JSON.stringify([...headers]) + text).join("\n"),
    },
  ];
  const sealed = sinks.some(({ name, content }) =>
    name === "table kms.settings" && content.includes("AgR4" as never)
  );
  assertEquals(sealed, stored);
  const planted = { name: "planted", content: `x${[...sent][0]}x` };
  assertEquals(findings([planted], needles).length > 0, true);
  assertEquals(findings(sinks, needles), []);
}
