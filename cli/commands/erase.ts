/** `kms erase` and `kms verify-erasure`: a user's keys and ciphertext for good, and the proof of it. */
import { Argument, type Command } from "commander";
import { EXIT, usage } from "../errors.ts";
import { textOrStdin } from "../files.ts";
import { type Host, parse } from "../host.ts";
import { facts } from "../text.ts";

interface Options {
  readonly purpose: string;
  readonly confirm?: string;
}

export function eraseCommand(program: Command, host: Host): void {
  host.command(program, "erase", "destroy everything of a user, and print the signed proof")
    .addArgument(new Argument("<user>", "id of the user").argParser(parse.uuid))
    .requiredOption("--purpose <text>", "kept in the audit, such as ticket-9")
    .option("--confirm <user>", "the id once more: nothing brings this data back", parse.uuid)
    .action(host.action<Options, [string]>(async (session, { purpose, confirm }, user) => {
      if (confirm === undefined) throw usage(`nothing brings it back: --confirm ${user}`);
      if (confirm !== user) throw usage("--confirm names another user");
      const proof = await (await session.admin()).erase(user, purpose);
      return { document: proof, text: facts(proof) };
    }));
  host.command(program, "verify-erasure", "whether a proof is this suite's, and what it states")
    .addArgument(
      new Argument("<file>", "the proof, alone or in the JSON that it came in; - for stdin"),
    )
    .action(host.action<unknown, [string]>(async (session, _options, path) => {
      const proof = proofIn(await textOrStdin(path, session.io));
      const found = await (await session.admin()).verifyErasure(proof);
      return {
        document: found,
        text: found.valid ? facts(found.erasure ?? {}) : "NOT VALID: this suite did not sign it",
        exit: found.valid ? EXIT.ok : EXIT.negative,
      };
    }));
}

/** By itself, as `erase --json` printed it, or as the route answered it. */
function proofIn(text: string): string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return text.trim();
  }
  const { data, proof } = (json ?? {}) as { data?: { proof?: unknown } | null; proof?: unknown };
  const found = typeof json === "string" ? json : proof ?? data?.proof;
  if (typeof found === "string") return found;
  throw usage("there is no proof in this JSON");
}
