/** `kms retire`: an old version of a branch key that no row uses any more. */
import { Argument, type Command } from "commander";
import { type Host, parse } from "../host.ts";

export function retireCommand(program: Command, host: Host): void {
  host.command(
    program,
    "retire",
    "destroy an old version of a branch key; refused while one row uses it",
  )
    .addArgument(new Argument("<branch-key>", "its id"))
    .addArgument(new Argument("<version>", "of the branch key").argParser(parse.uuid))
    .action(host.action<unknown, [string, string]>(async (session, _options, key, version) => {
      const retired = await (await session.admin()).retire({
        branch_key_id: key,
        version,
      });
      return {
        document: retired,
        text: `retired version ${retired.version} of ${retired.branch_key_id}`,
      };
    }));
}
