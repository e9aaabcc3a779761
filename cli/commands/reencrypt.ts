/**
 * `kms reencrypt`: every row onto the newest key. Starts the job, or takes up the one that runs, and keeps
 * calling it; whatever ends this command, the job goes on where it stopped.
 */
import type { Command } from "commander";
import type { AdminApi, Job } from "../api.ts";
import { ApiError, CliError, EXIT } from "../errors.ts";
import { type Host, parse } from "../host.ts";
import { dataClassOption, given } from "../options.ts";
import { JobProgress } from "../progress.ts";
import { runJob } from "../run-job.ts";
import { facts } from "../text.ts";

interface Options {
  readonly class?: string;
  readonly dryRun?: boolean;
  readonly workers: number;
}

export function reencryptCommand(program: Command, host: Host): void {
  host.command(program, "reencrypt", "move every row onto the newest key, verifying each")
    .addOption(dataClassOption())
    .option("--dry-run", "read and decrypt every row, change none")
    .option("--workers <count>", "calls at a time", parse.count(1, 16), 2)
    .action(host.action<Options>(async (session, options) => {
      const { io } = session;
      const api = await session.admin();
      const { job, resumed } = await startOrResume(api, options);
      io.err(`${resumed ? "taking up" : "started"} job ${job.id}`);
      const progress = new JobProgress(job, io);
      let last: Job;
      try {
        last = await runJob(api, job, {
          workers: options.workers,
          signal: io.interrupted,
          onProgress: (seen) => progress.show(seen),
        });
      } catch (error) {
        progress.end();
        if (error instanceof CliError) io.err(howToGoOn(job, options));
        throw error;
      }
      progress.end();
      const hint = last.failed > 0 ? `\nwhich: deno task kms -- jobs failures ${last.id}` : "";
      return {
        document: last,
        text: facts(last) + hint,
        exit: last.status === "completed" && last.failed === 0 ? EXIT.ok : EXIT.negative,
      };
    }));
}

function howToGoOn(job: Job, options: Options): string {
  const flags = [
    ...options.class === undefined ? [] : ["--class", options.class],
    ...options.dryRun ? ["--dry-run"] : [],
  ];
  return `the job goes on where it stopped: deno task kms -- ${
    ["reencrypt", ...flags].join(" ")
  }\nor end it: deno task kms -- jobs cancel ${job.id}`;
}

async function startOrResume(api: AdminApi, options: Options) {
  const running = await sameJob(api, options);
  if (running !== undefined) return { job: running, resumed: true };
  try {
    const job = await api.reencrypt(
      given({ data_class: options.class, dry_run: options.dryRun }),
    );
    return { job, resumed: false };
  } catch (error) {
    // Somebody else was first; a job of another kind is theirs, and the refusal stands.
    const job = error instanceof ApiError && error.status === 409
      ? await sameJob(api, options)
      : undefined;
    if (job === undefined) throw error;
    return { job, resumed: true };
  }
}

async function sameJob(api: AdminApi, options: Options): Promise<Job | undefined> {
  const { jobs } = await api.jobs({ limit: 20 });
  return jobs.find((job) =>
    job.kind === "reencrypt" && job.status === "running" &&
    job.data_class === (options.class ?? null) && job.dry_run === (options.dryRun ?? false)
  );
}
