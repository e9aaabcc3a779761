/** `kms rotate`: a new version of a branch key, or new material in the key service itself. */
import { type Command, Option } from "commander";
import { ApiError, EXIT, usage } from "../errors.ts";
import { type Host, parse, type Session } from "../host.ts";
import { dataClassOption, given } from "../options.ts";
import { columnsOf, table } from "../text.ts";

interface Options {
  readonly target: "branch-key" | "kms-key";
  readonly class?: string;
  readonly user?: string;
  readonly confirm?: string;
}

const NO_BRANCH_KEY =
  "there is no branch key yet: one is made with the first row of a class or user";

export function rotateCommand(program: Command, host: Host): void {
  host.command(
    program,
    "rotate",
    "rotate a key: new data uses the new version, old data stays readable",
  )
    .addOption(
      new Option("--target <target>", "what to rotate").choices(["branch-key", "kms-key"])
        .default("branch-key"),
    )
    .addOption(dataClassOption())
    .option("--user <id>", "the branch key of this user, where users have their own", parse.uuid)
    .option("--confirm <key-id>", "for kms-key: its id, as `key --class` shows it")
    .action(host.action<Options>(async (session, options) => {
      if (options.target === "kms-key") await requireConfirmation(session, options);
      else if (options.confirm !== undefined) throw usage("--confirm belongs to --target kms-key");
      const api = await session.admin();
      const result = await api.rotate(given({
        target: options.target === "kms-key" ? "kms_key" as const : "branch_key" as const,
        data_class: options.class,
        user_id: options.user,
        confirm: options.confirm,
      })).catch((error) => {
        if (error instanceof ApiError && error.code === "not_found") session.io.err(NO_BRANCH_KEY);
        throw error;
      });
      const { rotated, failed } = result;
      const text = [
        table(rotated, columnsOf(rotated)),
        ...failed.length === 0 ? [] : ["FAILED", table(failed, columnsOf(failed))],
        options.target === "kms-key"
          ? "what was wrapped before stays readable; nothing has to be re-encrypted"
          : "rows keep their old version until `deno task kms -- reencrypt` moves them",
      ];
      return {
        document: result,
        text: text.join("\n"),
        exit: failed.length === 0 ? EXIT.ok : EXIT.negative,
      };
    }));
}

/** AWS counts: what is used up by mistake is gone. */
async function requireConfirmation(session: Session, options: Options): Promise<void> {
  if (options.user !== undefined) throw usage("--user belongs to --target branch-key");
  if (options.class === undefined) throw usage("--class is required: every class has its own key");
  if (options.confirm !== undefined) return;
  const { keyId, rotation } = await (await session.admin()).metadata(options.class);
  const left = rotation?.on_demand_left;
  throw usage(
    `${
      typeof left === "number"
        ? `${left} rotations on demand are left, ever`
        : "this cannot be undone"
    }` +
      `: to rotate, repeat with --confirm ${keyId}`,
  );
}
