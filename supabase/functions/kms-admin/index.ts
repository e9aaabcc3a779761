import { kmsAdminApp } from "../../../functions-shared/endpoints/kms-admin.ts";
import { runtime } from "../../../functions-shared/runtime.ts";

export default { fetch: kmsAdminApp(runtime()).fetch };
