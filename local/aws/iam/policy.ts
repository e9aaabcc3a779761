/** Policy documents: read strictly, kept in one normal form. Source: IAM JSON policy grammar. */

import { conditionProblem } from "./conditions.ts";

export interface Statement {
  readonly effect: "Allow" | "Deny";
  /** Null in identity policies. `*` is everybody. */
  readonly principals: readonly string[] | null;
  readonly notPrincipals: readonly string[] | null;
  readonly actions: readonly string[] | null;
  readonly notActions: readonly string[] | null;
  readonly resources: readonly string[] | null;
  readonly notResources: readonly string[] | null;
  readonly conditions: readonly Condition[];
}

export interface Condition {
  readonly operator: string;
  /** Lower case: condition keys are case-insensitive. */
  readonly key: string;
  readonly values: readonly string[];
}

export interface PolicyDocument {
  readonly statements: readonly Statement[];
}

/** Why a document is no policy, in the words AWS uses. */
export class PolicySyntaxError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "PolicySyntaxError";
  }
}

export type PolicyKind = "identity" | "key" | "trust";

/** Throws PolicySyntaxError. */
export function parsePolicy(text: string, kind: PolicyKind): PolicyDocument {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new PolicySyntaxError("This policy contains invalid Json");
  }
  return readPolicy(json, kind);
}

/** As `parsePolicy`, for a document that is parsed already. */
export function readPolicy(json: unknown, kind: PolicyKind): PolicyDocument {
  const document = object(json);
  refuseUnknown(document, ["Version", "Id", "Statement"]);
  const version = document.Version;
  if (version !== undefined && version !== "2012-10-17" && version !== "2008-10-17") {
    throw new PolicySyntaxError("The policy must contain a valid version string");
  }
  const statement = document.Statement;
  if (statement === undefined) throw new PolicySyntaxError("Syntax errors in policy.");
  const list = Array.isArray(statement) ? statement : [statement];
  return { statements: list.map((entry) => readStatement(entry, kind)) };
}

const STATEMENT_MEMBERS = [
  "Sid",
  "Effect",
  "Principal",
  "NotPrincipal",
  "Action",
  "NotAction",
  "Resource",
  "NotResource",
  "Condition",
];

function readStatement(json: unknown, kind: PolicyKind): Statement {
  const entry = object(json);
  refuseUnknown(entry, STATEMENT_MEMBERS);
  if (entry.Effect !== "Allow" && entry.Effect !== "Deny") {
    throw new PolicySyntaxError("Syntax errors in policy.");
  }
  const principals = entry.Principal === undefined ? null : readPrincipals(entry.Principal);
  const notPrincipals = entry.NotPrincipal === undefined
    ? null
    : readPrincipals(entry.NotPrincipal);
  if (kind === "identity") {
    if (principals !== null || notPrincipals !== null) {
      throw new PolicySyntaxError("Policy document should not specify a principal.");
    }
  } else if ((principals === null) === (notPrincipals === null)) {
    throw new PolicySyntaxError("Policy contains a statement with no principal.");
  }
  const actions = strings(entry.Action);
  const notActions = strings(entry.NotAction);
  if ((actions === null) === (notActions === null)) {
    throw new PolicySyntaxError("Policy statement must contain actions.");
  }
  checkActions([...actions ?? [], ...notActions ?? []], kind);
  const resources = strings(entry.Resource);
  const notResources = strings(entry.NotResource);
  if (kind === "trust") {
    if (resources !== null || notResources !== null) {
      throw new PolicySyntaxError("Has prohibited field Resource");
    }
  } else if ((resources === null) === (notResources === null)) {
    throw new PolicySyntaxError("Policy statement must contain resources.");
  }
  return {
    effect: entry.Effect,
    principals,
    notPrincipals,
    actions,
    notActions,
    resources,
    notResources,
    conditions: readConditions(entry.Condition),
  };
}

function checkActions(actions: readonly string[], kind: PolicyKind): void {
  if (kind === "trust" && !actions.every((action) => /^sts:/i.test(action))) {
    throw new PolicySyntaxError("AssumeRole policy may only specify STS AssumeRole actions.");
  }
  if (kind === "identity" && !actions.every((action) => /^(\*|[\w-]+:.+)$/.test(action))) {
    throw new PolicySyntaxError(
      "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
    );
  }
}

function readPrincipals(json: unknown): string[] {
  if (json === "*") return ["*"];
  const found: string[] = [];
  for (const [type, value] of Object.entries(object(json))) {
    const values = strings(value) ?? [];
    if (type === "AWS") found.push(...values);
    // Nothing here acts as a service, a federation or a canonical user: such principals match nobody.
    else if (["Service", "Federated", "CanonicalUser"].includes(type)) {
      found.push(...values.map((name) => `${type}:${name}`));
    } else throw new PolicySyntaxError("Policy contains a statement with no principal.");
  }
  if (found.length === 0) {
    throw new PolicySyntaxError("Policy contains a statement with no principal.");
  }
  return found;
}

function readConditions(json: unknown): Condition[] {
  if (json === undefined) return [];
  const found: Condition[] = [];
  for (const [operator, block] of Object.entries(object(json))) {
    for (const [key, value] of Object.entries(object(block))) {
      const list = Array.isArray(value) ? value : [value];
      const values = list.map((item) => {
        if (!["string", "number", "boolean"].includes(typeof item)) {
          throw new PolicySyntaxError("Syntax errors in policy.");
        }
        return String(item);
      });
      const problem = conditionProblem(operator, values);
      if (problem !== null) throw new PolicySyntaxError(problem);
      found.push({ operator, key: key.toLowerCase(), values });
    }
  }
  return found;
}

function object(json: unknown): Readonly<Record<string, unknown>> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new PolicySyntaxError("Syntax errors in policy.");
  }
  return json as Record<string, unknown>;
}

function strings(json: unknown): readonly string[] | null {
  if (json === undefined) return null;
  const list: unknown[] = Array.isArray(json) ? json : [json];
  if (list.length === 0) throw new PolicySyntaxError("Syntax errors in policy.");
  return list.map((item) => {
    if (typeof item !== "string" || item === "") {
      throw new PolicySyntaxError("Syntax errors in policy.");
    }
    return item;
  });
}

function refuseUnknown(document: Readonly<Record<string, unknown>>, known: readonly string[]) {
  for (const name of Object.keys(document)) {
    if (!known.includes(name)) throw new PolicySyntaxError("Syntax errors in policy.");
  }
}
