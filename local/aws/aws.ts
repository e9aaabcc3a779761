/** Puts the local AWS together. */

import { CloudTrailService } from "./cloudtrail/service.ts";
import { Trail } from "./cloudtrail/trail.ts";
import { CloudWatchService } from "./cloudwatch/service.ts";
import { Faults } from "./faults.ts";
import { Identities } from "./iam/identities.ts";
import { CALLER_NAME, createIamState } from "./iam/records.ts";
import { IamService } from "./iam/service.ts";
import { KmsService } from "./kms/service.ts";
import { KeyStore } from "./kms/store.ts";
import { AwsServer } from "./server.ts";
import { type AwsState, createState, memoryKeeper, StateFile, type StateKeeper } from "./state.ts";
import { SsmService } from "./ssm/service.ts";
import { ParameterStore } from "./ssm/store.ts";
import { StsService } from "./sts/service.ts";
import type { CallRecord, ClockSwitch, LocalAws, LocalAwsOptions } from "./types.ts";

const MAX_CALLS = 100_000;

/**
 * Starts KMS, STS, IAM, CloudTrail, CloudWatch and Parameter Store on 127.0.0.1. Rejects with StateFileError when the
 * state file is in use or unreadable, and with the system's error (`code` EADDRINUSE) when the port
 * is taken.
 */
export async function startLocalAws(options: LocalAwsOptions = {}): Promise<LocalAws> {
  const file = options.stateFile === undefined ? null : await StateFile.open(options.stateFile);
  try {
    return await start(options, file);
  } catch (error) {
    file?.release();
    throw error;
  }
}

type OpenFile = Awaited<ReturnType<typeof StateFile.open>>;

async function start(options: LocalAwsOptions, file: OpenFile | null): Promise<LocalAws> {
  const state = file?.state ?? createState();
  const { identities: identityState } = state;
  const clock = new Clock(options.now ?? Date.now);
  const identities = new Identities(
    identityState,
    state.iam ?? createIamState(identityState, clock.now()),
    options.roles ?? [],
    () => keeper.markStale(),
  );
  const store = new KeyStore(state.kms, () => keeper.markStale());
  const parameters = new ParameterStore(
    state.ssm ?? { parameters: [] },
    () => keeper.markStale(),
  );
  const snapshot = (): AwsState => ({
    version: 1,
    identities: identityState,
    iam: identities.snapshot(),
    kms: store.snapshot(),
    ssm: parameters.snapshot(),
  });
  const keeper: StateKeeper = file?.keep(snapshot) ?? memoryKeeper;
  if (state.iam === undefined) keeper.markStale();
  await keeper.durable();

  const kms = new KmsService({
    store,
    identities,
    replicationMs: options.replicationMs ?? 0,
    durable: () => keeper.durable(),
  });
  const ssm = new SsmService({
    store: parameters,
    kms,
    accountId: identities.accountId,
    durable: () => keeper.durable(),
  });
  const faults = new Faults();
  const trail = new Trail();
  let calls: CallRecord[] = [];
  const record = (call: CallRecord) => {
    calls.push(call);
    if (calls.length > MAX_CALLS) calls = calls.slice(-MAX_CALLS / 2);
  };
  const resetCalls = () => {
    calls = [];
  };
  const server = new AwsServer({
    services: [
      kms,
      new StsService(identities),
      new IamService({ identities, durable: () => keeper.durable() }),
      new CloudWatchService(),
      ssm,
      new CloudTrailService(trail),
    ],
    identities,
    faults,
    now: () => clock.now(),
    record,
    trail: (event) => {
      // Metrics are data events, which no trail has unless it is told to.
      if (event.service !== "cloudwatch") trail.add(event);
    },
    log: options.log ?? (() => {}),
    localApi: { faults, clock, calls: () => calls, resetCalls },
  });
  const port = await server.listen(options.port ?? 0);

  let closing: Promise<void> | null = null;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    port,
    accountId: identities.accountId,
    identities: {
      caller: accessKey(identityState.caller),
      role: { arn: identities.roleArn, externalId: identityState.role.externalId },
      operator: accessKey(identityState.operator),
    },
    isCallerKey: (accessKeyId) => identities.accessKey(accessKeyId)?.user.name === CALLER_NAME,
    faults,
    clock,
    calls: () => [...calls],
    resetCalls,
    async asOperator(region, operation, input) {
      const call = { operation, region, caller: identities.operator, now: clock.now() };
      return await kms.run(call, input) ?? {};
    },
    close() {
      closing ??= server.close().then(() => keeper.close());
      return closing;
    },
  };
}

function accessKey(key: { readonly accessKeyId: string; readonly secretAccessKey: string }) {
  return { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey };
}

class Clock implements ClockSwitch {
  readonly #base: () => number;
  #offsetMs = 0;

  constructor(base: () => number) {
    this.#base = base;
  }

  get offsetMs(): number {
    return this.#offsetMs;
  }

  now(): number {
    return this.#base() + this.#offsetMs;
  }

  set(offsetMs: number): void {
    this.#offsetMs = offsetMs;
  }

  advance(ms: number): void {
    this.#offsetMs += ms;
  }
}
