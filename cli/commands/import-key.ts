/** `kms import-key`: the one key of a setup made by an earlier guide, so that its rows can be read. */
import { type Command, Option } from "commander";
import type { KeyImport } from "../api.ts";
import { usage } from "../errors.ts";
import { credentialsFile, fetchGoogleKey } from "../google-key.ts";
import { type Host, parse, type Session } from "../host.ts";
import { given } from "../options.ts";
import { facts } from "../text.ts";

interface Options {
  readonly source: "aws" | "gcp" | "vault" | "env" | "stdin";
  readonly keyId?: string;
  readonly name?: string;
  readonly keyVersion?: number;
  readonly derivation?: string;
  readonly credentialsFile?: string;
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
    .option(
      "--credentials-file <file>",
      "for gcp: JSON key of a service account, mode 0600; the key is then fetched from here and " +
        "handed over (GOOGLE_APPLICATION_CREDENTIALS)",
    )
    .action(host.action<Options>(async (session, options) => {
      const { source } = options;
      if (options.credentialsFile !== undefined && source !== "gcp") {
        throw usage("--credentials-file belongs to the source gcp");
      }
      const isPlace = source === "aws" || source === "gcp" || source === "vault";
      if (!isPlace && (options.name !== undefined || options.keyVersion !== undefined)) {
        throw usage("--name and --key-version belong to the sources aws, gcp and vault");
      }
      const api = await session.admin();
      const imported = await api.importKey({
        ...await placeOf(session, options),
        ...given({ derivation: options.derivation }),
      });
      return { document: imported, text: facts(imported) };
    }));
}

/** Where the functions find the key, or the key itself. */
async function placeOf({ io }: Session, options: Options): Promise<KeyImport> {
  const { source, keyId, name, keyVersion: version } = options;
  if (source === "stdin") {
    return { source: "inline", ...given({ key_id: keyId }), key: await keyFrom(io) };
  }
  const file = source === "gcp" ? credentialsFile(options.credentialsFile, io) : undefined;
  if (file === undefined) return { source, ...given({ key_id: keyId, name, version }) };
  const id = keyId ?? (io.env.KMS_KEY_ID?.trim() || "default");
  io.err(`fetching ${name ?? `the key ${id}`} from here, with ${file}`);
  const key = await fetchGoogleKey(file, { keyId: id, name, version }, io);
  return { source: "inline", key_id: id, key };
}

async function keyFrom(io: { stdin(): Promise<string> }): Promise<string> {
  const key = (await io.stdin()).replace(/\r?\n$/, "");
  if (key.length >= 1 && key.length <= 1024 && !/[\r\n]/.test(key)) return key;
  throw usage("stdin must hold the key: one line of 1 to 1024 characters");
}
