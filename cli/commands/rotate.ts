/** `kms rotate`: a new version of a branch key, or new material in the key service itself. */
import { type Command, Option } from "commander";
import { usage } from "../errors.ts";
import { type Host, parse } from "../host.ts";
import { dataClassOption, given } from "../options.ts";

interface Options {
  readonly target: "branch-key" | "kms-key";
  readonly class?: string;
  readonly user?: string;
  readonly confirm?: boolean;
}

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
    .option("--confirm", "for kms-key: AWS allows 25 rotations on demand in the life of a key")
    .action(host.action<Options>(async (session, options) => {
      if (options.target === "kms-key") {
        if (options.user !== undefined) throw usage("--user belongs to --target branch-key");
        if (!options.confirm) {
          throw usage(
            "AWS allows 25 rotations on demand in the life of a key: repeat with --confirm",
          );
        }
      }
      const rotated = await (await session.admin()).rotate(given({
        target: options.target === "kms-key" ? "kms_key" as const : "branch_key" as const,
        data_class: options.class,
        user_id: options.user,
        confirm: options.confirm,
      }));
      const text = [
        `rotated, new version ${rotated.newKeyVersion}`,
        "rows keep their old version until `deno task kms -- reencrypt` moves them",
      ];
      return { document: rotated, text: text.join("\n") };
    }));
}
