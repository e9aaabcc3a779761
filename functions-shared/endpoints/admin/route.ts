/** What every route of `kms-admin` has in common: who may call it, and the guide's shape of answers. */
import { SuiteError } from "../../errors.ts";
import { type AuthenticatedExchange, json, type Route } from "../../http/app.ts";
import type { Actor, AuditLog } from "../../telemetry/audit.ts";

interface Audited {
  readonly audit: AuditLog;
}

/**
 * A route for administrators: servers with a secret key, and users whose `app_metadata.role` is `admin`
 * (at `aal2` when KMS_ADMIN_REQUIRE_AAL2 is set). Everybody else is refused before anything is read, and
 * the refusal is audited.
 */
export function adminRoute<Services extends Audited>(
  method: Route<Services>["method"],
  path: string,
  handle: (exchange: AuthenticatedExchange<Services>) => Promise<Response>,
): Route<Services> {
  return {
    method,
    path,
    handle: {
      limit: "admin",
      caller: async (exchange) => {
        const { caller, config, actor, services } = exchange;
        if (caller.kind === "secret_key") return await handle(exchange);
        const admin: Actor = { ...actor, actor_type: "admin" };
        const strong = !config.adminRequiresAal2 || caller.assurance === "aal2";
        if (caller.isAdmin && strong) return await handle({ ...exchange, actor: admin });
        await services.audit.append(caller.isAdmin ? admin : actor, [{
          action: "admin.access",
          outcome: "failure",
          error_code: "admin_required",
        }]);
        throw new SuiteError("admin_required");
      },
    },
  };
}

/** `{success: true, data, message?}`. */
export function success(data: unknown, options: { message?: string; status?: number } = {}) {
  const { message, status = 200 } = options;
  return json({ success: true, ...message === undefined ? {} : { message }, data }, status);
}
