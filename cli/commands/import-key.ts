/** `kms import-key`: the one key of a setup made by an earlier guide, so that its rows can be read. */
import { type Command, Option } from "commander";
import { usage } from "../errors.ts";
import { type Host, parse } from "../host.ts";
import { given } from "../options.ts";
import { facts } from "../text.ts";

interface Options {
  readonly source: "aws" | "gcp" | "vault" | "env" | "stdin";
  readonly keyId?: string;
  readonly name?: string;
  readonly keyVersion?: number;
  readonly derivation?: string;
}

export function importKeyCommand(program: Command, host: Host): void {
  host.command(
    program,
    "import-key",
    "import a key that was kept as a secret, for reading old rows",
  )
    .addOption(
      new Option("--source <source>", "where the functions find it; stdin sends it to them")
        .choices(["aws", "gcp", "vault", "env", "stdin"]).makeOptionMandatory(),
    )
    .option("--key-id <id>", "its name there and here (KMS_KEY_ID of the guide)")
    .option("--name <name>", "full name of the parameter or secret, when it is not the guide's")
    .option(
      "--key-version <number>",
      "of the secret (default: the latest)",
      parse.count(1, 999_999_999),
    )
    .addOption(
      new Option("--derivation <kind>", "how the text becomes the key").choices(["none", "pbkdf2"]),
    )
    .action(host.action<Options>(async (session, options) => {
      const { source } = options;
      const isPlace = source === "aws" || source === "gcp" || source === "vault";
      if (!isPlace && (options.name !== undefined || options.keyVersion !== undefined)) {
        throw usage("--name and --key-version belong to the sources aws, gcp and vault");
      }
      const api = await session.admin();
      const imported = await api.importKey(given({
        source: source === "stdin" ? "inline" as const : source,
        key_id: options.keyId,
        name: options.name,
        version: options.keyVersion,
        derivation: options.derivation,
        key: source === "stdin" ? await keyFrom(session.io) : undefined,
      }));
      return { document: imported, text: facts(imported) };
    }));
}

async function keyFrom(io: { stdin(): Promise<string> }): Promise<string> {
  const key = (await io.stdin()).replace(/\r?\n$/, "");
  if (key.length >= 1 && key.length <= 1024 && !/[\r\n]/.test(key)) return key;
  throw usage("stdin must hold the key: one line of 1 to 1024 characters");
}
