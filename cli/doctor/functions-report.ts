/** What the functions say of themselves: the settings in force, and the keys that they work with. */
import type { Config } from "../../functions-shared/config.ts";
import { DATA_CLASSES } from "../../functions-shared/data-class.ts";
import type { Target } from "../client.ts";
import type { SettingsAnswer } from "./in-force.ts";
import { type Failure, type Probe, probe } from "./probe.ts";
import { listed, type Report } from "./report.ts";

export const HEALTH = "kms-health-check";
export const ADMIN = "kms-admin";
export const KEYS = DATA_CLASSES.map((name) => `keys.${name}`);

const ASK_AGAIN = "ask again; then read its log";
const MEND_FIRST = "mend what failed above, then ask again";

/** A function that does not answer, while others may. */
export function unreached(report: Report, check: string, { reason }: Failure): void {
  report.fail(check, `does not answer: ${reason}`, ASK_AGAIN);
}

/** Settings that were stored win over the environment, if the functions can open them. */
export function checkSettings(report: Report, answer: Probe<SettingsAnswer>): void {
  const check = "functions.configuration";
  const cause = [`functions.${ADMIN}`, "functions.secret_key", "database.answers"]
    .find((name) => report.failed(name));
  const settings = answer.ok ? answer.value.settings : undefined;
  if (settings === undefined) {
    if (cause !== undefined) return report.notChecked(check, cause);
    if (!answer.ok) return unreached(report, check, answer);
    return report.fail(check, `${ADMIN} answered ${answer.value.status}`, ASK_AGAIN);
  }
  const { source, stored, revision, provider, readers, warnings } = settings;
  if (source === "environment") {
    if (stored === undefined) return report.pass(check, "the environment's, nothing is stored");
    return report.fail(
      check,
      `revision ${stored.revision} is stored (${stored.provider}) and the functions cannot use it: ` +
        `the environment alone counts (${provider})`,
      "store it again (deno task kms -- config set), or roll back to a revision that opens: " +
        "docs/configuration-api.md, where credentials lie",
    );
  }
  const what = `revision ${revision} of the database is in force (${provider}` +
    `${readers.length === 0 ? "" : `; ${listed(readers)} read`}), and the functions can open it`;
  if (warnings.length === 0) report.pass(check, what);
  else {
    report.warn(
      check,
      `${what}. ${warnings.join(" ")}`,
      "docs/configuration-api.md, where credentials lie",
    );
  }
}

interface HealthView {
  readonly status?: string;
  readonly metadata?: { readonly environment?: string | null };
  readonly checks?: Readonly<Record<string, { readonly status: string; readonly error?: string }>>;
  /** This and the following only for a secret key. */
  readonly provider?: string;
  readonly classes?: Readonly<Record<string, ClassView>>;
  readonly regions?: Readonly<Record<string, boolean>>;
}

interface ClassView {
  readonly key: { readonly key_id?: string; readonly state?: string; readonly error?: string };
  readonly canary: { readonly status: string; readonly error?: string };
}

/** What the functions see of their keys; with a key of theirs, every class and region as well. */
export async function checkHealth(
  report: Report,
  config: Config | undefined,
  target: Target,
  settings: Probe<SettingsAnswer>,
): Promise<void> {
  const check = "functions.health";
  const perClass = KEYS.map((name) => `functions.${name}`);
  if (report.failed(`functions.${HEALTH}`)) {
    for (const each of [check, ...perClass]) report.notChecked(each, `functions.${HEALTH}`);
    return;
  }
  const answer = await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/${HEALTH}`, {
      headers: { apikey: target.secretKey },
      redirect: "manual",
      signal,
    });
    return await response.json() as HealthView;
  });
  if (!answer.ok) {
    unreached(report, check, answer);
    for (const each of perClass) report.notChecked(each, check);
    return;
  }
  const view = answer.value;
  const inForce = settings.ok ? settings.value.settings?.provider : undefined;
  checkStatus(report, check, config, view, inForce);
  for (const [index, name] of DATA_CLASSES.entries()) {
    checkKey(report, perClass[index] ?? "", view.provider, view.classes?.[name]);
  }
}

function checkStatus(
  report: Report,
  check: string,
  config: Config | undefined,
  { status, metadata, checks = {}, regions = {}, provider }: HealthView,
  inForce: string | undefined,
): void {
  const environment = metadata?.environment;
  const ill = Object.entries(regions).filter(([, well]) => !well).map(([name]) => name);
  if (status === "unhealthy") {
    const errors = Object.values(checks).flatMap(({ error }) => error ?? []);
    const what = `unhealthy: ${listed([...new Set(errors)])}`;
    // The functions suffer from what was found above; that line says what to do.
    if (report.failed()) report.warn(check, what, MEND_FIRST);
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
  } else if (inForce !== undefined && provider !== undefined && provider !== inForce) {
    report.warn(
      check,
      `healthy, under ${provider}: the worker that was asked has not heard of ${inForce} yet`,
      "ask again after KMS_CONFIG_CACHE_MS (a minute unless changed)",
    );
  } else report.pass(check, "healthy");
}

/** The key service in force, as the functions reach it: not as it is seen from here. */
function checkKey(
  report: Report,
  check: string,
  provider: string | undefined,
  view: ClassView | undefined,
): void {
  if (view === undefined) {
    const cause = ["functions.secret_key", "functions.configuration"]
      .find((name) => report.failed(name));
    return report.notChecked(check, cause ?? "functions.health");
  }
  const { key, canary } = view;
  const faults = [
    ...key.error === undefined ? [] : [`the key cannot be described: ${key.error}`],
    ...key.state === undefined || key.state === "Enabled" ? [] : [`${key.key_id} is ${key.state}`],
    ...canary.status === "pass"
      ? []
      : [`a message that was stored once does not decrypt: ${canary.error}`],
  ];
  const what = `${provider}: ${faults.join("; ")}`;
  if (faults.length === 0) {
    report.pass(check, `${provider}: ${key.key_id} is enabled, and what was stored once decrypts`);
  } else if (report.failed()) report.warn(check, what, MEND_FIRST);
  else {
    report.fail(
      check,
      what,
      "the log of kms-health-check has the key service's own error; docs/key-providers.md says what " +
        "the code asks for",
    );
  }
}
