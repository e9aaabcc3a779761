/** What `kms-health-check` is made of besides. */
import { Erasures } from "../admin/erasures.ts";
import { erasureStore } from "../database/erasures.ts";
import { Upkeep } from "../health/upkeep.ts";
import { toSuiteError } from "../http/problem.ts";
import { Proofs } from "../keys/proofs.ts";
import type { Core } from "./core.ts";

export function healthUseCases({ config, rpc, branchKeys, background, log }: Core) {
  const erasures = new Erasures({
    ...config,
    store: erasureStore(rpc),
    proofs: new Proofs(branchKeys),
  });
  const operation = "sign_erasures";
  return {
    upkeep: new Upkeep({
      work: () => erasures.signPending(),
      everyMs: config.healthCacheMs,
      background,
      told: (outcome) =>
        "count" in outcome
          ? log.log("info", "upkeep", { operation, count: outcome.count })
          : log.log("error", "upkeep_failed", {
            operation,
            code: toSuiteError(outcome.error).code,
            error: outcome.error,
          }),
    }),
  };
}
