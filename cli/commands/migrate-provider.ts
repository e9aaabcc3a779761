/**
 * `kms migrate-provider`: other wrapping keys for the branch keys. No row changes. Alone it prepares and
 * switches; what ends the way back, `finish`, has to be asked for.
 */
import { type Command, Option } from "commander";
import type { AdminApi, Migration, MigrationStep } from "../api.ts";
import { CliError, EXIT, usage } from "../errors.ts";
import type { Host } from "../host.ts";
import type { Io } from "../io.ts";
import { patiently } from "../patience.ts";
import { facts, printable } from "../text.ts";

const PROVIDERS = ["aws", "gcp", "vault", "env"];
const STEPS: readonly MigrationStep[] = ["prepare", "switch", "finish", "back"];

/** Portions in a row that may bring nothing forward. */
const MAX_STALLS = 3;

/** As far as the functions count rows of direct mode. */
const MOST_DIRECT_ROWS = 10_000;

interface Options {
  readonly from?: string;
  readonly to?: string;
  readonly step?: MigrationStep;
  readonly back?: boolean;
  readonly status?: boolean;
}

export function migrateProviderCommand(program: Command, host: Host): void {
  host.command(program, "migrate-provider", "re-wrap the branch keys under another provider")
    .addOption(new Option("--from <provider>", "who wraps them now").choices(PROVIDERS))
    .addOption(new Option("--to <provider>", "who shall").choices(PROVIDERS))
    .addOption(
      new Option("--step <step>", "one step only (default: prepare, then switch)").choices(STEPS),
    )
    .option("--back", "return to --from, at any time before finish")
    .option("--status", "show the migration under way")
    .addHelpText(
      "after",
      `
prepare  wrap every branch key under both providers; nothing else changes
switch   write under the new one; both serve
finish   forget the old wrappings: there is no way back from here
back     write under the old one again`,
    )
    .action(host.action<Options>(async (session, options) => {
      const { from, to } = options;
      const { io } = session;
      const api = await session.admin();
      if (options.status) {
        const migration = await api.migration();
        return {
          document: migration,
          text: migration === null ? "no migration is under way" : facts(migration),
        };
      }
      if (from === undefined || to === undefined) throw usage("--from and --to are required");
      if (from === to) throw usage("--from and --to are the same provider");
      if (options.back && options.step !== undefined) throw usage("--back is a step of its own");
      const steps = options.back
        ? ["back" as const]
        : options.step === undefined
        ? ["prepare" as const, "switch" as const]
        : [options.step];
      let last: Migration | undefined;
      for (const step of steps) {
        last = await complete(api, { from, to, step }, (line) => io.err(line), io.interrupted);
      }
      if (steps.at(-1) !== "prepare") await tellWhoWrites(api, options.back ? from : to, io);
      const hints = [
        ...steps.at(-1) === "switch"
          ? ["both providers serve now. To end it: --step finish. To return: --back"]
          : [],
        ...last?.direct_rows && !options.back
          ? [
            `${countOf(last)} rows were wrapped by ${from} itself: re-encrypt them before it goes`,
          ]
          : [],
      ];
      return { document: last, text: [facts(last ?? {}), ...hints].join("\n") };
    }));
}

function countOf({ direct_rows }: Migration): string {
  return direct_rows > MOST_DIRECT_ROWS ? `more than ${MOST_DIRECT_ROWS}` : String(direct_rows);
}

/** A migration moves what is there; who wraps the keys to come is a matter of the configuration. */
async function tellWhoWrites(api: AdminApi, wanted: string, io: Io): Promise<void> {
  let provider: unknown;
  try {
    ({ provider } = await api.config());
  } catch (error) {
    // The step is done, and this was no part of it.
    if (error instanceof CliError) return;
    throw error;
  }
  if (provider === wanted) return;
  io.err(
    `new branch keys and versions are still wrapped by ${printable(String(provider))}: ` +
      `make ${wanted} the provider (config set, or KMS_PROVIDER)`,
  );
}

/** Repeats a step, which works in portions, until nothing remains. */
async function complete(
  api: AdminApi,
  request: { readonly from: string; readonly to: string; readonly step: MigrationStep },
  say: (line: string) => void,
  interrupted: AbortSignal,
): Promise<Migration> {
  for (let [before, stalls] = [Infinity, 0];;) {
    const migration = await patiently(() => api.migrate(request), interrupted);
    const { remaining, operations, branch_keys } = migration;
    const left = remaining === 0 ? "" : `, ${operations} operations left`;
    say(`${request.step}: ${branch_keys - remaining} of ${branch_keys} branch keys${left}`);
    if (remaining === 0) return migration;
    // New branch keys may be made meanwhile.
    stalls = operations < before ? 0 : stalls + 1;
    if (stalls === MAX_STALLS) {
      throw new CliError(
        EXIT.negative,
        "no_progress",
        `${request.step} leaves ${remaining} branch keys undone: \`health\` tells about both providers`,
      );
    }
    if (interrupted.aborted) {
      throw new CliError(EXIT.interrupted, "interrupted", "interrupted: the same command goes on");
    }
    before = operations;
  }
}
