import { App, type IAppConfig } from "@supabase/lite";
import type { ProjectConfig } from "./config-toml.ts";
import type { Database } from "./database.ts";
import type { Identity } from "./identity.ts";
import { completeToken } from "./tokens.ts";

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
  identity: Identity,
): Promise<DataApi> {
  const auth = Object.fromEntries(
    AUTH_SETTINGS.filter((key) => key in config.auth).map((key) => [key, config.auth[key]]),
  );
  // The package types every section as complete; its constructor fills in the defaults.
  const settings = {
    connection: database.connection,
    api: { schemas: config.apiSchemas, max_rows: config.apiMaxRows },
    auth: {
      ...auth,
      enabled: true,
      jwt_secret: identity.jwtSecret,
      publishable_key: identity.publishableKey,
      secret_key: identity.secretKey,
    },
    options: { server: { admin: false, disableStudio: true } },
  } as unknown as IAppConfig & { connection: Database["connection"] };
  const app = new App(settings);
  await app.init();
  const readCatalog = () => database.connection.introspect({ useCache: true });
  // Now: the first request is faster, and it may find Postgres gone.
  await database.exclusively(readCatalog);
  return {
    fetch: async (request) => {
      const answer = await database.exclusively(async () => await app.fetch(request));
      return isSession(request, answer) ? withHostedToken(answer, request, identity) : answer;
    },
    reload: () =>
      database.exclusively(async () => {
        await database.connection.clearSchemaCache();
        await readCatalog();
      }),
  };
}

/** Whether the answer of the auth server can hold an access token. */
function isSession(request: Request, answer: Response): boolean {
  return answer.ok && request.method === "POST" &&
    /\/auth\/v1\/(signup|token|verify)$/.test(new URL(request.url).pathname);
}

async function withHostedToken(
  answer: Response,
  request: Request,
  { jwtSecret }: Identity,
): Promise<Response> {
  const session = await answer.json();
  if (typeof session?.access_token === "string") {
    session.access_token = await completeToken(jwtSecret, session.access_token, {
      apiUrl: new URL(request.url).origin,
      appMetadata: session.user?.app_metadata,
      userMetadata: session.user?.user_metadata,
    });
  }
  const headers = new Headers(answer.headers);
  headers.delete("content-length");
  return Response.json(session, { status: answer.status, headers });
}
