/** The fault switch of the local key services: rules that make chosen requests fail, late or wrong. */

export type RestFault =
  /** The connection is closed without an answer. */
  | { readonly kind: "refuse" }
  /** No answer ever. */
  | { readonly kind: "blackhole" }
  /** Everything is done, and then the connection is closed. */
  | { readonly kind: "drop_after" }
  | { readonly kind: "latency"; readonly ms: number }
  /** Answered with this status and body, nothing done. */
  | { readonly kind: "status"; readonly status: number; readonly body?: unknown }
  /** 200 with this text, by default one that is no JSON. */
  | { readonly kind: "malformed"; readonly text?: string }
  /** Done, and the answer changed on its way as given. */
  | {
    readonly kind: "change";
    readonly change: (body: Record<string, unknown>) => Record<string, unknown>;
  };

export interface RestFaultRule {
  /** As in the record of calls; all unless given. */
  readonly operation?: string;
  readonly effect: RestFault;
  /** How often it applies; always unless given. */
  readonly times?: number;
}

export class RestFaults {
  #rules: { readonly rule: RestFaultRule; left: number }[] = [];

  set(rules: readonly RestFaultRule[]): void {
    this.#rules = rules.map((rule) => ({ rule, left: rule.times ?? Infinity }));
  }

  clear(): void {
    this.#rules = [];
  }

  /** The first rule that applies; used up by one. */
  take(operation: string): RestFault | undefined {
    const live = this.#rules.find(({ rule, left }) =>
      left > 0 && (rule.operation ?? operation) === operation
    );
    if (live === undefined) return undefined;
    live.left--;
    return live.rule.effect;
  }
}
