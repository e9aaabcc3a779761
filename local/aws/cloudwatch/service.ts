/** CloudWatch's metrics over its three wire protocols. */

import { AwsError } from "../errors.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import { json } from "./json.ts";
import type { CloudWatchOperation } from "./operation.ts";
import { getMetricData } from "./operations/get-metric-data.ts";
import { getMetricStatistics } from "./operations/get-metric-statistics.ts";
import { listMetrics } from "./operations/list-metrics.ts";
import { putMetricData } from "./operations/put-metric-data.ts";
import type { Protocol } from "./protocol.ts";
import { query } from "./query.ts";
import { rpcV2Cbor } from "./rpc-v2-cbor.ts";
import { MetricStore } from "./store.ts";

const PROTOCOLS: readonly Protocol[] = [json, rpcV2Cbor, query];

const OPERATIONS: Readonly<Record<string, CloudWatchOperation>> = {
  PutMetricData: putMetricData,
  GetMetricStatistics: getMetricStatistics,
  GetMetricData: getMetricData,
  ListMetrics: listMetrics,
};

export class CloudWatchService implements Service {
  readonly name = "cloudwatch";
  readonly signingName = "monitoring";
  readonly authenticationErrors = {
    missing: "MissingAuthenticationTokenException",
    incomplete: "IncompleteSignatureException",
    unknown_key: "UnrecognizedClientException",
    expired: "ExpiredTokenException",
    signature: "InvalidSignatureException",
  } as const;
  readonly #store = new MetricStore();

  claim(request: AwsRequest): string | null {
    return protocolOf(request)?.claim(request) ?? null;
  }

  checkOperation(operation: string, request: AwsRequest): void {
    if (!protocolOf(request)?.fits(request) || !Object.hasOwn(OPERATIONS, operation)) {
      throw new AwsError(
        "UnknownOperationException",
        `The local AWS has no operation ${operation} of CloudWatch in this form.`,
      );
    }
  }

  perform(call: AwsCall): AwsReply {
    const { operation: name, region, caller, now, request } = call;
    const protocol = protocolOf(request);
    const operation = OPERATIONS[name];
    if (protocol === undefined || operation === undefined) {
      throw new AwsError("UnknownOperationException");
    }
    const input = protocol.read(request);
    const result = operation(input, { operation: name, region, caller, now, store: this.#store });
    return protocol.answer(name, result, request);
  }

  refuse(error: AwsError, request: AwsRequest): AwsReply {
    return (protocolOf(request) ?? json).refuse(error, request);
  }
}

function protocolOf(request: AwsRequest): Protocol | undefined {
  return PROTOCOLS.find((protocol) => protocol.claim(request) !== null);
}
