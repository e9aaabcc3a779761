/** Reading environment variables, and collecting what is wrong with them. */
import type { DataClass } from "./data-class.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** What is wrong with the environment: names and constraints only. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`The configuration has ${faults.length} fault(s):\n- ${faults.join("\n- ")}`);
    this.faults = faults;
  }
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** `read` gets the class as variables spell it, and as it is. */
export function perClass<T>(
  read: (name: "PAYMENT" | "PII" | "GENERAL", dataClass: DataClass) => T,
): Record<DataClass, T> {
  return {
    payment: read("PAYMENT", "payment"),
    pii: read("PII", "pii"),
    general: read("GENERAL", "general"),
  };
}

interface TextOptions {
  /** Older or foreign names that serve when the first is unset. */
  readonly also?: readonly string[];
  readonly pattern?: RegExp;
  readonly matches?: (value: string) => boolean;
  readonly constraint?: string;
  /** When set, the variable must be given; says when. */
  readonly required?: string | undefined;
  readonly fallback?: string;
}

/** Reads variables and collects faults; an invalid variable reads as empty. */
export class EnvironmentReader {
  readonly #env: Environment;
  readonly #faults: string[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  fault(name: string, constraint: string): void {
    this.#faults.push(`${name} ${constraint}`);
  }

  throwIfFaulty(): void {
    if (this.#faults.length > 0) throw new ConfigError([...new Set(this.#faults)]);
  }

  isSet(name: string): boolean {
    return this.#raw(name) !== "";
  }

  text(name: string, options: TextOptions): string {
    const names = [name, ...options.also ?? []];
    const set = names.find((candidate) => this.#raw(candidate) !== "");
    if (set === undefined) {
      if (options.required !== undefined) this.fault(name, `is required ${options.required}`);
      return options.fallback ?? "";
    }
    const value = this.#raw(set);
    const ok = (options.pattern?.test(value) ?? true) && (options.matches?.(value) ?? true);
    if (ok) return value;
    this.fault(set, options.constraint ?? "is not valid");
    return "";
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.#raw(name);
    if (value === "") return fallback;
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) this.fault(name, `must be one of ${allowed.join(", ")}`);
    return found ?? fallback;
  }

  flag(name: string, fallback: boolean): boolean {
    return this.oneOf(name, ["true", "false"], fallback ? "true" : "false") === "true";
  }

  /** `older`: another spelling, in the same unit. */
  integer(
    name: string,
    range: { min: number; max: number; fallback: number; older?: string },
  ): number {
    const older = range.older === undefined ? "" : this.#raw(range.older);
    const set = this.#raw(name) === "" && older !== "" ? range.older ?? name : name;
    const value = this.#raw(set);
    if (value === "") return range.fallback;
    const number = /^\d{1,15}$/.test(value) ? Number(value) : NaN;
    if (older !== "" && set === name && Number(older) !== number) {
      this.fault(name, `must equal ${range.older} when both are set`);
    }
    if (number >= range.min && number <= range.max) return number;
    this.fault(set, `must be a whole number from ${range.min} to ${range.max}`);
    return range.fallback;
  }

  url(name: string, options: { readonly required?: string }): string {
    return this.text(name, {
      matches: (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
      constraint: "must be an http or https URL",
      required: options.required,
    }).replace(/\/+$/, "");
  }

  /** Of a key service, which gets credentials and keys: nothing may listen in. */
  serviceUrl(name: string, options: { readonly required?: string } = {}): string {
    const url = this.url(name, options);
    if (url === "" || this.isServiceUrl(url)) return url;
    this.fault(name, "must be https, except on a loopback address");
    return "";
  }

  isServiceUrl(url: string): boolean {
    if (!URL.canParse(url)) return false;
    const { protocol, hostname } = new URL(url);
    return protocol === "https:" || (protocol === "http:" && LOOPBACK.test(hostname));
  }

  /** A JSON array of strings, or strings between commas. */
  list(name: string): readonly string[] {
    const value = this.#raw(name);
    if (value === "") return [];
    if (!value.startsWith("[")) return value.split(",").map((part) => part.trim()).filter(Boolean);
    const parsed = this.json(name);
    if (Array.isArray(parsed) && parsed.every((part) => typeof part === "string")) return parsed;
    if (parsed !== undefined) this.fault(name, "must be a JSON array of strings");
    return [];
  }

  json(name: string): unknown {
    const value = this.#raw(name);
    if (value === "") return undefined;
    try {
      return JSON.parse(value);
    } catch {
      // The parser's message quotes the value, which may be a credential.
      this.fault(name, "must be valid JSON");
      return undefined;
    }
  }

  /** `{"name": "key", ...}`, or the legacy single key under the name `default`. */
  keySet(name: string, legacy: string, required?: string): Readonly<Record<string, string>> {
    const parsed = this.json(name);
    if (parsed === undefined) {
      const single = this.#raw(legacy);
      if (single !== "") return { default: single };
      if (required !== undefined && this.#raw(name) === "") {
        this.fault(name, `is required ${required}`);
      }
      return {};
    }
    const entries = typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? Object.entries(parsed)
      : [];
    if (entries.length === 0 || entries.some(([, key]) => typeof key !== "string" || key === "")) {
      this.fault(name, "must be a JSON object of named keys");
      return {};
    }
    return Object.fromEntries(entries);
  }

  #raw(name: string): string {
    return this.#env[name]?.trim() ?? "";
  }
}
