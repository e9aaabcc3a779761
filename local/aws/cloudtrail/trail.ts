/** What authenticated callers did since the start: the events of this account, in memory. */

import type { AwsError } from "../errors.ts";
import type { Caller } from "../iam/identities.ts";

export interface TrailEvent {
  /** Of the request; unique. */
  readonly id: string;
  readonly service: string;
  readonly operation: string;
  readonly region: string;
  readonly caller: Caller;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Of a call that was refused. */
  readonly error?: Pick<AwsError, "code" | "message">;
  /** Access key id of the session that the call opened. */
  readonly opened?: string;
}

const MAX_EVENTS = 100_000;

export class Trail {
  #events: TrailEvent[] = [];

  add(event: TrailEvent): void {
    this.#events.push(event);
    if (this.#events.length > MAX_EVENTS) this.#events = this.#events.slice(-MAX_EVENTS / 2);
  }

  /** Oldest first. */
  events(): readonly TrailEvent[] {
    return this.#events;
  }
}
