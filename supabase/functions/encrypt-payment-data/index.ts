import { encryptPaymentDataApp } from "../../../functions-shared/endpoints/encrypt-payment-data.ts";
import { runtime } from "../../../functions-shared/runtime.ts";

export default { fetch: encryptPaymentDataApp(runtime({ needsKeys: true })).fetch };
