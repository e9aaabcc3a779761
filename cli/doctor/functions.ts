/** The functions: deployed, configured, reachable with the key, closed to everybody else. */
import { join } from "node:path";
import type { Config } from "../../functions-shared/config.ts";
import type { Target } from "../client.ts";
import { probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

const FOLDER = join(import.meta.dirname ?? ".", "..", "..", "supabase", "functions");
const HEALTH = "kms-health-check";
const ADMIN = "kms-admin";
/** Where a function without a route of its own at / is asked. */
const PATHS: Readonly<Record<string, string>> = { [ADMIN]: "/health" };

export async function checkFunctions(
  report: Report,
  config: Config | undefined,
  target: Target,
): Promise<void> {
  const names = await functionNames();
  for (const name of names) await checkFunction(report, target, name);
  await checkHealth(report, config, target);
  await checkAdmin(report, target);
  await checkStoredConfiguration(report, target);
  await checkCors(report, config, target);
}

/** As the deploy tool finds them. */
async function functionNames(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(FOLDER)) {
    if (isDirectory && !/^[_.]/.test(name)) names.push(name);
  }
  return names.sort();
}

/** Asked without credentials: a function that is well answers, and says that it needs some. */
async function checkFunction(report: Report, target: Target, name: string): Promise<void> {
  const check = `functions.${name}`;
  const path = `${name}${PATHS[name] ?? ""}`;
  let answer = await anonymously(target, "GET", path);
  if (answer?.status === 405 && answer.allow !== undefined) {
    answer = await anonymously(target, answer.allow, path);
  }
  if (answer === undefined) {
    return report.fail(check, "cannot be reached", `look at the address: ${target.apiUrl}`);
  }
  const { status, code, ours } = answer;
  if (status === 503 && code === "configuration_invalid") {
    report.fail(
      check,
      "its variables are missing or wrong",
      "its log names them; set them with `supabase secrets set`",
    );
  } else if (ours && (name === HEALTH ? status === 200 || status === 503 : status === 401)) {
    report.pass(check, name === HEALTH ? "answers everybody" : "answers, and refuses strangers");
  } else if (ours && status < 500) {
    report.fail(
      check,
      `answers ${status} ${code ?? ""} to a stranger, not 401`.replace("  ", " "),
      "deploy the version of this repository: supabase functions deploy --use-api",
    );
  } else {
    report.fail(
      check,
      status === 404 ? "is not deployed" : `does not run: the platform answers ${status}`,
      status === 404
        ? `supabase functions deploy ${name} --use-api`
        : `read its log, then deploy it again: supabase functions deploy ${name} --use-api`,
    );
  }
}

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  /** Whether the suite answered, and no gateway. */
  readonly ours: boolean;
  /** The first method that the path takes, after 405. */
  readonly allow: string | undefined;
}

async function anonymously(
  target: Target,
  method: string,
  path: string,
): Promise<Answer | undefined> {
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${path}`, {
      method,
      redirect: "manual",
      signal,
    });
    const body = await response.json().catch(() => null) as Record<string, unknown> | null;
    const { type, code, checks } = body ?? {};
    return {
      status: response.status,
      code: typeof code === "string" ? code : undefined,
      ours: typeof type === "string" && type.startsWith("urn:supabase-kms:problem:") ||
        typeof checks === "object",
      allow: response.headers.get("allow")?.split(",")[0]?.trim() || undefined,
    };
  });
  return answer.ok ? answer.value : undefined;
}

interface HealthView {
  readonly status?: string;
  readonly metadata?: { readonly environment?: string | null };
  readonly checks?: Readonly<Record<string, { readonly status: string; readonly error?: string }>>;
  readonly regions?: Readonly<Record<string, boolean>>;
}

/** What the functions themselves see of their keys; with a key of theirs, every region as well. */
async function checkHealth(report: Report, config: Config | undefined, target: Target) {
  const check = "functions.health";
  if (report.failed(`functions.${HEALTH}`)) {
    return report.notChecked(check, `functions.${HEALTH}`);
  }
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${HEALTH}`, {
      headers: { apikey: target.secretKey },
      redirect: "manual",
      signal,
    });
    return await response.json() as HealthView;
  });
  if (!answer.ok) return report.fail(check, "does not answer", "ask again; then read its log");
  const { status, metadata, checks = {}, regions = {} } = answer.value;
  const environment = metadata?.environment;
  const ill = Object.entries(regions).filter(([, well]) => !well).map(([name]) => name);
  if (status === "unhealthy") {
    const errors = Object.values(checks).flatMap(({ error }) => error ?? []);
    const what = `unhealthy: ${listed([...new Set(errors)])}`;
    // The functions suffer from what was found above; that line says what to do.
    if (report.failed()) report.warn(check, what, "mend what failed above, then ask again");
    else report.fail(check, what, "its log has the key service's own error");
  } else if (config !== undefined && environment !== config.environment) {
    report.fail(
      check,
      `the functions run as ${environment}, this configuration is for ${config.environment}`,
      "name the variables of this project with --env-file, or the right project with --api-url",
    );
  } else if (status === "degraded") {
    report.warn(
      check,
      ill.length > 0 ? `degraded: ${listed(ill)}` : "degraded",
      "look at the region, or wait for it",
    );
  } else report.pass(check, "healthy");
}

async function checkAdmin(report: Report, target: Target): Promise<void> {
  const check = "functions.secret_key";
  if (report.failed(`functions.${ADMIN}`)) return report.notChecked(check, `functions.${ADMIN}`);
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${ADMIN}/health`, {
      headers: { apikey: target.secretKey },
      redirect: "manual",
      signal,
    });
    await response.body?.cancel();
    return response.status;
  });
  if (answer.ok && answer.value === 200) report.pass(check, `opens ${ADMIN}`);
  else if (answer.ok && (answer.value === 401 || answer.value === 403)) {
    report.fail(check, `${ADMIN} refuses it`, "take a secret key of this project");
  } else {
    report.fail(
      check,
      `${ADMIN} answered ${answer.ok ? answer.value : "nothing"}`,
      "read its log: the database may not answer it",
    );
  }
}

/** Settings that were stored win over the environment, which is what the lines about keys are about. */
async function checkStoredConfiguration(report: Report, target: Target): Promise<void> {
  const check = "functions.configuration";
  if (report.failed(`functions.${ADMIN}`) || report.failed("functions.secret_key")) {
    return report.notChecked(check, `functions.${ADMIN}`);
  }
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${ADMIN}/config`, {
      headers: { apikey: target.secretKey },
      redirect: "manual",
      signal,
    });
    const body = await response.json().catch(() => null) as { data?: StoredConfiguration } | null;
    return { status: response.status, ...body?.data };
  });
  const next = "ask again; then read the log of kms-admin";
  if (!answer.ok) report.fail(check, "does not answer", next);
  else if (answer.value.source === "database") {
    const { revision, provider } = answer.value;
    report.warn(
      check,
      `revision ${revision} of the database is in force (${provider}); the lines about keys are ` +
        `about the environment`,
      "compare: deno task kms -- config get; and try it: deno task kms -- config test",
    );
  } else if (answer.value.source === "environment" || answer.value.status === 404) {
    // Deployed before there was anything to store.
    report.pass(check, "the environment's, nothing is stored");
  } else report.fail(check, `kms-admin answered ${answer.value.status}`, next);
}

interface StoredConfiguration {
  readonly source?: string;
  readonly revision?: number;
  readonly provider?: string;
}

async function checkCors(report: Report, config: Config | undefined, target: Target) {
  const check = "functions.cors";
  if (report.failed(`functions.${HEALTH}`)) {
    return report.notChecked(check, `functions.${HEALTH}`);
  }
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${HEALTH}`, {
      method: "OPTIONS",
      headers: { origin: "https://doctor.invalid", "access-control-request-method": "GET" },
      redirect: "manual",
      signal,
    });
    await response.body?.cancel();
    return response.headers.get("access-control-allow-origin");
  });
  if (!answer.ok) return report.fail(check, "does not answer", "ask again; then read its log");
  const open = answer.value === "*" || answer.value === "https://doctor.invalid";
  if (open && config?.isProduction !== false) {
    report.warn(
      check,
      "pages of any origin may call the functions",
      "name your own in CORS_ALLOWED_ORIGINS",
    );
  } else {
    report.pass(check, open ? "any origin, which is right for development" : "your origins only");
  }
}
