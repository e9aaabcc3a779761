/** `/provider/...`: the migration of branch keys from one key provider to another. */
import * as v from "valibot";
import type { ProviderMigration } from "../../admin/provider-migration.ts";
import type { Route } from "../../http/app.ts";
import { readJson } from "../../http/body.ts";
import { readQuery } from "../../http/query.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { parseInput } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminMigrationServices {
  readonly audit: AuditLog;
  readonly migration: ProviderMigration;
}

const provider = v.picklist(["aws", "gcp", "vault", "env"]);
const schema = v.strictObject({
  from: provider,
  to: provider,
  step: v.picklist(["prepare", "switch", "finish", "back"]),
});

export function migrationRoutes<Services extends AdminMigrationServices>(): readonly Route<
  Services
>[] {
  return [
    adminRoute("GET", "/provider/migration", async ({ url, services }) => {
      readQuery(url, []);
      return success(await services.migration.status() ?? null);
    }),
    adminRoute("POST", "/provider/migrate", async ({ request, url, actor, services }) => {
      readQuery(url, []);
      const { from, to, step } = parseInput(schema, await readJson(request));
      return success(await services.migration.run(actor, from, to, step));
    }),
  ];
}
