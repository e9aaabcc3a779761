/** `GET /health`: whether the provider works, measured by using it. */
import type { Health } from "../../health/health.ts";
import type { Route } from "../../http/app.ts";
import { readQuery } from "../../http/query.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminHealthServices {
  readonly audit: AuditLog;
  readonly health: Health;
  /** False when stored settings cannot be used, and the environment alone counts. */
  readonly settingsValid: boolean;
}

export function healthRoutes<Services extends AdminHealthServices>(): readonly Route<Services>[] {
  return [
    adminRoute("GET", "/health", async ({ url, config, services }) => {
      readQuery(url, []);
      const report = await services.health.report();
      return success({
        provider: config.provider,
        healthy: report.healthy && services.settingsValid,
        lastChecked: new Date(report.checkedAt).toISOString(),
        responseTime: report.latencyMs,
      });
    }),
  ];
}
