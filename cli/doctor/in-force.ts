/** Which settings the functions run on: the environment's, or those that are stored in the database. */
import type { Target } from "../client.ts";
import { type Probe, probe } from "./probe.ts";
import { Report } from "./report.ts";

export interface Settings {
  readonly revision: number;
  /** `environment` as long as nothing is stored, and when what is stored cannot be used. */
  readonly source: "environment" | "database";
  /** Who wraps new keys. */
  readonly provider: string;
  /** Others that read what they wrapped. */
  readonly readers: readonly string[];
  /** What is stored, whether it can be used or not. */
  readonly stored?: { readonly revision: number; readonly provider: string };
  readonly warnings: readonly string[];
}

export interface SettingsAnswer {
  readonly status: number;
  /** Undefined when the functions did not tell. */
  readonly settings: Settings | undefined;
}

/** As the functions see them. */
export async function askSettings(target: Target): Promise<Probe<SettingsAnswer>> {
  return await probe(async (signal) => {
    const response = await fetch(`${target.apiUrl}/functions/v1/kms-admin/config`, {
      headers: { apikey: target.secretKey },
      redirect: "manual",
      signal,
    });
    const body = await response.json().catch(() => null) as { data?: Partial<Settings> } | null;
    const { source, revision = 0, provider = "", readers = [], warnings = [], stored } =
      body?.data ?? {};
    const told = response.ok && (source === "environment" || source === "database");
    const settings = told
      ? { source, revision, provider, readers, warnings, ...stored ? { stored } : {} }
      : undefined;
    return { status: response.status, settings };
  });
}

/**
 * Where lines about a key service of the environment go. Once settings are stored, its values may not be
 * those that the functions use, and nobody else can know: the lines say so, and fail only where the functions
 * do not report themselves, which they do of the provider that wraps new keys.
 */
export function aboutEnvironment(
  report: Report,
  name: string,
  settings: Settings | undefined,
): Report {
  if (settings?.source !== "database") return report;
  const { revision, provider, readers } = settings;
  const reads = readers.includes(name);
  report.pass(
    `${name}.environment`,
    `what follows is about the environment's ${name}: revision ${revision} (${provider}) is in ` +
      `force, and ${
        reads
          ? `reads what ${name} wrapped`
          : name === provider
          ? "may have other values"
          : `does not use ${name}`
      }`,
  );
  return new Report((line) =>
    report.add({
      ...line,
      status: line.status === "fail" && !reads ? "warn" : line.status,
      message: `environment: ${line.message}`,
    })
  );
}
