/** The functions: deployed, configured, reachable with the key, closed to everybody else. */
import { join } from "node:path";
import type { Config } from "../../functions-shared/config.ts";
import type { Target } from "../client.ts";
import { ADMIN, checkHealth, checkSettings, HEALTH, KEYS, unreached } from "./functions-report.ts";
import type { SettingsAnswer } from "./in-force.ts";
import { type Probe, probe } from "./probe.ts";
import type { Report } from "./report.ts";

const FOLDER = join(import.meta.dirname ?? ".", "..", "..", "supabase", "functions");
const SAID = ["secret_key", "configuration", "health", ...KEYS, "cors"];
/** Where a function without a route of its own at / is asked. */
const PATHS: Readonly<Record<string, string>> = { [ADMIN]: "/health" };

export async function checkFunctions(
  report: Report,
  config: Config | undefined,
  target: Target,
  settings: Probe<SettingsAnswer>,
): Promise<void> {
  const names = await functionNames();
  if (report.failed("database.answers") && !settings.ok) {
    // Nobody is there at all, which is one fault and takes long to find out once more for each of them.
    const checks = [...names, ...SAID].map((name) => `functions.${name}`);
    return checks.forEach((check) => report.notChecked(check, "database.answers"));
  }
  for (const name of names) await checkFunction(report, target, name);
  await checkAdmin(report, target);
  checkSettings(report, settings);
  await checkHealth(report, config, target, settings);
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
  if (answer.ok && answer.value.status === 405 && answer.value.allow !== undefined) {
    answer = await anonymously(target, answer.value.allow, path);
  }
  if (!answer.ok) return unreached(report, check, answer);
  const { status, code, ours } = answer.value;
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
): Promise<Probe<Answer>> {
  return await probe(async (signal) => {
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
  if (!answer.ok) return unreached(report, check, answer);
  const { value: status } = answer;
  if (status === 200) report.pass(check, `opens ${ADMIN}`);
  else if (status === 401 || status === 403) {
    report.fail(check, `${ADMIN} refuses it`, "take a secret key of this project");
  } else if (status === 503 && report.failed("database.answers")) {
    report.notChecked(check, "database.answers");
  } else {
    report.fail(
      check,
      `${ADMIN} answered ${status}`,
      status === 429 ? "wait a minute, then ask again" : "read its log",
    );
  }
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
  if (!answer.ok) return unreached(report, check, answer);
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
