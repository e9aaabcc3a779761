/**
 * The local AWS on its own: `deno run -A local/aws/main.ts`. Prints where it is and who may call.
 */

import { parseArgs } from "node:util";
import { seedKeys, startLocalAws, StateFileError } from "./mod.ts";

const USAGE = `Usage: deno run -A local/aws/main.ts [options]

  --port N              TCP port on 127.0.0.1; 0 takes a free one (default 4566)
  --state-file PATH     keep keys and identities in this file (default: memory)
  --application NAME    make this application's keys and aliases (default: none)
  --environment NAME    ... for this environment (default development)
  --verbose             print a line for each request
  --help                print this`;

interface MainOptions {
  readonly port: number;
  readonly stateFile?: string;
  readonly application?: string;
  readonly environment: string;
  readonly verbose: boolean;
}

/** Null when help was asked for. Throws TypeError when an argument makes no sense. */
function readArguments(args: readonly string[]): MainOptions | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: "string", default: "4566" },
      "state-file": { type: "string" },
      application: { type: "string" },
      environment: { type: "string", default: "development" },
      verbose: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new TypeError(`--port must be a whole number from 0 to 65535, got '${values.port}'`);
  }
  return {
    port,
    ...(values["state-file"] === undefined ? {} : { stateFile: values["state-file"] }),
    ...(values.application === undefined ? {} : { application: values.application }),
    environment: values.environment,
    verbose: values.verbose,
  };
}

async function run(options: MainOptions): Promise<void> {
  const aws = await startLocalAws({
    port: options.port,
    ...(options.stateFile === undefined ? {} : { stateFile: options.stateFile }),
    ...(options.verbose ? { log: (line: string) => console.error(line) } : {}),
  });
  const { application, environment } = options;
  const keys = application === undefined
    ? []
    : Object.values(await seedKeys(aws, { application, environment }));
  const { operator, caller, role } = aws.identities;
  console.log(
    `The local AWS (KMS, STS, IAM, CloudTrail, CloudWatch, Parameter Store) is at ${aws.endpoint}

For the aws command line, as administrator:
  export AWS_ENDPOINT_URL=${aws.endpoint} AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=${operator.accessKeyId} AWS_SECRET_ACCESS_KEY=${operator.secretAccessKey}

For the functions, which assume the role:
  AWS_ENDPOINT_URL=${aws.endpoint}
  AWS_ACCESS_KEY_ID=${caller.accessKeyId}
  AWS_SECRET_ACCESS_KEY=${caller.secretAccessKey}
  AWS_ROLE_ARN=${role.arn}
  AWS_EXTERNAL_ID=${role.externalId}`,
  );
  for (const { alias, keyId } of keys) console.log(`  ${alias} -> ${keyId}`);
  console.log("\nStop it with Ctrl-C.");
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => resolve());
    }
  });
  await aws.close();
}

/** What a person can act on; null for the unexpected. */
function explain(error: unknown, port: number): string | null {
  if (error instanceof StateFileError) return error.message;
  const code = (error as { code?: unknown }).code;
  if (code === "EADDRINUSE" || error instanceof Deno.errors.AddrInUse) {
    return `Port ${port} on 127.0.0.1 is taken. Choose another with --port.`;
  }
  return null;
}

if (import.meta.main) {
  let options: MainOptions | null = null;
  try {
    options = readArguments(Deno.args);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    Deno.exit(2);
  }
  if (options === null) {
    console.log(USAGE);
    Deno.exit(0);
  }
  try {
    await run(options);
    Deno.exit(0);
  } catch (error) {
    console.error(explain(error, options.port) ?? error);
    Deno.exit(1);
  }
}
