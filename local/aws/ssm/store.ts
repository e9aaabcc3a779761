/** Parameters and their versions; what is a secret is kept as KMS encrypted it. */

export type ParameterType = "String" | "SecureString";

export interface ParameterVersion {
  readonly type: ParameterType;
  /** The text, or base64 of KMS's ciphertext. */
  readonly value: string;
  /** Of a SecureString, as it was named. */
  readonly keyId?: string;
  /** Milliseconds since the epoch. */
  readonly modifiedAt: number;
}

export interface ParameterRecord {
  readonly region: string;
  readonly name: string;
  /** Oldest first, never empty. */
  readonly versions: ParameterVersion[];
}

export interface SsmState {
  readonly parameters: ParameterRecord[];
}

export class ParameterStore {
  readonly #parameters = new Map<string, ParameterRecord>();
  readonly #changed: () => void;

  /** `changed` is called after every change, to mark the state file stale. */
  constructor(state: SsmState, changed: () => void) {
    for (const parameter of state.parameters) {
      this.#parameters.set(`${parameter.region} ${parameter.name}`, parameter);
    }
    this.#changed = changed;
  }

  snapshot(): SsmState {
    return { parameters: [...this.#parameters.values()] };
  }

  find(region: string, name: string): ParameterRecord | undefined {
    return this.#parameters.get(`${region} ${name}`);
  }

  /** Answers the number of the new version. */
  put(region: string, name: string, version: ParameterVersion): number {
    const parameter = this.find(region, name) ?? { region, name, versions: [] };
    this.#parameters.set(`${region} ${name}`, parameter);
    const number = parameter.versions.push(version);
    this.#changed();
    return number;
  }

  delete({ region, name }: ParameterRecord): void {
    this.#parameters.delete(`${region} ${name}`);
    this.#changed();
  }
}
