import { managePaymentMethodsApp } from "../../../functions-shared/endpoints/manage-payment-methods-kms.ts";
import { runtime } from "../../../functions-shared/runtime.ts";

export default { fetch: managePaymentMethodsApp(runtime()).fetch };
