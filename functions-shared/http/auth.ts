/** Who is calling: a signed-in user, or a server with one of the project's secret keys. */
import { verifyAuth } from "@supabase/server/core";
import type { SupabaseConfig } from "../config.ts";
import { SuiteError, validationFailed } from "../errors.ts";
import type { Actor } from "../telemetry/audit.ts";
import { isUuid } from "./uuid.ts";

export type Caller =
  | {
    readonly kind: "user";
    readonly userId: string;
    /** Authenticator assurance level: `aal2` after a second factor. */
    readonly assurance: string;
    /** `app_metadata.role` is `admin`: only the project itself can write there. */
    readonly isAdmin: boolean;
  }
  | { readonly kind: "secret_key"; readonly keyName: string };

/** @throws {SuiteError} unauthorized. */
export async function authenticate(request: Request, config: SupabaseConfig): Promise<Caller> {
  const { data, error } = await verifyAuth(request, {
    auth: ["user", "secret:*"],
    env: {
      url: config.url,
      publishableKeys: { ...config.publishableKeys },
      secretKeys: { ...config.secretKeys },
      jwks: config.jwks instanceof URL ? config.jwks : { keys: config.jwks.keys as never },
    },
  });
  if (error !== null) throw unauthorized(error);
  if (data.authMode === "secret") return { kind: "secret_key", keyName: data.keyName ?? "default" };
  const claims = data.jwtClaims;
  // The project's anon key is a JWT of the same issuer; only a user's own token counts. The library
  // checks an expiry that is there: one that is missing would make a token good for ever.
  if (
    claims?.role !== "authenticated" || typeof claims.exp !== "number" || !isUuid(claims.sub)
  ) {
    throw unauthorized();
  }
  const assurance = claims.aal;
  return {
    kind: "user",
    userId: claims.sub.toLowerCase(),
    assurance: typeof assurance === "string" ? assurance : "aal1",
    isAdmin: roleOf(claims.app_metadata) === "admin",
  };
}

function roleOf(metadata: unknown): unknown {
  return typeof metadata === "object" && metadata !== null && "role" in metadata
    ? metadata.role
    : undefined;
}

function unauthorized(cause?: unknown): SuiteError {
  return new SuiteError("unauthorized", { cause, headers: { "www-authenticate": "Bearer" } });
}

/** Whose data the caller works on: a user's own, or the `user_id` that a server names. */
export function ownerOf(
  caller: Caller,
  named: { readonly userId: unknown; readonly at: "body" | "query" },
): string {
  const where = named.at === "body" ? { pointer: "/user_id" } : { parameter: "user_id" };
  if (caller.kind === "user") {
    if (named.userId === undefined) return caller.userId;
    throw validationFailed([{
      ...where,
      code: "unknown_field",
      detail: "Only a server with a secret key may name a user.",
    }]);
  }
  if (named.userId === undefined) {
    throw validationFailed([{
      ...where,
      code: "missing_field",
      detail: "A server with a secret key must name the user.",
    }]);
  }
  if (!isUuid(named.userId)) {
    throw validationFailed([{ ...where, code: "invalid_user_id", detail: "must be a UUID" }]);
  }
  return named.userId.toLowerCase();
}

export function actorOf(
  caller: Caller,
  request: {
    readonly id: string;
    readonly functionName: string;
    readonly addressHash: string | undefined;
  },
): Actor {
  return {
    actor_type: caller.kind,
    actor_id: caller.kind === "user" ? caller.userId : caller.keyName,
    request_id: request.id,
    function: request.functionName,
    ...request.addressHash === undefined ? {} : { address_hash: request.addressHash },
  };
}
