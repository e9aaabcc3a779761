/** Which of several providers is asked first, and when the next one: one that failed waits behind others. */
import { SuiteError } from "../errors.ts";
import type { KeyProvider } from "./key-provider.ts";

/** How long a provider that could not be reached comes last, milliseconds. */
const LAST_FOR_MS = 30_000;

export class FailingProviders {
  readonly #patienceMs: number;
  readonly #now: () => number;
  readonly #lastUntil = new Map<KeyProvider, number>();

  /** `patienceMs`: what one that is not the last resort may take. */
  constructor(patienceMs: number, now: () => number) {
    this.#patienceMs = patienceMs;
    this.#now = now;
  }

  /**
   * The first of the choices that `open` does not throw for, in their order.
   *
   * @throws {SuiteError} when none opens, what an outage threw rather than a wrong key; decryption_failed
   *   when there is no choice.
   */
  async first<Choice extends { readonly reader: KeyProvider }, T>(
    choices: readonly Choice[],
    open: (choice: Choice, signal: AbortSignal | undefined) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const isFailing = ({ reader }: Choice) => (this.#lastUntil.get(reader) ?? 0) > this.#now();
    const ordered = choices.toSorted((a, b) => Number(isFailing(a)) - Number(isFailing(b)));
    let failure = new SuiteError("decryption_failed");
    for (const [index, choice] of ordered.entries()) {
      const isLast = index === ordered.length - 1;
      const patience = isLast ? [] : [AbortSignal.timeout(this.#patienceMs)];
      const limits = [...patience, ...signal === undefined ? [] : [signal]];
      try {
        return await open(choice, limits.length === 0 ? undefined : AbortSignal.any(limits));
      } catch (error) {
        if (!(error instanceof SuiteError) || signal?.aborted) throw error;
        if (error.code !== "decryption_failed") failure = error;
        if (error.code === "kms_unavailable") {
          this.#lastUntil.set(choice.reader, this.#now() + LAST_FOR_MS);
        }
      }
    }
    throw failure;
  }
}
