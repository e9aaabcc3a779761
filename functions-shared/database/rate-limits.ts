import type { RateLimitStore } from "../http/rate-limit-store.ts";
import type { Rpc } from "./rpc.ts";

export function rateLimitStore(rpc: Rpc): RateLimitStore {
  return {
    take: (keys) => rpc("kms_rate_limit_take", { p_keys: JSON.stringify(keys) }),
  };
}
