/**
 * A throw-away Postgres server on a free port of 127.0.0.1.
 *
 * Needs Debian's `postgresql` package: its programs live outside PATH and refuse to run as root, so
 * under root they run as the package's own user.
 */

import { join } from "node:path";

const BINARIES = "/usr/lib/postgresql";
const SUPERUSER = "supabase_admin";
const START_TIMEOUT_MS = 30_000;

export interface Cluster {
  readonly port: number;
  /** Folder of the server's programs, `psql` among them. */
  readonly binaries: string;
  /** Connection URL of the superuser, unless another role with its password is given. */
  url(database: string, role?: { name: string; password: string }): string;
  /** All that the server has written to its log. */
  log(): string;
  /** Stops the server and removes its data. */
  close(): Promise<void>;
}

/** @throws Error when Postgres is not installed or does not start */
export async function startCluster(): Promise<Cluster> {
  const binaries = findBinaries();
  const account = serverAccount();
  const folder = await Deno.makeTempDir({ prefix: "postgres-" });
  if (account) await Deno.chown(folder, account.uid, account.gid);
  const data = join(folder, "data");
  const password = randomPassword();
  const run = (program: string, args: string[]) =>
    new Deno.Command(join(binaries, program), {
      args,
      ...account,
      cwd: folder,
      clearEnv: true,
      env: { PATH: binaries, LC_ALL: "C.UTF-8", TZ: "UTC" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });

  const secret = join(folder, "password");
  await Deno.writeTextFile(secret, password, { mode: 0o600 });
  if (account) await Deno.chown(secret, account.uid, account.gid);
  const initdb = await run("initdb", [
    ...["-D", data, "-U", SUPERUSER, "--pwfile", secret, "--auth", "scram-sha-256"],
    ...["-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
  ]).output();
  if (!initdb.success) throw new Error(`initdb: ${new TextDecoder().decode(initdb.stderr)}`);

  const port = freePort();
  const settings = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    fsync: "off",
    max_connections: 100,
    restart_after_crash: "on",
    log_min_error_statement: "error",
  };
  const server = run("postgres", [
    ...["-D", data],
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ]).spawn();
  const log: string[] = [];
  const drained = Promise.all([drain(server.stderr, log), drain(server.stdout, log)]);

  const close = async () => {
    try {
      server.kill("SIGINT"); // fast shutdown: disconnects everybody
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // has already ended
    }
    await server.status;
    await drained;
    await Deno.remove(folder, { recursive: true });
  };

  let ended = false;
  server.status.then(() => ended = true);
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!log.join("").includes("database system is ready to accept connections")) {
    if (ended || Date.now() > deadline) {
      await close();
      throw new Error(`postgres did not start: ${log.join("")}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }

  return {
    port,
    binaries,
    url: (database, role = { name: SUPERUSER, password }) =>
      `postgresql://${role.name}:${role.password}@127.0.0.1:${port}/${database}`,
    log: () => log.join(""),
    close,
  };
}

export function randomPassword(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** The newest version installed. */
function findBinaries(): string {
  let versions: number[] = [];
  try {
    versions = [...Deno.readDirSync(BINARIES)].map((entry) => Number(entry.name));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const newest = Math.max(...versions.filter(Number.isInteger));
  if (!Number.isFinite(newest)) {
    throw new Error("install postgresql-15, postgresql-15-pgtap and postgresql-15-plpgsql-check");
  }
  return join(BINARIES, String(newest), "bin");
}

/** Whom to run as: nobody else, unless this is root. */
function serverAccount(): { uid: number; gid: number } | undefined {
  if (Deno.uid() !== 0) return undefined;
  const entry = Deno.readTextFileSync("/etc/passwd").match(/^postgres:[^:]*:(\d+):(\d+):/m);
  if (!entry) throw new Error("root cannot run Postgres, and there is no user named postgres");
  return { uid: Number(entry[1]), gid: Number(entry[2]) };
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

async function drain(stream: ReadableStream<Uint8Array>, into: string[]): Promise<void> {
  for await (const text of stream.pipeThrough(new TextDecoderStream())) into.push(text);
}
