/** `kms audit`: proof that the trail is whole, copies of it, and what it warns of. */
import { type Command, Option } from "commander";
import type { Period } from "../api.ts";
import { EXIT, usage } from "../errors.ts";
import { jsonOrStdin, writeNewFile } from "../files.ts";
import { type Host, parse } from "../host.ts";
import { given, periodOptions } from "../options.ts";
import { columnsOf, facts, table } from "../text.ts";

export function auditCommand(program: Command, host: Host): void {
  const audit = program.command("audit").description("verify, export and prune the audit trail");

  withPeriod(host.command(audit, "verify", "check the chain of every day; exit code 1 when broken"))
    .option("--anchors <file>", "anchors that were kept elsewhere, as `audit anchors` prints them")
    .action(
      host.action<Period & { readonly anchors?: string }>(async (session, options) => {
        const { from, to } = options;
        const anchors = options.anchors === undefined
          ? undefined
          : readAnchors(await jsonOrStdin(options.anchors, session.io));
        const found = await (await session.admin()).verifyAudit(given({ from, to, anchors }));
        const text = found.valid
          ? `valid: ${found.entries} entries of ${found.days} days`
          : `NOT VALID: ${found.faults.length} faults in ${found.entries} entries of ` +
            `${found.days} days\n${table(found.faults, ["day", "seq", "kind"])}`;
        return { document: found, text, exit: found.valid ? EXIT.ok : EXIT.negative };
      }),
    );
  withPeriod(host.command(audit, "export", "write the entries into a new file, mode 0600"))
    .requiredOption("--out <file>", "the file")
    .action(
      host.action<Period & { readonly out: string }>(async (session, { from, to, out }) => {
        const response = await (await session.admin()).exportAudit(given({ from, to }));
        const bytes = await writeNewFile(out, response.body ?? new Blob([]).stream());
        return { document: { file: out, bytes }, text: `${out}: ${bytes} bytes` };
      }),
    );
  withPeriod(host.command(audit, "anchors", "the hash that ends each day, to be kept elsewhere"))
    .action(host.action<Period>(async (session, { from, to }) => {
      const found = await (await session.admin()).anchors(given({ from, to }));
      return { document: found, text: JSON.stringify(found, null, 2) };
    }));
  host.command(audit, "alerts", "what needs a look; exit code 1 when there is any")
    .action(host.action(async (session) => {
      const found = await (await session.admin()).alerts();
      const { alerts } = found;
      if (alerts.length === 0) return { document: found, text: "none" };
      return {
        document: found,
        text: table(alerts, columnsOf(alerts)),
        exit: EXIT.negative,
      };
    }));
  host.command(audit, "prune", "delete whole days that are over; the chain stays provable")
    .addOption(
      new Option("--before <day>", "the first day to keep").argParser(parse.day)
        .makeOptionMandatory(),
    )
    .option("--confirm", "they are gone for good: export them first")
    .action(
      host.action<{ readonly before: string; readonly confirm?: boolean }>(
        async (session, { before, confirm }) => {
          if (!confirm) throw usage("the days are gone for good: export them, then add --confirm");
          const pruned = await (await session.admin()).pruneAudit(before);
          return { document: pruned, text: facts(pruned) };
        },
      ),
    );
}

function withPeriod(command: Command): Command {
  for (const option of periodOptions()) command.addOption(option);
  return command;
}

/** As `audit anchors` prints them, or the list alone. */
function readAnchors(json: unknown): readonly unknown[] {
  const anchors = Array.isArray(json) ? json : (json as { anchors?: unknown } | null)?.anchors;
  if (!Array.isArray(anchors)) throw usage("the anchors must be a JSON list, or {anchors: [...]}");
  return anchors;
}
