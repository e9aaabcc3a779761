/** `kms audit`: reading the trail, proof that it is whole, copies of it, and what it warns of. */
import { type Command, Option } from "commander";
import type { AuditFilter, Period } from "../api.ts";
import { allAnchors, pruneBefore, verifyTrail, writeExport } from "../audit.ts";
import { EXIT, usage } from "../errors.ts";
import { jsonOrStdin } from "../files.ts";
import { type Host, parse } from "../host.ts";
import { given, pageOptions, periodOptions } from "../options.ts";
import { columnsOf, facts, nextPage, table } from "../text.ts";

/** Who did what to whose record when and why. */
const ENTRY_COLUMNS = [
  ...["day", "seq", "occurred_at", "action", "outcome", "error_code", "actor_id", "owner_id"],
  ...["record_id", "purpose"],
];

interface ListOptions extends Period {
  readonly limit?: number;
  readonly cursor?: string;
  readonly action?: string;
  readonly actor?: string;
  readonly owner?: string;
  readonly record?: string;
  readonly outcome?: string;
}

interface AlertOptions {
  readonly hours?: number;
  readonly failOnChanges?: boolean;
}

export function auditCommand(program: Command, host: Host): void {
  const audit = program.command("audit").description(
    "read, verify, export and prune the audit trail",
  );

  withOptions(host.command(audit, "list", "entries, newest first"), [
    ...pageOptions(),
    ...periodOptions(),
    new Option("--action <action>", "such as payment_method.reveal"),
    new Option("--actor <id>", "user id, or name of a secret key"),
    new Option("--owner <id>", "whose data").argParser(parse.uuid),
    new Option("--record <id>", "which row").argParser(parse.uuid),
    new Option("--outcome <outcome>", "").choices(["success", "failure"]),
  ]).action(host.action<ListOptions>(async (session, options) => {
    const { limit, cursor, from, to, action, outcome } = options;
    const page = await (await session.admin()).audit(given({
      ...{ limit, cursor, from, to, action, outcome },
      ...{ actor_id: options.actor, owner_id: options.owner, record_id: options.record },
    }) as AuditFilter);
    if (page.entries.length === 0) return { document: page, text: "none" };
    return {
      document: page,
      text: table(page.entries, ENTRY_COLUMNS) + nextPage(page.next_cursor),
    };
  }));

  withOptions(host.command(audit, "verify", "check the chain; exit code 1 when it is broken"), [
    ...periodOptions(),
    new Option(
      "--anchors <file>",
      "kept elsewhere: what `audit anchors` or `audit verify --json` printed",
    ),
  ]).action(
    host.action<Period & { readonly anchors?: string }>(async (session, { from, to, anchors }) => {
      const known = anchors === undefined
        ? []
        : readAnchors(await jsonOrStdin(anchors, session.io));
      const found = await verifyTrail(
        await session.admin(),
        given({ from, to }) as Period,
        known,
        session.io,
      );
      const whole = `${found.entries} entries of ${found.days} days`;
      const text = found.valid
        ? `valid: ${whole}${known.length === 0 ? "" : `, ${known.length} anchors`}`
        : `NOT VALID: ${found.fault_count} faults in ${whole}\n` +
          table(found.faults, columnsOf(found.faults));
      return { document: found, text, exit: found.valid ? EXIT.ok : EXIT.negative };
    }),
  );

  withOptions(
    host.command(audit, "export", "write entries into a new file, mode 0600, one a line"),
    periodOptions(),
  )
    .requiredOption("--out <file>", "the file")
    .action(
      host.action<Period & { readonly out: string }>(async (session, { from, to, out }) => {
        if (from === undefined) {
          throw usage("--from is required; --to is the same day unless given");
        }
        const range = { from, to: to ?? from };
        if (range.to < range.from) throw usage("--to is before --from");
        const written = await writeExport(await session.admin(), range, out, session.io);
        return {
          document: { file: out, ...written },
          text: `${out}: ${written.entries} entries, ${written.bytes} bytes`,
        };
      }),
    );

  withOptions(
    host.command(audit, "anchors", "signed ends of finished days, to be kept elsewhere"),
    periodOptions(),
  ).action(host.action<Period>(async (session, { from, to }) => {
    const period = given({ from, to }) as Period;
    const anchors = await allAnchors(await session.admin(), period, session.io);
    return { document: { anchors }, text: JSON.stringify({ anchors }, null, 2) };
  }));

  host.command(audit, "alerts", "what needs a look; exit code 1 when there is any")
    .option("--hours <count>", "how far to look back", parse.count(1, 168))
    .option("--fail-on-changes", "exit code 1 for administrative changes as well")
    .action(host.action<AlertOptions>(async (session, { hours, failOnChanges }) => {
      const found = await (await session.admin()).alerts(given({ hours }) as { hours?: number });
      const { alerts, changes } = found;
      const bad = alerts.length > 0 || failOnChanges === true && changes.length > 0;
      const rows = (list: readonly unknown[]) => table(list, columnsOf(list));
      return {
        document: found,
        text: (alerts.length === 0 ? "none" : rows(alerts)) +
          (changes.length === 0 ? "" : `\n\nadministrative changes\n${rows(changes)}`),
        exit: bad ? EXIT.negative : EXIT.ok,
      };
    }));

  host.command(audit, "prune", "delete whole days that are over; the chain stays provable")
    .addOption(
      new Option("--before <day>", "the first day to keep").argParser(parse.day)
        .makeOptionMandatory(),
    )
    .option(
      "--confirm <day>",
      "the day once more: export what goes, it is gone for good",
      parse.day,
    )
    .action(
      host.action<{ readonly before: string; readonly confirm?: string }>(
        async (session, { before, confirm }) => {
          if (confirm !== before) {
            throw usage(`they are gone for good: export them, then add --confirm ${before}`);
          }
          const pruned = await pruneBefore(await session.admin(), before, session.io);
          return { document: pruned, text: facts(pruned) };
        },
      ),
    );
}

function withOptions(command: Command, options: readonly Option[]): Command {
  for (const option of options) command.addOption(option);
  return command;
}

/** As `audit anchors` prints them, the list alone, or the one that `audit verify --json` ends with. */
function readAnchors(json: unknown): readonly unknown[] {
  if (Array.isArray(json)) return json;
  const { anchors, anchor } = (json ?? {}) as { anchors?: unknown; anchor?: unknown };
  if (Array.isArray(anchors)) return anchors;
  if (typeof anchor === "object" && anchor !== null) return [anchor];
  throw usage("the anchors must be a JSON list, {anchors: [...]} or {anchor: {...}}");
}
