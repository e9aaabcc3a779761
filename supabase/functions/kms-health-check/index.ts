import { healthUseCases } from "../../../functions-shared/assembly/health.ts";
import { healthCheckApp } from "../../../functions-shared/endpoints/kms-health-check.ts";
import { runtime } from "../../../functions-shared/runtime.ts";

export default { fetch: healthCheckApp(runtime({ needsKeys: true, more: healthUseCases })).fetch };
