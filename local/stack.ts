import { join, resolve } from "node:path";
import { type LocalAws, seedKeys, startLocalAws } from "./aws/mod.ts";
import { findFunctions, readProjectConfig } from "./config-toml.ts";
import { type ApiHandler, createDataApi } from "./data-api.ts";
import { openDataDir } from "./data-dir.ts";
import { openPglite, openPostgres, provision } from "./database.ts";
import { StackError } from "./errors.ts";
import { readEnvFile } from "./env-file.ts";
import { createFunctionProxy, type FunctionProxy } from "./function-proxy.ts";
import { startFunctions } from "./functions.ts";
import { type Gateway, openGateway } from "./gateway.ts";
import { type Identity, loadIdentity, mainSecretKey, saveIdentity } from "./identity.ts";
import { type KeyServices, startKeyServices } from "./key-services.ts";
import { createManagementApi, type ManagementHandler, PROJECT_REF } from "./management-api.ts";
import { migrate } from "./migrations.ts";
import { createOperator, type OperatorHandler } from "./operator.ts";
import {
  type Env,
  functionEnvironment,
  googleEndpoints,
  localSecrets,
  meansAnotherAws,
  platformEnv,
} from "./platform-env.ts";
import { assertPortFree } from "./ports.ts";
import { ProjectKeys } from "./project-keys.ts";
import { keyInUse } from "./signing-keys.ts";
import type { SigningJwk } from "./tokens.ts";
import { watchFunctions } from "./watch.ts";

/** The repository: what is served, migrated and read unless told otherwise. */
export const REPOSITORY = resolve(import.meta.dirname ?? ".", "..");

export interface StackOptions {
  /** Port of the API on 127.0.0.1; 0 takes a free one. Default 54321. */
  readonly port?: number;
  /** Port of the local AWS on 127.0.0.1; 0 takes a free one. Default 4566. */
  readonly awsPort?: number;
  /** A Postgres as its superuser or owner. Default: PGlite in the data directory. */
  readonly dbUrl?: string;
  /** Where the database, the keys and the logs are kept. Default `.local` in the repository. */
  readonly dataDir?: string;
  /** Remove what the data directory holds first. Refused together with `dbUrl`. */
  readonly reset?: boolean;
  /** Own secrets of the functions that win over all others; an empty value removes one. */
  readonly functionEnv?: Env;
  /** File with own secrets; null for none. Default `.env.local` in the repository, if any. */
  readonly envFile?: string | null;
  /** A tree with `supabase/functions` to serve. Default: the repository. */
  readonly functionsDir?: string;
  /** The Deno that runs the functions. Default: the one that runs this. */
  readonly denoExecutable?: string;
  /** Extra flags for it, such as `--no-lock`. */
  readonly denoArgs?: readonly string[];
  /** Restart functions when their files change. Default false. */
  readonly watch?: boolean;
  /** Told what is being done, one line at a time. */
  readonly onProgress?: (line: string) => void;
  /** Given each line that a function writes. */
  readonly onFunctionLine?: (name: string, line: string) => void;
}

/** A running stack. */
export interface Stack {
  /** `http://127.0.0.1:PORT`. */
  readonly apiUrl: string;
  readonly publishableKey: string;
  /** The secret key `default`, or the oldest when that was deleted. */
  readonly secretKey: string;
  /** Of the signing key that the stack was made with. */
  readonly jwtSecret: string;
  /** The private JWK that signs access tokens now. */
  readonly signingKey: SigningJwk;
  /** Of the project in the Management API. */
  readonly projectRef: string;
  readonly dataDir: string;
  /** Set when the database is a Postgres. */
  readonly dbUrl?: string;
  readonly aws: LocalAws;
  /** The other key services, which no function uses before it is told to. */
  readonly keyServices: Pick<KeyServices, "gcp" | "vault">;
  /** As it is now: keys come and go. */
  readonly identity: Identity;
  /** What every function is given: the platform's variables and its own secrets. */
  readonly functionEnv: Env;
  /** Names of the functions served. */
  readonly functions: readonly string[];
  /** One statement as the superuser, with `$1` parameters. */
  sql<T>(query: string, params?: unknown[]): Promise<T[]>;
  /** Everything the function has written so far (the last 16 Mi characters). */
  functionLog(name: string): string;
  /** Process ids of the functions that run now. */
  functionPids(): number[];
  /**
   * Starts a function again; `env` is laid over the environment of all functions, and an
   * empty value removes a variable. Resolves to whether it booted.
   */
  restartFunction(name: string, env?: Env): Promise<boolean>;
  /** `told` is called after every change of keys, and waited for before the change is answered. */
  onKeysChanged(told: () => Promise<void>): void;
  close(): Promise<void>;
}

/**
 * Starts the embedded stack: database, auth, Data API, local AWS and functions. Resolves when all
 * of it answers.
 *
 * @throws {StackError} for what the caller can mend: a port taken, a directory in use or not ours,
 *   a database that does not answer, a migration that fails
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const opened = new Opened();
  try {
    return await start(options, opened);
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** What has to be closed again, last opened first, and the gateway before all of it. */
class Opened {
  gateway: Gateway | null = null;
  #steps: Array<() => unknown> = [];

  add(step: () => unknown): void {
    this.#steps.push(step);
  }

  async close(): Promise<void> {
    await this.gateway?.close();
    this.gateway = null;
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) await step();
  }
}

async function start(options: StackOptions, opened: Opened): Promise<Stack> {
  const { port = 54321, awsPort = 4566, dbUrl, functionEnv = {}, onProgress = () => {} } = options;
  const functionsRoot = resolve(options.functionsDir ?? REPOSITORY);
  if (options.reset && dbUrl) {
    throw new StackError(
      "--reset removes the keys that the rows in your Postgres need: drop that database yourself, " +
        "or reset without --db-url",
    );
  }
  const file = options.envFile === null
    ? {}
    : await readEnvFile(options.envFile ?? join(REPOSITORY, ".env.local"), {
      required: options.envFile !== undefined,
      warn: onProgress,
    });
  assertPortFree(port, "the API", "--port");
  assertPortFree(awsPort, "the local AWS", "--aws-port");

  const dataDir = await openDataDir(options.dataDir ?? join(REPOSITORY, ".local"), {
    reset: options.reset ?? false,
  });
  opened.add(() => dataDir.close());
  const keys = new ProjectKeys(
    await loadIdentity(dataDir),
    (identity) => saveIdentity(dataDir, identity),
  );
  const config = await readProjectConfig(functionsRoot, REPOSITORY);

  const apiRoute = Promise.withResolvers<ApiHandler>();
  const proxy = Promise.withResolvers<FunctionProxy>();
  const operator = Promise.withResolvers<OperatorHandler>();
  const management = Promise.withResolvers<ManagementHandler>();
  opened.gateway = openGateway(port, {
    api: apiRoute.promise,
    functions: proxy.promise,
    operator: operator.promise,
    management: management.promise,
  });
  const apiUrl = `http://127.0.0.1:${opened.gateway.port}`;

  onProgress("starting the local AWS, Google Cloud and Vault");
  const names = { application: "parker-flight", environment: "development" };
  const [aws, keyServices] = await settleBoth(
    startLocalAws({ port: awsPort, stateFile: dataDir.file("aws.json") }).then((aws) => {
      opened.add(() => aws.close());
      return aws;
    }),
    startKeyServices(dataDir, { ...names, onProgress }).then((services) => {
      opened.add(() => services.close());
      return services;
    }),
  );
  await seedKeys(aws, names);
  if (meansAnotherAws(file, aws.isCallerKey)) {
    onProgress(
      "the env file has an AWS_ACCESS_KEY_ID that is not the local AWS's: functions use another AWS",
    );
  }
  const local = { ...localSecrets(aws), ...googleEndpoints(keyServices.gcp) };
  const environment = async (identity: Identity) => {
    const url = dbUrl ?? "postgresql://postgres@127.0.0.1:54322/postgres";
    const platform = await platformEnv({ apiUrl, dbUrl: url, identity });
    return functionEnvironment(platform, local, file, functionEnv, aws.isCallerKey);
  };
  let env = await environment(keys.identity);

  onProgress("starting the functions (their dependencies are fetched the first time)");
  const functionsStarted = startFunctions({
    settings: await findFunctions(functionsRoot, config),
    deno: {
      executable: options.denoExecutable ?? Deno.execPath(),
      args: options.denoArgs ?? [],
      root: functionsRoot,
    },
    env,
    dataDir,
    onLine: options.onFunctionLine,
  }).then((functions) => {
    opened.add(() => functions.close());
    return functions;
  });
  // They are other processes and need little of this one; PGlite then keeps it busy for seconds.
  await headStart(functionsStarted);

  const databaseOpened = (async () => {
    onProgress(dbUrl ? "connecting to Postgres" : "opening the database (PGlite)");
    const database = dbUrl ? await openPostgres(dbUrl) : await openPglite(dataDir.file("db"));
    opened.add(() => database.close());
    await provision(database, REPOSITORY);
    const applied = await migrate(database, REPOSITORY);
    if (applied.length > 0) onProgress(`applied ${applied.length} migrations`);
    return database;
  })();
  const [functions, database] = await settleBoth(functionsStarted, databaseOpened);
  const functionProxy = createFunctionProxy(functions, () => keys.identity.signingKeys);
  opened.add(() => functionProxy.close());
  const api = await createDataApi(database, config, keys);
  apiRoute.resolve(api.fetch);
  proxy.resolve(functionProxy);
  operator.resolve(createOperator(database, keys.identity.operatorToken));
  keys.follow({
    before: async (next) => {
      env = await environment(next);
      await functions.setEnvironment(env);
    },
  });
  management.resolve(createManagementApi(keys));
  const served = [...functions.settings.keys()];
  if (options.watch) {
    opened.add(watchFunctions(functionsRoot, served, async (changed) => {
      onProgress(`files changed: restarting ${changed.join(", ")}`);
      await functions.reload(changed);
    }));
  }
  return {
    apiUrl,
    publishableKey: keys.identity.publishableKey,
    get secretKey() {
      return mainSecretKey(keys.identity);
    },
    jwtSecret: keys.identity.jwtSecret,
    get signingKey() {
      return keyInUse(keys.identity.signingKeys).jwk;
    },
    projectRef: PROJECT_REF,
    dataDir: dataDir.path,
    ...(dbUrl ? { dbUrl } : {}),
    aws,
    keyServices,
    get identity() {
      return keys.identity;
    },
    get functionEnv() {
      return env;
    },
    functions: served,
    sql: async (query, params) => {
      const rows = await database.query<never>(query, params);
      // As an event trigger tells PostgREST on hosted Supabase.
      if (/^\s*(create|alter|drop|grant|revoke|comment)\s/i.test(query)) await api.reload();
      return rows;
    },
    functionLog: (name) => functions.log(name),
    functionPids: () => functions.pids(),
    restartFunction: (name, env) => functions.restart(name, env),
    onKeysChanged: (tell) => keys.follow({ after: tell }),
    close: () => opened.close(),
  };
}

/** Waits for both before it fails, so that what the slower one opened is closed as well. */
async function settleBoth<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([a, b]);
  return Promise.all([a, b]);
}

/** Longest that the database waits for the functions, in milliseconds: they may have to download. */
const HEAD_START_MS = 1000;

async function headStart(work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const enough = new Promise<void>((resolve) => timer = setTimeout(resolve, HEAD_START_MS));
  await Promise.race([work.then(() => {}, () => {}), enough]);
  clearTimeout(timer);
}
