/** `kms jobs`: re-encryption jobs, running and done. */
import { Argument, type Command } from "commander";
import type { Job, Page } from "../api.ts";
import { EXIT } from "../errors.ts";
import { type Host, parse } from "../host.ts";
import { pageOptions } from "../options.ts";
import { columnsOf, facts, nextPage, table } from "../text.ts";

const COLUMNS = ["id", "status", "data_class", "dry_run", "done", "total", "failed", "created_at"];

export function jobsCommand(program: Command, host: Host): void {
  const jobs = program.command("jobs").description("list, show and cancel re-encryption jobs");
  const idArgument = () => new Argument("<id>", "of the job").argParser(parse.uuid);

  withPage(host.command(jobs, "list", "newest first"))
    .action(host.action<Page>(async (session, { limit, cursor }) => {
      const page = await (await session.admin()).jobs({ limit, cursor } as Page);
      if (page.jobs.length === 0) return { document: page, text: "none" };
      return { document: page, text: table(page.jobs, COLUMNS) + nextPage(page.next_cursor) };
    }));
  host.command(jobs, "show", "one job; exit code 1 when it has failures")
    .addArgument(idArgument())
    .action(host.action<unknown, [string]>(async (session, _options, id) => {
      const job = await (await session.admin()).job(id);
      return { document: job, text: facts(job), exit: exitOf(job) };
    }));
  host.command(jobs, "cancel", "end a job; rows that it has done stay done; 1 when it had ended")
    .addArgument(idArgument())
    .action(host.action<unknown, [string]>(async (session, _options, id) => {
      const job = await (await session.admin()).cancel(id);
      const exit = job.status === "cancelled" ? EXIT.ok : EXIT.negative;
      return { document: job, text: `${job.id} is ${job.status}`, exit };
    }));
  withPage(host.command(jobs, "failures", "rows that a job could not re-encrypt, and why"))
    .addArgument(idArgument())
    .action(host.action<Page, [string]>(async (session, { limit, cursor }, id) => {
      const page = await (await session.admin()).failures(id, { limit, cursor } as Page);
      const { failures, next_cursor } = page;
      return failures.length === 0 ? { document: page, text: "none" } : {
        document: page,
        text: table(failures, columnsOf(failures)) + nextPage(next_cursor),
        exit: EXIT.negative,
      };
    }));
}

function withPage(command: Command): Command {
  for (const option of pageOptions()) command.addOption(option);
  return command;
}

export function exitOf(job: Job) {
  return job.failed > 0 ? EXIT.negative : EXIT.ok;
}
