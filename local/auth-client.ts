/** A signed-in user. */
export interface Session {
  readonly userId: string;
  readonly token: string;
}

interface Api {
  readonly apiUrl: string;
  readonly publishableKey: string;
}

interface Credentials {
  readonly email: string;
  readonly password: string;
}

/** Signs a user in, and up first when there is none with this address yet. */
export async function signInOrUp(api: Api, credentials: Credentials): Promise<Session> {
  const known = await post(api, "token?grant_type=password", credentials);
  return known ?? await signUp(api, credentials);
}

/** Signs a new user up. */
export async function signUp(api: Api, credentials: Credentials): Promise<Session> {
  const session = await post(api, "signup", credentials);
  if (!session) throw new Error(`${credentials.email} cannot be signed up`);
  return session;
}

async function post(api: Api, path: string, body: Credentials): Promise<Session | null> {
  const response = await fetch(`${api.apiUrl}/auth/v1/${path}`, {
    method: "POST",
    headers: { apikey: api.publishableKey, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json() as { access_token?: string; user?: { id: string } };
  if (response.status >= 500) throw new Error(`auth answered ${response.status}`);
  if (!response.ok || !answer.access_token || !answer.user) return null;
  return { userId: answer.user.id, token: answer.access_token };
}
