/** The database: migrations, objects, privileges, and what the Data API shows of it. */
import type { Target } from "../client.ts";
import { type Begun, checkBegun } from "./begun.ts";
import { expectedObjects } from "./migrations.ts";
import { probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

/** As `public.kms_doctor()` answers. */
interface Findings extends Begun {
  readonly postgres: string;
  readonly migrations: readonly string[] | null;
  readonly tables: readonly string[];
  readonly functions: readonly string[];
  readonly not_executable: readonly string[];
  readonly not_readable: readonly string[];
  readonly excess: readonly string[];
  readonly without_rls: readonly string[];
  readonly open_policies: readonly string[];
  readonly disabled_triggers: readonly string[];
  readonly cron: { readonly health_check: boolean | null; readonly purge: boolean | null } | null;
  /** Ids of erasures without a proof for more than ten minutes, at most 100. */
  readonly unsigned_erasures: readonly string[];
}

const CHECKS = [
  ...["database.migrations", "database.objects", "database.privileges", "database.cron"],
  "database.erasures",
];
const BEGUN = ["provider.migration", "jobs.running", "jobs.failures"];

/** Names that one line shows of many. */
const SHOWN = 5;

export async function checkDatabase(report: Report, target: Target): Promise<void> {
  const { findings, reached } = await ask(report, target);
  if (findings === undefined) {
    [...CHECKS, ...BEGUN].forEach((check) => report.notChecked(check, "database.answers"));
  } else {
    await checkObjects(report, findings);
    checkPrivileges(report, findings);
    checkCron(report, findings);
    checkErasures(report, findings);
    // A database of an earlier version does not tell.
    if (Array.isArray(findings.jobs)) checkBegun(report, findings);
    else BEGUN.forEach((check) => report.notChecked(check, "database.migrations"));
  }
  await checkExposure(report, target, reached);
}

interface Asked {
  readonly findings?: Findings;
  /** Whether anybody answered at all. */
  readonly reached: boolean;
}

async function ask(report: Report, target: Target): Promise<Asked> {
  const check = "database.answers";
  const answer = await probe((signal) =>
    fetch(`${target.apiUrl}/rest/v1/rpc/kms_doctor`, {
      method: "POST",
      headers: { ...apiKey(target.secretKey), "content-type": "application/json" },
      body: "{}",
      redirect: "manual",
      signal,
    })
  );
  if (!answer.ok) {
    report.fail(
      check,
      `the Data API cannot be reached: ${answer.reason}`,
      `look at the address, ${target.apiUrl}, and whether the project is paused`,
    );
    return { reached: false };
  }
  const body = await answer.value.json().catch(() => null) as Findings & { code?: string } | null;
  if (answer.value.ok && body !== null && Array.isArray(body.tables)) {
    report.pass(check, `Postgres ${body.postgres}`);
    return { findings: body, reached: true };
  }
  const { status } = answer.value;
  if (status === 401 || status === 403) {
    report.fail(
      check,
      `the Data API refuses the secret key (${body?.code ?? status})`,
      "take a secret key of this project; if it is one, apply the migrations again: service_role " +
        "may not execute kms_doctor",
    );
  } else if (status === 404) {
    report.fail(check, "the suite's migrations are not there", "supabase db push");
  } else {
    report.fail(
      check,
      `the Data API answered ${status} ${body?.code ?? ""}`.trim(),
      "look at the project's logs: the database may be down or paused",
    );
  }
  return { reached: true };
}

async function checkObjects(report: Report, findings: Findings): Promise<void> {
  const expected = await expectedObjects();
  const pending = expected.versions.filter((version) => !findings.migrations?.includes(version));
  if (findings.migrations === null) {
    report.warn(
      "database.migrations",
      "the database keeps no history of migrations",
      "apply them with `supabase db push`, so that it can be told which are missing",
    );
  } else if (pending.length > 0) {
    report.fail("database.migrations", `not applied: ${listed(pending)}`, "supabase db push");
  } else report.pass("database.migrations", `all ${expected.versions.length} applied`);

  const there = new Set([...findings.tables, ...findings.functions]);
  const missing = expected.names.filter((name) => !there.has(name));
  if (missing.length === 0) {
    report.pass("database.objects", `${there.size} tables and functions`);
  } else if (pending.length > 0 && findings.migrations !== null) {
    report.notChecked("database.objects", "database.migrations");
  } else {
    report.fail(
      "database.objects",
      `not there: ${listed(missing)}`,
      "restore them from supabase/migrations: somebody dropped them",
    );
  }
}

function checkPrivileges(report: Report, findings: Findings): void {
  const faults = [
    ...findings.excess.map((privilege) => `${privilege} (must not be)`),
    ...findings.not_executable.map((name) => `service_role may not execute ${name}`),
    ...findings.not_readable.map((name) => `authenticated may not read ${name}`),
    ...findings.without_rls.map((name) => `${name} has no row level security`),
    ...findings.open_policies.map((name) => `policy ${name} shows more than one's own rows`),
    ...findings.disabled_triggers.map((name) => `trigger ${name} is disabled`),
  ];
  if (faults.length === 0) report.pass("database.privileges", "as the migrations set them");
  else {
    report.fail(
      "database.privileges",
      faults.join("; "),
      "put back what the migrations say (revoke, grant, alter table … enable), and find out who " +
        "changed it",
    );
  }
}

function checkCron(report: Report, { cron }: Findings): void {
  const check = "database.cron";
  const next = "schedule the jobs of docs/deployment.md, 4";
  if (cron === null) return report.warn(check, "pg_cron is not installed", next);
  if (cron.health_check === null) {
    return report.warn(check, "the jobs of pg_cron may not be read", "look at cron.job yourself");
  }
  const missing = [
    ...cron.health_check ? [] : ["the health check"],
    ...cron.purge ? [] : ["kms.purge_expired()"],
  ];
  if (missing.length === 0) report.pass(check, "the health check and the purge are scheduled");
  else report.warn(check, `no active job calls ${listed(missing)}`, next);
}

function checkErasures(report: Report, { unsigned_erasures: ids }: Findings): void {
  const check = "database.erasures";
  if (ids.length === 0) return report.pass(check, "each has its signed proof");
  const more = ids.length > SHOWN ? [`${ids.length - SHOWN} more`] : [];
  report.warn(
    check,
    `no signed proof yet: ${listed([...ids.slice(0, SHOWN), ...more])}`,
    "let the scheduled health check be healthy: it signs them; if it is, its log says upkeep_failed",
  );
}

/** The schema `kms` must be unknown to the Data API, whoever asks. */
async function checkExposure(report: Report, target: Target, reached: boolean): Promise<void> {
  const keys = {
    publishable_key: target.publishableKey,
    secret_key: target.secretKey,
  };
  for (const [name, key] of Object.entries(keys)) {
    const check = `database.hidden.${name}`;
    if (key === undefined) {
      report.warn(check, "not checked: there is no publishable key", "give KMS_PUBLISHABLE_KEY");
      continue;
    }
    if (!reached) {
      report.notChecked(check, "database.answers");
      continue;
    }
    const answer = await probe(async (signal) => {
      const response = await fetch(`${target.apiUrl}/rest/v1/audit_log?limit=1`, {
        headers: { ...apiKey(key), "accept-profile": "kms" },
        redirect: "manual",
        signal,
      });
      const body = await response.json().catch(() => null) as { code?: string } | null;
      return { status: response.status, code: body?.code };
    });
    if (report.failed("database.answers") && (!answer.ok || answer.value.status >= 500)) {
      report.notChecked(check, "database.answers");
    } else if (!answer.ok) report.warn(check, `not checked: ${answer.reason}`, "ask again");
    else if (answer.value.status === 406 && answer.value.code === "PGRST106") {
      report.pass(check, "the Data API does not know the schema kms");
    } else if (answer.value.status === 401 && answer.value.code === undefined) {
      report.warn(check, "the Data API refuses the key itself", "take a key of this project");
    } else {
      report.fail(
        check,
        `the Data API answered ${answer.value.status} for the schema kms`,
        "take kms out of the exposed schemas (API settings, or [api] schemas in config.toml)",
      );
    }
  }
}

/** A legacy key is a JWT, which counts only as a bearer token. */
function apiKey(key: string): Record<string, string> {
  return { apikey: key, ...key.startsWith("eyJ") ? { authorization: `Bearer ${key}` } : {} };
}
