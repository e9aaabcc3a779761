import { authError } from "./auth-errors.ts";
import type { Database } from "./database.ts";

/** Sets a user's password as that user would. Null when it was set, else why not. */
export type PasswordSetter = (userId: string, password: string) => Promise<Response | null>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const CHANGEABLE = ["app_metadata", "user_metadata", "password", "ban_duration"];
const MAX_PAGE = 1000;

/** Metadata as an object: the Postgres driver of `@supabase/lite` 0.10 encodes it twice. */
const plain = (column: string) =>
  `case when jsonb_typeof(${column}) = 'string' then (${column} #>> '{}')::jsonb
     else coalesce(${column}, '{}') end`;

/** A user as Supabase Auth shows one to administrators. */
const SHOWN = `
  jsonb_strip_nulls(jsonb_build_object(
    'id', u.id, 'aud', u.aud, 'role', u.role, 'email', u.email, 'phone', coalesce(u.phone, ''),
    'email_confirmed_at', u.email_confirmed_at, 'confirmed_at', u.confirmed_at,
    'last_sign_in_at', u.last_sign_in_at, 'created_at', u.created_at, 'updated_at', u.updated_at,
    'banned_until', u.banned_until, 'is_anonymous', u.is_anonymous
  )) || jsonb_build_object(
    'app_metadata', ${plain("u.raw_app_meta_data")},
    'user_metadata', ${plain("u.raw_user_meta_data")}
  )`;

/** `null` in what is given removes a key, at the top level only. */
const merged = (column: string, given: string) =>
  `((${plain(column)}) || coalesce(${given}::text::jsonb, '{}')) - array(
     select key from jsonb_each(${given}::text::jsonb) where value = 'null')`;

/** A new password ends every session, as in `User.UpdatePassword`. `$4`: whether there is a new ban. */
const UPDATE = `
  with ended_sessions as (delete from auth.sessions where user_id = $1::uuid and $6::boolean),
       ended_tokens as (delete from auth.refresh_tokens where user_id = $1::uuid and $6::boolean)
  update auth.users u set
    raw_app_meta_data = ${merged("u.raw_app_meta_data", "$2")},
    raw_user_meta_data = ${merged("u.raw_user_meta_data", "$3")},
    banned_until = case when $4::boolean then $5::text::timestamptz else u.banned_until end,
    updated_at = now()
  where u.id = $1::uuid`;

/**
 * The part of the Auth admin API (`supabase.auth.admin`) that ends an account or makes an administrator:
 * list users, read one, change its metadata, password and ban. As in supabase/auth, api/admin.go.
 */
export function createAuthAdmin(database: Database, setPassword: PasswordSetter) {
  const show = async (id: string) => {
    const [row] = await database.query<{ shown: string }>(
      `select (${SHOWN})::text as shown from auth.users u where u.id = $1::uuid`,
      [id],
    );
    return row && JSON.parse(row.shown);
  };

  async function list(query: URLSearchParams): Promise<Response> {
    const [page, perPage] = [
      wholeNumber(query.get("page"), 1),
      wholeNumber(query.get("per_page"), 50),
    ];
    if (!page || !perPage || perPage > MAX_PAGE) {
      return authError(400, "validation_failed", "Bad Pagination Parameters");
    }
    const rows = await database.query<{ shown: string }>(
      `select (${SHOWN})::text as shown from auth.users u
       order by u.created_at desc, u.id limit $1::int offset $2::bigint`,
      [perPage, (page - 1) * perPage],
    );
    return Response.json({
      users: rows.map(({ shown }) => JSON.parse(shown)),
      aud: "authenticated",
    });
  }

  async function update(id: string, request: Request): Promise<Response> {
    const change = parseChange(await request.json().catch(() => null));
    if ("refused" in change) return authError(400, "validation_failed", change.refused);
    const { appMetadata, userMetadata, password, ban } = change;
    const refused = password === undefined ? null : await setPassword(id, password);
    if (refused) return refused;
    const until = ban === undefined || ban === 0 ? null : new Date(Date.now() + ban).toISOString();
    await database.query(UPDATE, [
      id,
      json(appMetadata),
      json(userMetadata),
      ban !== undefined,
      until,
      password !== undefined,
    ]);
    return Response.json(await show(id));
  }

  /** `id`: what follows `/admin/users/`, if anything. Null when there is no such route. */
  return async (request: Request, id: string | undefined): Promise<Response | null> => {
    if (id === undefined) {
      return request.method === "GET" ? await list(new URL(request.url).searchParams) : null;
    }
    if (!UUID.test(id)) return authError(404, "validation_failed", "user_id must be an UUID");
    const user = await show(id);
    if (!user) return authError(404, "user_not_found", "User not found");
    if (request.method === "GET") return Response.json(user);
    return request.method === "PUT" ? await update(id, request) : null;
  };
}

interface Change {
  readonly appMetadata?: object;
  readonly userMetadata?: object;
  readonly password?: string;
  /** Milliseconds from now; 0 ends a ban. */
  readonly ban?: number;
}

function parseChange(body: unknown): Change | { readonly refused: string } {
  if (!isObject(body)) return { refused: "Could not parse request body as JSON" };
  const { app_metadata: appMetadata, user_metadata: userMetadata, password } = body;
  const other = Object.keys(body).find((name) => !CHANGEABLE.includes(name));
  if (other !== undefined) {
    return { refused: `the embedded stack changes ${CHANGEABLE.join(", ")} only` };
  }
  if ([appMetadata, userMetadata].some((value) => value !== undefined && !isObject(value))) {
    return { refused: "metadata must be an object" };
  }
  if (password !== undefined && typeof password !== "string") {
    return { refused: "password must be a string" };
  }
  const ban = body.ban_duration === undefined ? undefined : banMs(body.ban_duration);
  if (ban === null) return { refused: "invalid format for ban duration" };
  return {
    ...isObject(appMetadata) ? { appMetadata } : {},
    ...isObject(userMetadata) ? { userMetadata } : {},
    ...password === undefined ? {} : { password },
    ...ban === undefined ? {} : { ban },
  };
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ...{ ns: 1e-6, us: 1e-3, "µs": 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 },
};
/** Go's durations are nanoseconds in 64 bits. */
const MAX_DURATION_MS = 2 ** 63 / 1e6;

/** Milliseconds of a duration as Go writes it, such as `1h30m`, or of `none`; null when it is no duration. */
export function banMs(text: unknown): number | null {
  if (text === "none" || text === "0") return 0;
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+)$/.exec(String(text));
  if (!match) return null;
  const ms = [...(match[2] ?? "").matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)]
    .reduce((sum, [, amount, unit = ""]) => sum + Number(amount) * (UNIT_MS[unit] ?? NaN), 0);
  if (!(ms <= MAX_DURATION_MS)) return null;
  return match[1] === "-" ? -ms : ms;
}

function wholeNumber(text: string | null, fallback: number): number | null {
  if (text === null) return fallback;
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : null;
}

function json(value: object | undefined): string | null {
  return value === undefined ? null : JSON.stringify(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
