/** `kms-admin`: what operators do. One file a subject in `admin/`. */
import type { Hono } from "hono";
import { type AppOptions, createApp } from "../http/app.ts";
import { type AdminHealthServices, healthRoutes } from "./admin/health.ts";
import { type AdminKeyServices, keyRoutes } from "./admin/keys.ts";
import { type AdminMigrationServices, migrationRoutes } from "./admin/migration.ts";

export const NAME = "kms-admin";

export type AdminServices = AdminHealthServices & AdminKeyServices & AdminMigrationServices;

export function kmsAdminApp(
  options: Pick<AppOptions<AdminServices>, "config" | "services" | "afterResponse">,
): Pick<Hono, "fetch"> {
  return createApp<AdminServices>({
    name: NAME,
    ...options,
    routes: [
      ...healthRoutes<AdminServices>(),
      ...keyRoutes<AdminServices>(),
      ...migrationRoutes<AdminServices>(),
    ],
  });
}
