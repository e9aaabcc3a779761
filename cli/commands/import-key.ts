/** `kms import-key`: the one key of a setup made by an earlier guide, so that its rows can be read. */
import { type Command, Option } from "commander";
import { usage } from "../errors.ts";
import type { Host } from "../host.ts";
import { readLegacyKey, SOURCES } from "../legacy-keys.ts";
import { facts } from "../text.ts";

interface Options {
  readonly source: typeof SOURCES[number];
  readonly keyId: string;
  readonly name?: string;
  readonly envFile?: string;
}

export function importKeyCommand(program: Command, host: Host): void {
  host.command(
    program,
    "import-key",
    "import a key that was kept as a secret, for reading old rows",
  )
    .addOption(
      new Option("--source <source>", "where it is kept").choices(SOURCES).makeOptionMandatory(),
    )
    .requiredOption("--key-id <name>", "its name there and here (KMS_KEY_ID of the guide)")
    .option("--name <name>", "full name of the parameter or secret, when it is not the guide's")
    .option("--env-file <file>", "variables of the source's credentials (default: the environment)")
    .action(host.action<Options>(async (session, options) => {
      const { keyId } = options;
      if (!/^[a-zA-Z0-9_-]{1,64}$/.test(keyId)) {
        throw usage("--key-id must be 1 to 64 letters, digits, underscores or hyphens");
      }
      if (options.source === "stdin" && session.options.secretKeyFile === "-") {
        throw usage("stdin holds either the secret key or the key to import");
      }
      const api = await session.admin();
      const key = await readLegacyKey({ ...options, io: session.io });
      const imported = await api.importKey({ key_id: keyId, key });
      return { document: imported, text: facts(imported) };
    }));
}
