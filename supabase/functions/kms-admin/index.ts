import { adminUseCases } from "../../../functions-shared/assembly/admin.ts";
import { kmsAdminApp } from "../../../functions-shared/endpoints/kms-admin.ts";
import { runtime } from "../../../functions-shared/runtime.ts";

export default { fetch: kmsAdminApp(runtime({ more: adminUseCases })).fetch };
