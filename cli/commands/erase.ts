/** `kms erase`: a user's keys and ciphertext, for good. */
import { Argument, type Command } from "commander";
import { usage } from "../errors.ts";
import { type Host, parse } from "../host.ts";
import { facts } from "../text.ts";

interface Options {
  readonly purpose: string;
  readonly confirm?: string;
}

export function eraseCommand(program: Command, host: Host): void {
  host.command(program, "erase", "destroy everything of a user, and print the signed proof")
    .addArgument(new Argument("<user>", "id of the user").argParser(parse.uuid))
    .requiredOption("--purpose <text>", "kept in the audit, such as a ticket's number")
    .option("--confirm <user>", "the id once more: nothing brings this data back", parse.uuid)
    .action(host.action<Options, [string]>(async (session, { purpose, confirm }, user) => {
      if (confirm === undefined) throw usage(`nothing brings it back: --confirm ${user}`);
      if (confirm !== user) throw usage("--confirm names another user");
      const proof = await (await session.admin()).erase(user, purpose);
      return { document: proof, text: facts(proof) };
    }));
}
