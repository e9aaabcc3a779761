/**
 * Metrics into CloudWatch, with the same role as KMS: it needs `cloudwatch:PutMetricData`.
 *
 * One call of the query protocol, signed by a small library: CloudWatch's own SDK client would take the
 * functions over the platform's bundle limit of 20 MB.
 */
import type { AwsConfig } from "../../../config.ts";
import type { MetricDatum, MetricsSink } from "../../../telemetry/metrics.ts";
import type { AwsCredentials } from "./credentials.ts";

/** Metrics of one PutMetricData request: as many as stay below CloudWatch's 1 MB at 150 values each. */
const BATCH = 50;

/** `namespace`: 1 to 255 characters. A batch that CloudWatch refuses rejects, and is not tried again. */
export function cloudWatchSink(
  config: Pick<AwsConfig, "endpoint" | "region">,
  options: {
    readonly namespace: string;
    readonly credentials: () => Promise<AwsCredentials>;
    /** Deadline of one batch, milliseconds. */
    readonly timeoutMs: number;
  },
): MetricsSink {
  const { region } = config;
  const url = config.endpoint ?? `https://monitoring.${region}.amazonaws.com`;
  return async (data) => {
    const { AwsClient } = await import("aws4fetch");
    const { accessKeyId, secretAccessKey, sessionToken } = await options.credentials();
    const client = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...sessionToken === undefined ? {} : { sessionToken },
      service: "monitoring",
      region,
      retries: 0,
    });
    for (let at = 0; at < data.length; at += BATCH) {
      const response = await client.fetch(`${url}/`, {
        method: "POST",
        body: putMetricData(options.namespace, data.slice(at, at + BATCH)).toString(),
        headers: { "content-type": "application/x-www-form-urlencoded" },
        signal: AbortSignal.timeout(options.timeoutMs),
      });
      const answer = await response.text();
      if (!response.ok) throw refusal(response.status, answer);
    }
  };
}

/** Under AWS's own name for it, as its SDK would. */
function refusal(status: number, answer: string): Error {
  const error = new Error(`CloudWatch answered ${status}`);
  error.name = /<Code>(\w{1,64})<\/Code>/.exec(answer)?.[1] ?? "CloudWatchError";
  return error;
}

/** Parameters as the query protocol flattens them. */
function putMetricData(namespace: string, data: readonly MetricDatum[]): URLSearchParams {
  const parameters = new URLSearchParams({
    Action: "PutMetricData",
    Version: "2010-08-01",
    Namespace: namespace,
  });
  data.forEach((datum, index) => {
    const path = `MetricData.member.${index + 1}`;
    parameters.set(`${path}.MetricName`, datum.name);
    parameters.set(`${path}.Unit`, datum.unit);
    parameters.set(`${path}.Timestamp`, new Date(datum.at).toISOString());
    Object.entries(datum.dimensions).forEach(([name, value], n) => {
      parameters.set(`${path}.Dimensions.member.${n + 1}.Name`, name);
      parameters.set(`${path}.Dimensions.member.${n + 1}.Value`, value);
    });
    datum.values.forEach((value, n) =>
      parameters.set(`${path}.Values.member.${n + 1}`, String(value))
    );
    datum.counts.forEach((count, n) =>
      parameters.set(`${path}.Counts.member.${n + 1}`, String(count))
    );
  });
  return parameters;
}
