/**
 * A local AWS: KMS, STS, IAM, CloudTrail's events, CloudWatch's metrics and Parameter Store over their
 * real wire protocols on 127.0.0.1, with real cryptography and AWS's strictness, for development and
 * tests. Nothing here protects anything: keys lie in the state file.
 */

export { startLocalAws } from "./aws.ts";
export { AwsError } from "./errors.ts";
export { REGIONS } from "./regions.ts";
export {
  DATA_CLASSES,
  type DataClass,
  type SeededKey,
  seedKeys,
  type SeedOptions,
} from "./seed.ts";
export { StateFileError } from "./state.ts";
export type {
  AccessKey,
  CallRecord,
  ClockSwitch,
  FaultEffect,
  FaultRule,
  FaultSwitch,
  LocalAws,
  LocalAwsOptions,
  RoleOptions,
} from "./types.ts";
