/** `kms import-key`: the one key of a setup made by an earlier guide, so that its rows can be read. */
import { type Command, Option } from "commander";
import type { KeyImport } from "../api.ts";
import { readEnvironment } from "../env-files.ts";
import { usage } from "../errors.ts";
import { type Host, parse, type Session } from "../host.ts";
import { fetchLocally } from "../local-key.ts";
import { given } from "../options.ts";
import { facts } from "../text.ts";

interface Options {
  readonly source: "aws" | "gcp" | "vault" | "env" | "stdin";
  readonly keyId?: string;
  readonly name?: string;
  readonly keyVersion?: number;
  readonly derivation?: string;
  readonly local?: boolean;
  readonly envFile?: string;
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
    .option("--local", "fetch it here, with credentials of this machine, and send it")
    .option("--env-file <file>", "those credentials, mode 0600 (default: the environment)")
    .action(host.action<Options>(async (session, options) => {
      const api = await session.admin();
      const imported = await api.importKey(await requestOf(session, options));
      return { document: imported, text: facts(imported) };
    }));
}

/** @throws {CliError} for options that do not go together, or a key that cannot be fetched here. */
async function requestOf(session: Session, options: Options): Promise<KeyImport> {
  const { source, local, envFile, keyId, name, keyVersion: version, derivation } = options;
  const isPlace = source === "aws" || source === "gcp" || source === "vault";
  if (!isPlace && (name !== undefined || version !== undefined || local)) {
    throw usage("--name, --key-version and --local belong to the sources aws, gcp and vault");
  }
  if (envFile !== undefined && !local) throw usage("--env-file belongs to --local");
  const request = given({ key_id: keyId, derivation });
  if (source === "stdin") {
    return { ...request, source: "inline", key: oneLine(await session.io.stdin(), "stdin") };
  }
  if (!isPlace || !local) return { ...request, ...given({ source, name, version }) };
  const at = given({ keyId, name, version });
  const key = await fetchLocally(source, at, await ownEnvironment(session, envFile));
  return { ...request, source: "inline", key: oneLine(key, "the secret") };
}

/** What the platform gives to the functions is no part of the file or of this process's environment. */
async function ownEnvironment(session: Session, envFile: string | undefined) {
  const { apiUrl, secretKey, functionEnv } = await session.target();
  return {
    ...functionEnv,
    ...await readEnvironment(envFile, session.io),
    SUPABASE_URL: apiUrl,
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: secretKey }),
  };
}

function oneLine(text: string, what: string): string {
  const key = text.replace(/\r?\n$/, "");
  if (key.length >= 1 && key.length <= 1024 && !/[\r\n]/.test(key)) return key;
  throw usage(`${what} must hold the key: one line of 1 to 1024 characters`);
}
