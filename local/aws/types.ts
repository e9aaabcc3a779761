/** Public shapes of the local AWS: options, identities, faults and call records. */

/** Credentials as `aws configure` takes them. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A role to exist beside the suite's own one, for tests of other trust and permission shapes. */
export interface RoleOptions {
  readonly name: string;
  /** Trust policy document. */
  readonly trustPolicy: unknown;
  /** Identity policy documents. */
  readonly policies: readonly unknown[];
  /** Longest session in seconds, 3600..43200; default 3600, as AWS. */
  readonly maxSessionDurationSeconds?: number;
}

export interface LocalAwsOptions {
  /** TCP port; 0 or omitted = a free one. */
  readonly port?: number;
  /** Only loopback is offered: the secrets here protect nothing from a network. */
  readonly hostname?: "127.0.0.1";
  /** JSON file (mode 0600, replaced atomically) that holds keys and identities; omitted = memory. */
  readonly stateFile?: string;
  /** Clock in milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** One line for each request answered; never holds plaintext or secrets. Default: silent. */
  readonly log?: (line: string) => void;
  /** How long a new replica key stays `Creating`, in milliseconds; default 0. */
  readonly replicationMs?: number;
  /** Further roles; not persisted. */
  readonly roles?: readonly RoleOptions[];
}

/** What happens to a request that a rule matches. */
export type FaultEffect =
  /** Close the connection unanswered, nothing done. */
  | { readonly kind: "refuse" }
  /** Never answer; the connection stays open until the client leaves. */
  | { readonly kind: "blackhole" }
  /** Answer `ms` milliseconds later; rules after this one still apply. */
  | { readonly kind: "latency"; readonly ms: number }
  /** Answer with this AWS error; status and message default to AWS's own for the name. */
  | {
    readonly kind: "error";
    readonly name: string;
    readonly status?: number;
    readonly message?: string;
  }
  /** Do the work, then close the connection unanswered: a timeout after success. */
  | { readonly kind: "drop_after" };

/** Members left out match everything. Rules are tried in order; the first match decides. */
export interface FaultRule {
  readonly service?: ServiceName;
  readonly region?: string;
  readonly operation?: string;
  readonly effect: FaultEffect;
  /** How many requests the rule applies to; default: no limit. */
  readonly times?: number;
  /** 0..1, default 1. */
  readonly probability?: number;
}

export type ServiceName = "kms" | "sts" | "iam" | "cloudtrail" | "cloudwatch" | "ssm";

/** One request as it was answered. */
export interface CallRecord {
  readonly service: string;
  readonly operation: string;
  /** Region of the credential scope; empty when the request carried none. */
  readonly region: string;
  readonly accessKeyId: string;
  /** HTTP status; 0 when the request got no answer (refuse, blackhole, drop_after). */
  readonly status: number;
  readonly errorName?: string;
  /** The fault that was applied, if any. */
  readonly fault?: FaultEffect["kind"];
  /** Milliseconds since the epoch, by the server's clock, when the request was read. */
  readonly at: number;
}

export interface FaultSwitch {
  /** Replaces all rules. Throws TypeError when a rule is malformed. */
  set(rules: readonly FaultRule[]): void;
  add(rule: FaultRule): void;
  clear(): void;
  /** The rules with their remaining `times`. */
  rules(): readonly FaultRule[];
}

/** Offset of the server's clock from the machine's, to play skewed clocks and expiry. */
export interface ClockSwitch {
  readonly offsetMs: number;
  set(offsetMs: number): void;
  advance(ms: number): void;
}

export interface LocalAws {
  /** `http://127.0.0.1:PORT`, for every service and region. */
  readonly endpoint: string;
  readonly port: number;
  /** Twelve digits. */
  readonly accountId: string;
  readonly identities: {
    /**
     * As they were handed out when the account was made; IAM's operations may have ended them since.
     * The caller may do `sts:AssumeRole` on the suite's role and nothing else.
     */
    readonly caller: AccessKey;
    readonly role: { readonly arn: string; readonly externalId: string };
    /** Administrator, for the `aws` command line and for seeding; never the functions'. */
    readonly operator: AccessKey;
  };
  /** Whether the caller has this key, active or not: the one handed out, or one made since. */
  isCallerKey(accessKeyId: string): boolean;
  readonly faults: FaultSwitch;
  readonly clock: ClockSwitch;
  /** The latest calls, oldest first, at most 100 000. */
  calls(): readonly CallRecord[];
  resetCalls(): void;
  /**
   * Runs a KMS operation in process as the operator: no HTTP, no faults, no call record.
   * Throws `AwsError` as the wire would answer.
   */
  asOperator(
    region: string,
    operation: string,
    input: Readonly<Record<string, unknown>>,
  ): Promise<Readonly<Record<string, unknown>>>;
  /** Closes every connection and releases the state file. */
  close(): Promise<void>;
}
