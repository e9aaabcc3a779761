/** What somebody began and nobody ended: a migration between providers, re-encryption jobs. */
import type { Report } from "./report.ts";

/** As `public.kms_doctor()` answers. */
export interface Begun {
  readonly provider_migration: {
    readonly from: string;
    readonly to: string;
    readonly step: "prepare" | "switch" | "finish" | "back";
    /** ISO 8601. */
    readonly started_at: string;
    /** Branch keys for which the step is not done. */
    readonly remaining: number;
  } | null;
  /** Those that run, and those whose failures no later one went over; newest first. */
  readonly jobs: readonly JobState[];
}

interface JobState {
  readonly id: string;
  readonly status: "running" | "completed" | "cancelled";
  readonly data_class: string | null;
  readonly dry_run: boolean;
  readonly total: number;
  readonly worked: number;
  readonly failed: number;
  /** Whether a worker has a lease that has not run out. */
  readonly held: boolean;
  readonly idle_seconds: number;
}

/** Cron and the command line call again within a minute. */
const IDLE_SECONDS = 180;
const KMS = "deno task kms --";

export function checkBegun(report: Report, { provider_migration, jobs }: Begun): void {
  checkMigration(report, provider_migration);
  checkStuck(report, jobs.filter(({ status }) => status === "running"));
  checkFailures(report, jobs.filter(({ failed }) => failed > 0));
}

function checkMigration(report: Report, migration: Begun["provider_migration"]): void {
  const check = "provider.migration";
  if (migration === null) return report.pass(check, "none is under way");
  const { from, to, step, started_at, remaining } = migration;
  const command = `${KMS} migrate-provider --from ${from} --to ${to}`;
  report.warn(
    check,
    `from ${from} to ${to} since ${started_at}: ${step}, ` +
      `${remaining === 0 ? "done for all branch keys" : `${remaining} branch keys remain`}`,
    nextOfMigration(step, remaining, to, command),
  );
}

function nextOfMigration(step: string, remaining: number, to: string, command: string): string {
  if (step === "back") return `end it: ${command} --back`;
  // Its copies are going: there is no way back any more.
  if (step === "finish") return `end it: ${command} --step finish`;
  const next = step === "switch" && remaining === 0
    ? `end it, once ${to} serves well: ${command} --step finish`
    : `go on: ${command}`;
  return `${next}; or return: ${command} --back (docs/runbooks.md, 3)`;
}

function checkStuck(report: Report, running: readonly JobState[]): void {
  const check = "jobs.running";
  if (running.length === 0) return report.pass(check, "none");
  const stuck = running.filter(({ held, idle_seconds }) => !held && idle_seconds > IDLE_SECONDS);
  const said = (job: JobState) =>
    `${named(job)} at ${job.worked} of ${job.total} rows, ` +
    (job.held ? "a worker is at it" : `idle for ${duration(job.idle_seconds)}`);
  const [first] = stuck;
  if (first === undefined) return report.pass(check, running.map(said).join("; "));
  const options = [
    ...first.data_class === null ? [] : ["--class", first.data_class],
    ...first.dry_run ? ["--dry-run"] : [],
  ];
  report.warn(
    check,
    stuck.map(said).join("; "),
    `nobody works on it: ${[KMS, "reencrypt", ...options].join(" ")} goes on where it stopped ` +
      `(by cron: docs/re-encryption.md); or end it: ${KMS} jobs cancel ${first.id}`,
  );
}

function checkFailures(report: Report, jobs: readonly JobState[]): void {
  const check = "jobs.failures";
  const [first] = jobs;
  if (first === undefined) return report.pass(check, "no row that a job could not re-encrypt");
  report.fail(
    check,
    jobs.map((job) => `${job.failed} rows of ${named(job)}`).join("; "),
    `see which and why: ${KMS} jobs failures ${first.id}; mend or delete them, then ` +
      `${KMS} reencrypt goes over them again`,
  );
}

function named({ id, data_class, dry_run }: JobState): string {
  return `${dry_run ? "dry run" : "job"} ${id} (${data_class ?? "all classes"})`;
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
