/** The doctor's lines for tests: configurations without a stack, and lines by what they say. */
import { assert } from "@std/assert";
import { checkConfiguration } from "../../cli/doctor/configuration.ts";
import { Report } from "../../cli/doctor/report.ts";
import type { Config } from "../../functions-shared/config.ts";

const PLATFORM = {
  SUPABASE_URL: "http://127.0.0.1:1",
  SUPABASE_SECRET_KEYS: '{"default":"a-secret-key-of-tests-only"}',
  APP_ENVIRONMENT: "development",
};

export function configOf(env: Record<string, string>): Config {
  const report = new Report();
  const config = checkConfiguration(report, { ...PLATFORM, ...env });
  assert(config !== undefined, JSON.stringify(report.lines));
  return config;
}

export function byStatus(report: Report): Record<string, string[]> {
  const found: Record<string, string[]> = { pass: [], warn: [], fail: [] };
  for (const { check, status } of report.lines) found[status]?.push(check);
  return found;
}
