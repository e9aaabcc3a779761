import { decodeMessage, parseMessage } from "../functions-shared/message/mod.ts";
import { type Session, signUp } from "./auth-client.ts";
import { DemoReport } from "./demo-report.ts";
import { type DemoTarget, openDemoTarget } from "./demo-target.ts";

/** Numbers that the networks publish for tests. */
const TEST_CARDS = [
  { network: "Visa", number: "4242424242424242" },
  { network: "Mastercard", number: "5555555555554444" },
  { network: "American Express", number: "378282246310005" },
  { network: "Discover", number: "6011111111111117" },
] as const;
const EXP_YEAR = new Date().getUTCFullYear() + 3;

interface PaymentMethod {
  readonly id: string;
  readonly brand: string;
  readonly last4: string;
  readonly is_default: boolean;
  readonly card?: { readonly number: string };
}

interface Answer {
  readonly status: number;
  readonly body: {
    readonly payment_method?: PaymentMethod;
    readonly payment_methods?: readonly PaymentMethod[];
    readonly code?: string;
  };
}

type Call = (path: string, init?: { method?: string; json?: unknown }) => Promise<Answer>;

/** `deno task demo`: the whole main job over HTTP. Resolves to whether every step held. */
export async function runDemo(dataDir: string): Promise<boolean> {
  const report = new DemoReport();
  const target = await openDemoTarget(dataDir, (line) => console.log(line));
  try {
    const user = await signUpStep(report, target);
    const asUser = caller(target, { authorization: `Bearer ${user.token}` });
    const asServer = caller(target, { apikey: target.secretKey });
    const methods = await encryptStep(report, asUser);
    const [first, second] = methods;
    if (!first || !second) return report.end();
    await listStep(report, asUser, methods.length);
    await databaseStep(report, target, first);
    await revealSteps(report, { asUser, asServer, user, method: first });
    await defaultStep(report, asUser, second);
    await deleteStep(report, target, asUser, first);
    return report.end();
  } finally {
    await target.close();
  }
}

function caller(target: DemoTarget, credentials: Record<string, string>): Call {
  return async (path, { method = "GET", json } = {}) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${path}`, {
      method,
      headers: {
        apikey: target.publishableKey,
        ...credentials,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...(method === "POST" ? { "idempotency-key": crypto.randomUUID() } : {}),
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : {} };
  };
}

async function signUpStep(report: DemoReport, target: DemoTarget): Promise<Session> {
  report.step("A user signs up");
  const email = `demo-${crypto.randomUUID().slice(0, 8)}@example.com`;
  const user = await signUp(target, { email, password: crypto.randomUUID() });
  report.check(`${email} is user ${user.userId}`, user.token.length > 0);
  return user;
}

async function encryptStep(report: DemoReport, asUser: Call): Promise<PaymentMethod[]> {
  report.step("The user sends test cards of several networks; only masked data comes back");
  const methods: PaymentMethod[] = [];
  for (const { network, number } of TEST_CARDS) {
    const answer = await asUser("encrypt-payment-data", {
      method: "POST",
      json: { data_class: "payment", card: { number, exp_month: 12, exp_year: EXP_YEAR } },
    });
    const method = answer.body.payment_method;
    const masked = method?.last4 === number.slice(-4) && !JSON.stringify(answer).includes(number);
    const shown = method ? `${method.brand} **** ${method.last4}` : "nothing";
    report.check(`${network}: ${answer.status}, ${shown}`, answer.status === 201 && masked, answer);
    if (method) methods.push(method);
  }
  const again = await asUser("encrypt-payment-data", {
    method: "POST",
    json: {
      data_class: "payment",
      card: { number: TEST_CARDS[0].number, exp_month: 12, exp_year: EXP_YEAR },
    },
  });
  const same = again.status === 200 && again.body.payment_method?.id === methods[0]?.id;
  report.check("the same card again: 200, and the payment method there already is", same, again);
  return methods;
}

async function listStep(report: DemoReport, asUser: Call, count: number): Promise<void> {
  report.step("The user lists payment methods");
  const { body } = await asUser("manage-payment-methods-kms");
  const listed = body.payment_methods ?? [];
  report.table(
    listed.map(({ id, brand, last4, is_default }) => ({ id, brand, last4, is_default })),
  );
  report.check(`${count} are listed`, listed.length === count, listed.length);
}

async function databaseStep(
  report: DemoReport,
  target: DemoTarget,
  { id, last4 }: PaymentMethod,
): Promise<void> {
  report.step("What the database holds of the first card");
  const masked = await target.read<Record<string, unknown>>(
    "select id, brand, last4, exp_month, exp_year from public.payment_methods where id = $1",
    [id],
  );
  report.line("public.payment_methods");
  report.table(masked);
  const ciphertexts = await target.read<{ field: string; message: string }>(
    "select field, message from kms.ciphertexts where record_id = $1 order by field",
    [id],
  );
  report.line("kms.ciphertexts");
  report.table(ciphertexts.map(({ field, message }) => ({
    field,
    message: `${message.slice(0, 48)}... (${message.length} characters)`,
  })));
  const message = ciphertexts.find(({ field }) => field === "number")?.message ?? "";
  report.check("the card number is an AWS Encryption SDK message", message.startsWith("AgR4"));
  const { header } = parseMessage(decodeMessage(message));
  report.line("its encryption context, readable by all and bound to the ciphertext:");
  report.table([header.encryptionContext]);
  report.line(`wrapped by: ${header.encryptedDataKeys.map((key) => key.providerId).join(", ")}`);
  report.check("it names this row and this field", header.encryptionContext.record === id);
  const rows = JSON.stringify([masked, ciphertexts]);
  report.check(
    `no row holds the number that ends in ${last4}`,
    !rows.includes(TEST_CARDS[0].number),
  );
}

async function revealSteps(
  report: DemoReport,
  { asUser, asServer, user, method }: {
    asUser: Call;
    asServer: Call;
    user: Session;
    method: PaymentMethod;
  },
): Promise<void> {
  report.step("A server with the secret key reveals it, and says what for");
  const path = `manage-payment-methods-kms/${method.id}/reveal`;
  const answer = await asServer(path, {
    method: "POST",
    json: { user_id: user.userId, purpose: "demo" },
  });
  const number = answer.body.payment_method?.card?.number;
  report.check(
    `${answer.status}: ${number ?? "nothing"}`,
    number === TEST_CARDS[0].number,
    answer.body.code,
  );
  report.step("The user may not");
  const refused = await asUser(path, { method: "POST", json: { purpose: "demo" } });
  report.check(`${refused.status} ${refused.body.code}`, refused.status === 403, refused);
}

async function defaultStep(report: DemoReport, asUser: Call, method: PaymentMethod): Promise<void> {
  report.step("The user makes the second card the default");
  const path = `manage-payment-methods-kms/${method.id}/default`;
  const answer = await asUser(path, { method: "POST" });
  const { body } = await asUser("manage-payment-methods-kms");
  const defaults = (body.payment_methods ?? []).filter((one) => one.is_default);
  report.check(
    `exactly one default: ${defaults.map((one) => `${one.brand} **** ${one.last4}`).join(", ")}`,
    answer.status === 200 && defaults.length === 1 && defaults[0]?.id === method.id,
    answer,
  );
}

async function deleteStep(
  report: DemoReport,
  target: DemoTarget,
  asUser: Call,
  { id }: PaymentMethod,
): Promise<void> {
  report.step("The user deletes the first card");
  const answer = await asUser(`manage-payment-methods-kms/${id}`, { method: "DELETE" });
  report.check(`${answer.status}`, answer.status === 204, answer);
  const left = await target.read<{ n: number }>(
    `select (select count(*) from kms.ciphertexts where record_id = $1)::int +
            (select count(*) from public.payment_methods where id = $1)::int as n`,
    [id],
  );
  report.check("its row and its ciphertext are gone", left[0]?.n === 0, left);
  const audit = await target.read<Record<string, unknown>>(
    "select action, outcome, actor_type, purpose from kms.audit_log where record_id = $1 order by chain_day, seq",
    [id],
  );
  report.table(audit);
  report.check("the audit log keeps what was done with it", audit.length >= 3, audit);
}
