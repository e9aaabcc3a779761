import type { Config } from "../../functions-shared/config.ts";
import type { DataClass } from "../../functions-shared/data-class.ts";

/** As a row's, with every name that a key policy may ask for; no row has this id. */
export function doctorContext(
  config: Pick<Config, "appName" | "environment">,
  dataClass: DataClass,
): Record<string, string> {
  return {
    app: config.appName,
    environment: config.environment,
    "data-class": dataClass,
    owner: "00000000-0000-0000-0000-000000000000",
    table: "health_canaries",
    record: "doctor",
    field: "probe",
  };
}
