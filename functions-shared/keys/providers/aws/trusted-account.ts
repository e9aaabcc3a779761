/** The one AWS account whose keys are used: stored messages and records may name any. */
import type { AwsConfig } from "../../../config.ts";
import { DATA_CLASSES, type DataClass } from "../../../data-class.ts";
import { type ErrorCode, SuiteError } from "../../../errors.ts";
import { accountIn, parseKeyArn } from "./arn.ts";

/** What an alias that does not exist, or may not be used, is answered with. An outage is none of these. */
const WRONG_ALIAS: ReadonlySet<ErrorCode> = new Set(["kms_key_unusable", "kms_access_denied"]);

export class TrustedAccount {
  readonly #aliases: AwsConfig["aliases"];
  readonly #keyArnOf: (dataClass: DataClass) => Promise<string>;
  #account: string | undefined;

  /** `keyArnOf`: the key that a class's alias stands for. */
  constructor(
    { accountId, aliases }: Pick<AwsConfig, "accountId" | "aliases">,
    keyArnOf: (dataClass: DataClass) => Promise<string>,
  ) {
    this.#aliases = aliases;
    this.#keyArnOf = keyArnOf;
    // An ARN says it without a question: an alias and its key are of one account.
    this.#account = accountId ?? accountIn(aliases.payment);
  }

  /**
   * Learnt once: a key may follow its alias to another key, but not to another account.
   * @throws {SuiteError} what stands in the way of the payment class's alias, or an outage.
   */
  async get(): Promise<string | undefined> {
    return this.#account ??= await this.#callers();
  }

  /**
   * The caller's own account: every alias without an account is there, so that another class's says the
   * same as the payment class's when that one is wrong. An ARN speaks for its own class only.
   */
  async #callers(): Promise<string | undefined> {
    let failure: unknown;
    for (const dataClass of DATA_CLASSES) {
      if (accountIn(this.#aliases[dataClass]) !== undefined) continue;
      try {
        return parseKeyArn(await this.#keyArnOf(dataClass))?.account;
      } catch (error) {
        if (!(error instanceof SuiteError) || !WRONG_ALIAS.has(error.code)) throw error;
        failure ??= error;
      }
    }
    throw failure;
  }
}
