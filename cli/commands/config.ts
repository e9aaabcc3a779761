/** `kms config`: the provider and its settings as they are kept in the database. */
import { Argument, type Command } from "commander";
import type { Page } from "../api.ts";
import { EXIT, usage } from "../errors.ts";
import { jsonOrStdin, requirePrivate } from "../files.ts";
import { type Host, parse } from "../host.ts";
import type { Io } from "../io.ts";
import { pageOptions } from "../options.ts";
import { columnsOf, facts, nextPage, table } from "../text.ts";

export function configCommand(program: Command, host: Host): void {
  const config = program.command("config").description("read, try and change the configuration");
  const file = () => new Argument("<file>", "JSON, as PUT /config takes it; - for stdin");

  host.command(config, "get", "the configuration in force; credentials by name only")
    .action(host.action(async (session) => {
      const current = await (await session.admin()).config();
      return { document: current, text: facts(current) };
    }));
  host.command(config, "test", "use a configuration once without saving it")
    .addArgument(file())
    .action(host.action<unknown, [string]>(async (session, _options, path) => {
      const settings = await readSettings(path, session.io);
      const tested = await (await session.admin()).testConfig(settings);
      return {
        document: tested,
        text: facts(tested),
        exit: tested.healthy && !tested.locks_out ? EXIT.ok : EXIT.negative,
      };
    }));
  host.command(config, "set", "test a configuration and save it when it works")
    .addArgument(file())
    .option("--reason <text>", "kept in the history")
    .action(
      host.action<{ readonly reason?: string }, [string]>(async (session, { reason }, path) => {
        const settings = await readSettings(path, session.io);
        const saved = await (await session.admin()).setConfig({
          ...settings,
          ...reason === undefined ? {} : { reason },
        });
        return { document: saved, text: facts(saved) };
      }),
    );
  const history = host.command(config, "history", "who changed it when, newest first");
  for (const option of pageOptions()) history.addOption(option);
  history.action(host.action<Page>(async (session, { limit, cursor }) => {
    const page = await (await session.admin()).configHistory({ limit, cursor } as Page);
    const { revisions, next_cursor } = page;
    return {
      document: page,
      text: revisions.length === 0
        ? "none: the environment alone counts"
        : table(revisions, columnsOf(revisions)) + nextPage(next_cursor),
    };
  }));
  host.command(config, "rollback", "make an earlier revision the one in force")
    .addArgument(new Argument("<revision>").argParser(parse.count(0, 999_999_998)))
    .option("--reason <text>", "kept in the history")
    .action(
      host.action<{ readonly reason?: string }, [number]>(async (session, { reason }, revision) => {
        const body = { revision, ...reason === undefined ? {} : { reason } };
        const current = await (await session.admin()).rollbackConfig(body);
        return { document: current, text: facts(current) };
      }),
    );
}

/** A file with credentials must be its owner's alone. */
async function readSettings(path: string, io: Io): Promise<object> {
  const settings = await jsonOrStdin(path, io);
  if (typeof settings !== "object" || settings === null || Array.isArray(settings)) {
    throw usage("the configuration must be a JSON object");
  }
  if ("credentials" in settings && path !== "-") await requirePrivate(path);
  return settings;
}
