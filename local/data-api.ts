import { type ApiKeyResolver, App, type IAppConfig } from "@supabase/lite";
import type { ProjectConfig } from "./config-toml.ts";
import { createAuthApi } from "./auth-api.ts";
import type { Database } from "./database.ts";
import { LiteTokens } from "./lite-tokens.ts";
import type { ProjectKeys } from "./project-keys.ts";

/** Serves `/auth/v1` and `/rest/v1`. */
export type ApiHandler = (request: Request) => Promise<Response>;

export interface DataApi {
  readonly fetch: ApiHandler;
  /** Reads the catalog again: after a change of tables, functions or their privileges. */
  reload(): Promise<void>;
}

/** The settings of `[auth]` that mean the same to `@supabase/lite`; the rest is not for local use. */
const AUTH_SETTINGS = [
  "site_url",
  "additional_redirect_urls",
  "jwt_expiry",
  "enable_signup",
  "enable_refresh_token_rotation",
  "refresh_token_reuse_interval",
  "minimum_password_length",
  "password_requirements",
] as const;

/**
 * The Data API and the auth server, in this process. API keys count in the header `apikey` only,
 * and no request is trusted for coming from this machine.
 */
export async function createDataApi(
  database: Database,
  config: ProjectConfig,
  keys: ProjectKeys,
): Promise<DataApi> {
  const auth = Object.fromEntries(
    AUTH_SETTINGS.filter((key) => key in config.auth).map((key) => [key, config.auth[key]]),
  );
  const tokens = new LiteTokens(keys);
  const claims = { publishable: { role: "anon" }, secret: { role: "service_role" } };
  const resolver: ApiKeyResolver = (key) => {
    const type = keys.kindOf(key);
    return Promise.resolve(type && { type, claims: claims[type] });
  };
  // The package types every section as complete; its constructor fills in the defaults.
  const settings = {
    connection: database.connection,
    api: { schemas: config.apiSchemas, max_rows: config.apiMaxRows },
    auth: {
      ...auth,
      enabled: true,
      jwt_secret: tokens.secret,
    },
    options: { server: { admin: false, disableStudio: true, apiKeys: { resolver } } },
  } as unknown as IAppConfig & { connection: Database["connection"] };
  const app = new App(settings);
  await app.init();
  const readCatalog = () => database.connection.introspect({ useCache: true });
  // Now: the first request is faster, and it may find Postgres gone.
  await database.exclusively(readCatalog);
  const lite = (request: Request) => database.exclusively(async () => await app.fetch(request));
  const authApi = createAuthApi({ database, keys, tokens, lite });
  return {
    fetch: async (request) => {
      const inward = await tokens.inward(request);
      if (!new URL(request.url).pathname.startsWith("/auth/v1/")) return await lite(inward.request);
      return await tokens.outward(await authApi(inward), request);
    },
    reload: () =>
      database.exclusively(async () => {
        await database.connection.clearSchemaCache();
        await readCatalog();
      }),
  };
}
