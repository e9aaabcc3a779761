/**
 * A region dies and returns under steady load. Every call is a data key of its own (mode `direct`, the
 * hard case: the hierarchical mode asks KMS once in five minutes), sent when its time has come and
 * not when the one before it was answered. The local AWS is a process of its own.
 */
import type { AwsConfig } from "../../functions-shared/config.ts";
import { SuiteError } from "../../functions-shared/errors.ts";
import { AwsKeyProvider } from "../../functions-shared/keys/providers/aws/provider.ts";
import type { BenchmarkOptions, BenchmarkResult } from "./benchmark.ts";
import { drawFailover } from "./failover_picture.ts";
import { percentile } from "./measure.ts";
import { ROOT } from "./repository.ts";

const RATE_PER_SECOND = 50;
const ATTEMPT_TIMEOUT_MS = 1000;
const CIRCUIT_THRESHOLD = 3;
const PICTURE = `${ROOT}/docs/failover.svg`;

export interface Second {
  /** Whole seconds since the load began. */
  readonly second: number;
  readonly calls: number;
  readonly errors: number;
  /** Calls that were answered elsewhere than in the primary region. */
  readonly elsewhere: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface FailoverRun {
  readonly ratePerSecond: number;
  readonly attemptTimeoutMs: number;
  /** When the primary region fell silent, and when it was back, in seconds. */
  readonly diesAt: number;
  readonly returnsAt: number;
  readonly seconds: readonly Second[];
}

export async function failover({ quick, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const [diesAt, returnsAt, endsAt] = quick ? [2, 5, 8] : [8, 20, 32];
  await using aws = await startAws();
  const provider = new AwsKeyProvider(aws.config, {
    timeoutMs: 10_000,
    attemptTimeoutMs: ATTEMPT_TIMEOUT_MS,
    maxAttempts: 5,
    circuitThreshold: CIRCUIT_THRESHOLD,
  });
  const context = { app: "bench", "data-class": "payment" };
  for (let i = 0; i < 100; i++) await provider.generateDataKey("payment", context);

  progress(`${endsAt} seconds at ${RATE_PER_SECOND} calls a second`);
  interface Call {
    readonly at: number;
    readonly ms: number;
    readonly region?: string | undefined;
    readonly error?: string;
  }
  const calls: Call[] = [];
  const pending: Promise<void>[] = [];
  const started = performance.now();
  const now = () => (performance.now() - started) / 1000;
  const events: [at: number, run: () => Promise<void>][] = [
    [diesAt!, () => aws.faults([{ region: "us-east-1", effect: { kind: "blackhole" } }])],
    [returnsAt!, () => aws.faults([])],
  ];
  for (let sent = 0; sent < endsAt! * RATE_PER_SECOND; sent++) {
    const at = sent / RATE_PER_SECOND;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, (at - now()) * 1000)));
    if (events[0] !== undefined && at >= events[0][0]) await events.shift()![1]();
    const call = provider.generateDataKey("payment", context).then(
      ({ keyId }) => ({ region: keyId.split(":")[3] }),
      (error) => ({ error: error instanceof SuiteError ? error.code : String(error) }),
    );
    // From when it was due: a call that was sent late waited as well.
    pending.push(call.then((end) => void calls.push({ at, ms: (now() - at) * 1000, ...end })));
  }
  await Promise.all(pending);

  const seconds = Array.from({ length: endsAt! }, (_, second): Second => {
    const within = calls.filter(({ at }) => Math.floor(at) === second);
    const times = within.map(({ ms }) => ms);
    return {
      second,
      calls: within.length,
      errors: within.filter(({ error }) => error !== undefined).length,
      elsewhere: within.filter(({ region }) =>
        region !== undefined && region !== "us-east-1"
      ).length,
      p50Ms: percentile(times, 50),
      p99Ms: percentile(times, 99),
      maxMs: Math.max(...times),
    };
  });
  const run: FailoverRun = {
    ratePerSecond: RATE_PER_SECOND,
    attemptTimeoutMs: ATTEMPT_TIMEOUT_MS,
    diesAt: diesAt!,
    returnsAt: returnsAt!,
    seconds,
  };
  if (!quick) await Deno.writeTextFile(PICTURE, drawFailover(run));

  const slow = calls.filter(({ ms }) => ms > ATTEMPT_TIMEOUT_MS / 2).map(({ at }) => at);
  const errors = calls.filter(({ error }) => error !== undefined);
  const after = seconds.filter(({ second }) => second > diesAt! + 1 && second < returnsAt!);
  const before = seconds.filter(({ second }) => second < diesAt!);
  const p50 = (of: readonly Second[]) => percentile(of.map(({ p50Ms }) => p50Ms), 50);
  const ms = (value: number) => Number(value.toFixed(1));
  return {
    tables: [{
      title: `us-east-1 silent from second ${diesAt} to ${returnsAt}, ${RATE_PER_SECOND} calls/s`,
      rows: Object.fromEntries(seconds.map((one) => [`second ${one.second}`, {
        "p50 ms": ms(one.p50Ms),
        "p99 ms": ms(one.p99Ms),
        "max ms": ms(one.maxMs),
        "elsewhere": one.elsewhere,
        "errors": one.errors,
      }])),
    }],
    ratios: {
      "failover.errors": errors.length,
      "failover.calls": calls.length,
      "failover.slow_calls": slow.length,
      "failover.slow_window_seconds": slow.length === 0 ? 0 : Math.max(...slow) - Math.min(...slow),
      "failover.p50_while_dead_vs_before": p50(after) / p50(before),
    },
    data: { ...run, errorCodes: [...new Set(errors.map(({ error }) => error))] },
    notes: quick ? [] : ["drawn in docs/failover.svg"],
  };
}

interface AwsProcess extends AsyncDisposable {
  readonly config: AwsConfig;
  faults(rules: readonly unknown[]): Promise<void>;
}

/** @throws Error when it does not start */
async function startAws(): Promise<AwsProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", `${ROOT}/local/aws/main.ts`, "--port", "0"],
      ...["--application", "parker-flight"],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  const output = child.stdout.pipeThrough(new TextDecoderStream());
  for await (const part of output.values({ preventCancel: true })) {
    text += part;
    if (text.includes("Ctrl-C")) break;
  }
  const close = async () => {
    try {
      child.kill("SIGTERM");
    } catch { /* has ended */ }
    await output.cancel().catch(() => {});
    await child.status;
  };
  // The functions' part comes after the administrator's.
  const settings = text.split("assume the role:")[1] ?? "";
  const value = (name: string) => settings.match(new RegExp(`^ *${name}=(.+)$`, "m"))?.[1] ?? "";
  const endpoint = value("AWS_ENDPOINT_URL");
  if (endpoint === "") {
    await close();
    throw new Error(`the local AWS did not start: ${text}`);
  }
  return {
    config: {
      region: "us-east-1",
      fallbackRegions: ["us-west-2", "eu-west-1"],
      accessKeyId: value("AWS_ACCESS_KEY_ID"),
      secretAccessKey: value("AWS_SECRET_ACCESS_KEY"),
      sessionToken: undefined,
      role: {
        arn: value("AWS_ROLE_ARN"),
        externalId: value("AWS_EXTERNAL_ID"),
        sessionName: "bench",
        durationSeconds: 3600,
      },
      endpoint,
      aliases: {
        payment: "alias/parker-flight-payment-development",
        pii: "alias/parker-flight-pii-development",
        general: "alias/parker-flight-general-development",
      },
      accountId: undefined,
    },
    async faults(rules) {
      const response = await fetch(`${endpoint}/_local/faults`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ rules }),
      });
      const answer = await response.text();
      if (!response.ok) throw new Error(`the fault switch answered ${response.status}: ${answer}`);
    },
    [Symbol.asyncDispose]: close,
  };
}
