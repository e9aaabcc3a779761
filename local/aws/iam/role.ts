/** A role: its trust policy and inline policies, as it was made and as they were changed since. */

import { parsePolicy, type PolicyDocument } from "./policy.ts";
import type { RoleRecord } from "./records.ts";

/** A role as this version of the local AWS, or a test, makes it. */
export interface GivenRole {
  readonly trustPolicy: unknown;
  /** Inline policies by name. */
  readonly policies: Readonly<Record<string, unknown>>;
  /** Longest session in seconds. */
  readonly maxSessionDurationSeconds: number;
}

interface Policy {
  /** As it was put. */
  readonly text: string;
  readonly document: PolicyDocument;
}

export class Role {
  readonly name: string;
  readonly arn: string;
  readonly id: string;
  readonly createdAt: number;
  readonly maxSessionDurationSeconds: number;
  readonly #record: RoleRecord;
  readonly #policies: Map<string, Policy>;
  #trust: Policy;

  /** Throws PolicySyntaxError. The record is written to when the role changes. */
  constructor(accountId: string, given: GivenRole, record: RoleRecord) {
    this.name = record.name;
    this.arn = `arn:aws:iam::${accountId}:role/${record.name}`;
    this.id = record.id;
    this.createdAt = record.createdAt;
    this.maxSessionDurationSeconds = given.maxSessionDurationSeconds;
    this.#record = record;
    this.#trust = read(record.trustPolicy ?? JSON.stringify(given.trustPolicy), "trust");
    const texts = new Map(
      Object.entries(given.policies).map(([name, document]) => [name, JSON.stringify(document)]),
    );
    for (const { name, document } of record.policies) {
      if (document === null) texts.delete(name);
      else texts.set(name, document);
    }
    this.#policies = new Map([...texts].map(([name, text]) => [name, read(text, "identity")]));
  }

  get trustPolicy(): PolicyDocument {
    return this.#trust.document;
  }

  get trustPolicyText(): string {
    return this.#trust.text;
  }

  get policies(): readonly PolicyDocument[] {
    return [...this.#policies.values()].map(({ document }) => document);
  }

  get policyNames(): readonly string[] {
    return [...this.#policies.keys()];
  }

  policyText(name: string): string | undefined {
    return this.#policies.get(name)?.text;
  }

  /** Throws PolicySyntaxError. */
  trust(text: string): void {
    this.#trust = read(text, "trust");
    this.#record.trustPolicy = text;
  }

  /** Throws PolicySyntaxError. */
  putPolicy(name: string, text: string): void {
    this.#policies.set(name, read(text, "identity"));
    this.#keep(name, text);
  }

  deletePolicy(name: string): void {
    this.#policies.delete(name);
    this.#keep(name, null);
  }

  #keep(name: string, document: string | null): void {
    const others = this.#record.policies.filter((entry) => entry.name !== name);
    this.#record.policies = [...others, { name, document }];
  }
}

function read(text: string, kind: "trust" | "identity"): Policy {
  return { text, document: parsePolicy(text, kind) };
}
