/** `kms-admin`: what operators do. One file a subject in `admin/`. */
import type { Hono } from "hono";
import { type AppOptions, createApp } from "../http/app.ts";
import { type AdminAuditServices, auditRoutes } from "./admin/audit.ts";
import { auditProofRoutes } from "./admin/audit-proof.ts";
import { configRoutes, type ConfigServices } from "./admin/config.ts";
import { type AdminErasureServices, erasureRoutes } from "./admin/erasure.ts";
import { type AdminHealthServices, healthRoutes } from "./admin/health.ts";
import { type AdminJobServices, jobRoutes } from "./admin/jobs.ts";
import { type AdminLegacyServices, legacyRoutes } from "./admin/legacy.ts";
import { type AdminKeyServices, keyRoutes } from "./admin/keys.ts";
import { type AdminMigrationServices, migrationRoutes } from "./admin/migration.ts";

export const NAME = "kms-admin";

export type AdminServices =
  & AdminAuditServices
  & AdminHealthServices
  & ConfigServices
  & AdminErasureServices
  & AdminJobServices
  & AdminLegacyServices
  & AdminKeyServices
  & AdminMigrationServices;

export function kmsAdminApp(
  options: Pick<AppOptions<AdminServices>, "config" | "serving" | "rateLimits" | "afterResponse">,
): Pick<Hono, "fetch"> {
  return createApp<AdminServices>({
    name: NAME,
    ...options,
    routes: [
      ...healthRoutes<AdminServices>(),
      ...auditRoutes<AdminServices>(),
      ...auditProofRoutes<AdminServices>(),
      ...configRoutes<AdminServices>(),
      ...erasureRoutes<AdminServices>(),
      ...jobRoutes<AdminServices>(),
      ...legacyRoutes<AdminServices>(),
      ...keyRoutes<AdminServices>(),
      ...migrationRoutes<AdminServices>(),
    ],
  });
}
