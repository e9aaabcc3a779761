/**
 * The token endpoint: signed assertions of a service account for access tokens.
 * Source: developers.google.com/identity/protocols/oauth2/service-account (request and error codes).
 */
import { exportPKCS8, exportSPKI, generateKeyPair, importSPKI, jwtVerify } from "jose";
import type { RestReply, RestRequest } from "../rest/server.ts";

const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer";
export const KMS_SCOPE = "https://www.googleapis.com/auth/cloudkms";
export const PLATFORM_SCOPE = "https://www.googleapis.com/auth/cloud-platform";
const SCOPES = [KMS_SCOPE, PLATFORM_SCOPE];
/** How far an assertion's clock may be ahead, and the longest it may live, seconds. */
const SKEW_SECONDS = 300;
const MAX_LIFE_SECONDS = 3600;
const TOKEN_LIFE_SECONDS = 3599;

type PublicKey = Awaited<ReturnType<typeof importSPKI>>;

/** Both in PEM: PKCS #8, SPKI. */
export interface AccountKey {
  readonly privateKey: string;
  readonly publicKey: string;
}

export class ServiceAccount {
  readonly #project: string;
  readonly #publicKey: PublicKey;
  readonly #now: () => number;
  readonly #tokens = new Map<string, { readonly expiresAt: number; readonly scopes: string[] }>();
  readonly key: AccountKey;

  private constructor(project: string, publicKey: PublicKey, key: AccountKey, now: () => number) {
    this.#project = project;
    this.#publicKey = publicKey;
    this.key = key;
    this.#now = now;
  }

  /** `key`: default a new one. */
  static async create(
    project: string,
    now: () => number,
    key?: AccountKey,
  ): Promise<ServiceAccount> {
    const used = key ?? await newKey();
    const publicKey = await importSPKI(used.publicKey, "RS256");
    return new ServiceAccount(project, publicKey, used, now);
  }

  get email(): string {
    return `suite@${this.#project}.iam.gserviceaccount.com`;
  }

  /** The file that Google hands out. */
  credentials(endpoint: string): string {
    return JSON.stringify({
      type: "service_account",
      project_id: this.#project,
      private_key_id: "0123456789abcdef0123456789abcdef01234567",
      private_key: this.key.privateKey,
      client_email: this.email,
      client_id: "100000000000000000000",
      token_uri: `${endpoint}/token`,
    });
  }

  issue(lifeSeconds = TOKEN_LIFE_SECONDS, scopes = [PLATFORM_SCOPE]): string {
    const token = `ya29.${crypto.randomUUID()}${crypto.randomUUID()}`;
    this.#tokens.set(token, { expiresAt: this.#now() + lifeSeconds * 1000, scopes });
    return token;
  }

  expireAll(): void {
    for (const [token, { scopes }] of this.#tokens) {
      this.#tokens.set(token, { expiresAt: this.#now(), scopes });
    }
  }

  /** The scopes of the token that the header carries; undefined when it is none, or has expired. */
  scopesOf(authorization: string | undefined): readonly string[] | undefined {
    const token = this.#tokens.get(/^Bearer (\S+)$/.exec(authorization ?? "")?.[1] ?? "");
    return token !== undefined && token.expiresAt > this.#now() ? token.scopes : undefined;
  }

  async exchange(request: RestRequest, tokenUri: string): Promise<RestReply> {
    if (!/^application\/x-www-form-urlencoded\b/.test(request.headers["content-type"] ?? "")) {
      return refusal("invalid_request", "Could not parse the request body.");
    }
    const form = new URLSearchParams(request.body);
    if (form.get("grant_type") !== GRANT_TYPE) {
      return refusal("unsupported_grant_type", `Invalid grant_type: ${form.get("grant_type")}`);
    }
    const assertion = form.get("assertion");
    if (assertion === null) {
      return refusal("invalid_request", "Missing required parameter: assertion");
    }
    const scopes = await this.#scopesOf(assertion, tokenUri);
    if (!Array.isArray(scopes)) return scopes;
    const token = this.issue(TOKEN_LIFE_SECONDS, scopes);
    return {
      status: 200,
      body: { access_token: token, expires_in: TOKEN_LIFE_SECONDS, token_type: "Bearer" },
    };
  }

  /** What the assertion asks for, or why it is refused. */
  async #scopesOf(assertion: string, tokenUri: string): Promise<string[] | RestReply> {
    let claims;
    try {
      const options = { algorithms: ["RS256"], currentDate: new Date(this.#now()) };
      claims = (await jwtVerify(assertion, this.#publicKey, { ...options, clockTolerance: "1y" }))
        .payload;
    } catch {
      return refusal("invalid_grant", "Invalid JWT Signature.");
    }
    const { iss, aud, scope, iat = 0, exp = 0 } = claims;
    if (iss !== this.email) return refusal("invalid_grant", "Invalid grant: account not found");
    if (aud !== tokenUri) return refusal("invalid_grant", "Invalid JWT: Failed audience check.");
    const asked = typeof scope === "string" ? scope.split(" ") : [];
    const scopes = asked.filter((one) => SCOPES.includes(one));
    if (scopes.length === 0) {
      return refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided.");
    }
    const now = this.#now() / 1000;
    if (iat > now + SKEW_SECONDS || exp <= now - SKEW_SECONDS || exp - iat > MAX_LIFE_SECONDS) {
      return refusal(
        "invalid_grant",
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. " +
          "Check your iat and exp values in the JWT claim.",
      );
    }
    return scopes;
  }
}

async function newKey(): Promise<AccountKey> {
  const pair = await generateKeyPair("RS256", { extractable: true });
  return {
    privateKey: await exportPKCS8(pair.privateKey),
    publicKey: await exportSPKI(pair.publicKey),
  };
}

function refusal(error: string, description: string): RestReply {
  return { status: 400, body: { error, error_description: description } };
}
