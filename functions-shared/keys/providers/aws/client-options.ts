/**
 * Every setting of an SDK client that it would otherwise look up in files below a home directory or ask
 * the operating system for: functions have the network and their environment, and nothing else.
 */
import type { FetchHttpHandler } from "@smithy/fetch-http-handler";
import type { AwsConfig } from "../../../config.ts";
import type { AwsCredentials } from "./credentials.ts";

/** As it appears in CloudTrail; the SDK's own would name the operating system's release. */
const USER_AGENT: [string, string][] = [["supabase-kms", "1"]];

/**
 * The SDK's own handler, node:https, notices on Deno 2.1.4 a connection that was closed unanswered only by
 * the deadline; fetch notices at once. Loaded with the first call, as the SDK itself.
 */
let fetchHandler: Promise<FetchHttpHandler> | undefined;
const requestHandler = {
  async handle(...call: Parameters<FetchHttpHandler["handle"]>) {
    fetchHandler ??= import("@smithy/fetch-http-handler").then((http) =>
      new http.FetchHttpHandler()
    );
    return (await fetchHandler).handle(...call);
  },
};

/** How far AWS's clock is ahead of this machine's, as the SDK found; all clients sign by it. */
export interface AwsClock {
  offsetMs: number;
}

/** For `new KMSClient` and `new STSClient`. */
export function awsClientOptions(
  config: Pick<AwsConfig, "endpoint">,
  region: string,
  credentials: AwsCredentials,
  clock: AwsClock = { offsetMs: 0 },
) {
  return {
    region,
    ...config.endpoint ? { endpoint: config.endpoint } : {},
    credentials: { ...credentials },
    requestHandler,
    // One layer owns retries, and it is not this one.
    maxAttempts: 1,
    retryMode: "standard",
    defaultsMode: "standard" as const,
    authSchemePreference: [],
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    disableClockSkewCorrection: false,
    systemClockOffset: clock.offsetMs,
    userAgentAppId: "",
    defaultUserAgentProvider: () => Promise.resolve(USER_AGENT),
    ignoreConfiguredEndpointUrls: true,
  };
}
