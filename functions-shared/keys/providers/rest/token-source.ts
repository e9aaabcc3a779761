import { SingleFlight } from "../../single-flight.ts";

/** A bearer token; times in milliseconds since the epoch. */
export interface Token {
  readonly value: string;
  readonly expiresAt: number;
  /** From when on a new one is fetched in the background. */
  readonly renewAt: number;
}

/**
 * A token that is renewed before it expires, once for all concurrent callers. While the old one is still
 * good it serves on, so that no request waits for a renewal nor fails with one.
 */
export class TokenSource {
  readonly #tokens: SingleFlight<Token>;
  readonly #now: () => number;

  /** `issue` gets the last token unless it was invalidated; what it throws reaches who has no token. */
  constructor(issue: (last: Token | undefined) => Promise<Token>, now: () => number = Date.now) {
    this.#now = now;
    this.#tokens = new SingleFlight(async () => {
      const token = await issue(this.#tokens.peek());
      return { value: token, expiresAt: token.renewAt };
    }, now);
  }

  async get(): Promise<Token> {
    const renewed = this.#tokens.get();
    const last = this.#tokens.peek();
    if (last !== undefined && last.expiresAt > this.#now()) {
      renewed.catch(() => {});
      return last;
    }
    return await renewed;
  }

  /** After the service refused it; late news of an older token change nothing. */
  invalidate(token: Token): void {
    if (this.#tokens.peek() === token) this.#tokens.clear();
  }
}
