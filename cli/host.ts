/** What all commands share: their common options, their session, and how they answer and end. */
import { type Command, InvalidArgumentError } from "commander";
import { AdminApi } from "./api.ts";
import { Client } from "./client.ts";
import { EXIT, type ExitCode } from "./errors.ts";
import type { Io } from "./io.ts";
import { type CommonOptions, DEFAULT_DATA_DIR, findTarget, type FoundTarget } from "./target.ts";

/** What a command found out. */
export interface Outcome {
  /** The answer for `--json`. */
  readonly document: unknown;
  /** The same for people; empty for none. */
  readonly text: string;
  readonly exit?: ExitCode;
}

/** One run of one command. */
export class Session {
  readonly io: Io;
  readonly options: CommonOptions;
  #target: Promise<FoundTarget> | undefined;

  constructor(io: Io, options: CommonOptions) {
    this.io = io;
    this.options = options;
  }

  /** @throws {CliError} */
  target(): Promise<FoundTarget> {
    return this.#target ??= findTarget(this.options, this.io);
  }

  async client(): Promise<Client> {
    return new Client(await this.target());
  }

  async admin(): Promise<AdminApi> {
    return new AdminApi(await this.client());
  }
}

type Handler<Options, Args extends readonly unknown[]> = (
  session: Session,
  options: Options,
  ...args: Args
) => Promise<Outcome>;

export class Host {
  readonly #io: Io;
  exit: ExitCode = EXIT.ok;

  constructor(io: Io) {
    this.#io = io;
  }

  /** A command with the common options. */
  command(parent: Command, usage: string, description: string): Command {
    return parent.command(usage)
      .description(description)
      .option("--api-url <url>", "address of the project (KMS_API_URL, SUPABASE_URL)")
      .option("--secret-key-file <file>", "file with the secret key, mode 0600; - for stdin")
      .option("--data-dir <folder>", "data directory of the embedded stack", DEFAULT_DATA_DIR)
      .option("--json", "one JSON document on stdout");
  }

  /** For `action`: runs `handle` and prints what it found. */
  action<Options, Args extends readonly unknown[] = []>(handle: Handler<Options, Args>) {
    return async (...received: unknown[]): Promise<void> => {
      // Commander passes the arguments, the options and the command.
      const [options] = received.slice(-2) as [CommonOptions & Options];
      const session = new Session(this.#io, options);
      const args = received.slice(0, -2) as unknown as Args;
      const { document, text, exit = EXIT.ok } = await handle(session, options, ...args);
      if (options.json) this.#io.out(JSON.stringify(document, null, 2));
      else if (text !== "") this.#io.out(text);
      this.exit = exit;
    };
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Parsers of arguments, for commander. */
export const parse = {
  uuid(text: string): string {
    if (UUID.test(text)) return text.toLowerCase();
    throw new InvalidArgumentError("It is a UUID.");
  },
  day(text: string): string {
    const isDay = /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text)) &&
      new Date(text).toISOString().startsWith(text);
    if (isDay) return text;
    throw new InvalidArgumentError("It is a day, such as 2026-11-25.");
  },
  count: (min: number, max: number) => (text: string): number => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    if (number >= min && number <= max) return number;
    throw new InvalidArgumentError(`It is a whole number from ${min} to ${max}.`);
  },
};
