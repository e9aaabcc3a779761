/** The fault switch: rules that make chosen requests fail, late or silent. */

import type { FaultEffect, FaultRule, FaultSwitch } from "./types.ts";

/** What is to happen to one request. */
export interface FaultPlan {
  readonly delayMs: number;
  /** The effect beside latency, if any. */
  readonly effect: Exclude<FaultEffect, { kind: "latency" }> | null;
}

const MAX_LATENCY_MS = 600_000;

interface LiveRule {
  rule: FaultRule;
  left: number;
}

export class Faults implements FaultSwitch {
  #rules: LiveRule[] = [];
  #changed = () => {};

  /** `listener` is called whenever rules are set or added. */
  onChange(listener: () => void): void {
    this.#changed = listener;
  }

  /** Whether any rule may still cut a connection, or make its client do so. */
  get cutsConnections(): boolean {
    return this.#rules.some(({ rule, left }) => left > 0 && rule.effect.kind !== "error");
  }

  set(rules: readonly FaultRule[]): void {
    const checked = rules.map(checkRule);
    this.#rules = checked.map((rule) => ({ rule, left: rule.times ?? Infinity }));
    this.#changed();
  }

  add(rule: FaultRule): void {
    this.#rules.push({ rule: checkRule(rule), left: rule.times ?? Infinity });
    this.#changed();
  }

  clear(): void {
    this.#rules = [];
  }

  rules(): readonly FaultRule[] {
    return this.#rules.map(({ rule, left }) => left === Infinity ? rule : { ...rule, times: left });
  }

  /** Uses up one of each applied rule's `times`. */
  plan(request: { service: string; region: string; operation: string }): FaultPlan {
    let delayMs = 0;
    for (const live of this.#rules) {
      const { rule } = live;
      const matches = live.left > 0 &&
        (rule.service ?? request.service) === request.service &&
        (rule.region ?? request.region) === request.region &&
        (rule.operation ?? request.operation) === request.operation &&
        (rule.probability === undefined || Math.random() < rule.probability);
      if (!matches) continue;
      live.left--;
      if (rule.effect.kind !== "latency") return { delayMs, effect: rule.effect };
      delayMs += rule.effect.ms;
    }
    return { delayMs, effect: null };
  }
}

/** Throws TypeError with what is wrong with a rule that came from outside. */
export function checkRule(json: unknown): FaultRule {
  const rule = object(json, "a rule");
  only(rule, ["service", "region", "operation", "effect", "times", "probability"], "a rule");
  for (const name of ["service", "region", "operation"]) {
    if (rule[name] !== undefined && typeof rule[name] !== "string") {
      throw new TypeError(`${name} must be a string`);
    }
  }
  const { times, probability } = rule;
  if (times !== undefined && !(Number.isInteger(times) && Number(times) >= 0)) {
    throw new TypeError("times must be a whole number, 0 or more");
  }
  if (
    probability !== undefined &&
    !(typeof probability === "number" && probability >= 0 && probability <= 1)
  ) {
    throw new TypeError("probability must be a number from 0 to 1");
  }
  checkEffect(rule.effect);
  return rule as unknown as FaultRule;
}

function checkEffect(json: unknown): void {
  const effect = object(json, "effect");
  switch (effect.kind) {
    case "refuse":
    case "blackhole":
    case "drop_after":
      return only(effect, ["kind"], "effect");
    case "latency":
      only(effect, ["kind", "ms"], "effect");
      if (typeof effect.ms !== "number" || !(effect.ms >= 0 && effect.ms <= MAX_LATENCY_MS)) {
        throw new TypeError(`effect.ms must be a number from 0 to ${MAX_LATENCY_MS}`);
      }
      return;
    case "error":
      only(effect, ["kind", "name", "status", "message"], "effect");
      if (typeof effect.name !== "string" || effect.name === "") {
        throw new TypeError("effect.name must be an exception's name");
      }
      if (
        effect.status !== undefined &&
        !(Number.isInteger(effect.status) && Number(effect.status) >= 400 &&
          Number(effect.status) <= 599)
      ) {
        throw new TypeError("effect.status must be a whole number from 400 to 599");
      }
      if (effect.message !== undefined && typeof effect.message !== "string") {
        throw new TypeError("effect.message must be a string");
      }
      return;
    default:
      throw new TypeError(
        "effect.kind must be refuse, blackhole, latency, error or drop_after",
      );
  }
}

function object(json: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new TypeError(`${what} must be an object`);
  }
  return json as Record<string, unknown>;
}

function only(value: Readonly<Record<string, unknown>>, names: readonly string[], what: string) {
  for (const name of Object.keys(value)) {
    if (!names.includes(name)) throw new TypeError(`${what} has no member '${name}'`);
  }
}
