/** `kms key`: what is known of the key of a class. */
import type { Command } from "commander";
import type { Host } from "../host.ts";
import { dataClassOption } from "../options.ts";
import { facts } from "../text.ts";

interface Options {
  readonly class?: string;
}

export function keyCommand(program: Command, host: Host): void {
  host.command(program, "key", "show a class's key: state, rotation, branch key and its versions")
    .addOption(dataClassOption())
    .action(host.action<Options>(async (session, options) => {
      const metadata = await (await session.admin()).metadata(options.class);
      return { document: metadata, text: facts(metadata) };
    }));
}
