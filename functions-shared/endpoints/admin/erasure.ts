/**
 * `POST /users/:id/erase`: deletes what is stored of a user and destroys the user's own keys.
 * `POST /users/erase/verify`: whether a proof of that is ours.
 */
import * as v from "valibot";
import type { Erasures } from "../../admin/erasures.ts";
import { SuiteError, validationFailed } from "../../errors.ts";
import type { Route } from "../../http/app.ts";
import { readJson } from "../../http/body.ts";
import { readQuery } from "../../http/query.ts";
import { isUuid } from "../../http/uuid.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { parseInput, purpose } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminErasureServices {
  readonly audit: AuditLog;
  readonly erasures: Erasures;
}

const eraseSchema = v.strictObject({ purpose, confirm: v.string() });

const verifySchema = v.strictObject({ proof: v.string() });

export function erasureRoutes<Services extends AdminErasureServices>(): readonly Route<Services>[] {
  return [
    adminRoute("POST", "/users/erase/verify", async ({ request, url, services, signal }) => {
      readQuery(url, []);
      const { proof } = parseInput(verifySchema, await readJson(request));
      const erasure = await services.erasures.verify(proof, signal);
      return success({ valid: erasure !== undefined, erasure: erasure ?? null });
    }),
    adminRoute("POST", "/users/:id/erase", async (exchange) => {
      const { request, url, services, actor, signal } = exchange;
      readQuery(url, []);
      const userId = exchange.param("id").toLowerCase();
      if (!isUuid(userId)) throw new SuiteError("not_found");
      const body = parseInput(eraseSchema, await readJson(request));
      // What cannot be undone is not done to whom a slip of a finger names.
      if (body.confirm.toLowerCase() !== userId) {
        throw validationFailed([{
          pointer: "/confirm",
          code: "not_confirmed",
          detail: "must be the id of the user that the path names",
        }]);
      }
      return success(await services.erasures.erase(actor, userId, body.purpose, signal), {
        message: "User data erased; the user itself is not deleted",
      });
    }),
  ];
}
