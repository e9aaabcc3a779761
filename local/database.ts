import { join } from "node:path";
import { type Connection, getAuthSchemaSql } from "@supabase/lite";
import { createPgliteConnection } from "@supabase/lite/pglite";
import { createPostgresConnection } from "@supabase/lite/postgres";
// Also makes the package resolvable for @supabase/lite, which has it as an optional peer.
import "postgres";
import type { Sql, TransactionSql } from "postgres";
import { messageOf, StackError } from "./errors.ts";
import { Exclusive } from "./exclusive.ts";
import { asPostgrestError } from "./postgrest-errors.ts";

/** The database under the stack: PGlite in this process, or any Postgres by URL. */
export interface Database {
  readonly kind: "pglite" | "postgres";
  /** What the Data API and the auth server work on. */
  readonly connection: Connection;
  /**
   * Runs `task` while nothing else uses the connection. PGlite has a single one, and the driver of
   * `@supabase/lite` 0.10 hands it to everybody at once: two requests would share one transaction,
   * and with it one role. Postgres has a pool, where this starts `task` right away.
   */
  exclusively<T>(task: () => Promise<T>): Promise<T>;
  /** One statement as the superuser, with `$1` parameters. */
  query<T>(sql: string, params?: readonly unknown[]): Promise<T[]>;
  /** One statement in a read-only transaction. */
  readOnlyQuery<T>(sql: string, params?: readonly unknown[]): Promise<T[]>;
  /** Statements separated by semicolons, in one transaction: all of them or none. */
  script(sql: string): Promise<void>;
  close(): Promise<void>;
}

/** Opens the PGlite database in the folder `path`, made when it is missing. */
export async function openPglite(path: string): Promise<Database> {
  const connection = await createPgliteConnection({ url: path });
  const { driver } = connection;
  await keepExitCode(() => driver.waitReady);
  keepPrivileges(connection);
  connection.normalizeDbError = asPostgrestError;
  const exclusive = new Exclusive();
  const turn = { run: <T>(task: () => Promise<T>) => exclusive.run(() => keepExitCode(task)) };
  const inTransaction = <T>(work: () => Promise<T>, begin = "begin") =>
    turn.run(async () => {
      await driver.exec(begin);
      try {
        const result = await work();
        await driver.exec("commit");
        return result;
      } catch (error) {
        await driver.exec("rollback");
        throw error;
      }
    });
  const query = async <T>(sql: string, params: readonly unknown[] = []) =>
    (await driver.query<T>(sql, [...params])).rows;
  return {
    kind: "pglite",
    connection,
    exclusively: (task) => turn.run(task),
    query: (sql, params) => turn.run(() => query(sql, params)),
    readOnlyQuery: (sql, params) => inTransaction(() => query(sql, params), "begin read only"),
    script: (sql) => inTransaction(async () => void await driver.exec(sql)),
    close: () => turn.run(() => connection.close()),
  };
}

/**
 * Connects to a Postgres as its superuser (or as the owner of the database).
 *
 * @throws {StackError} when it cannot be reached or refuses
 */
export async function openPostgres(url: string): Promise<Database> {
  const connection = createPostgresConnection({
    url,
    postgresOptions: { max: 8, connect_timeout: 5, onnotice: () => {} },
  });
  const driver: Sql = connection.driver;
  try {
    await driver`select 1`;
  } catch (error) {
    await driver.end({ timeout: 0 });
    throw new StackError(`the database given with --db-url does not answer: ${messageOf(error)}`);
  }
  keepPrivileges(connection);
  connection.normalizeDbError = asPostgrestError;
  // Typed by hand: rows are whatever the statement returns.
  const rowsOf = <T>(rows: Iterable<unknown>) => [...rows] as T[];
  return {
    kind: "postgres",
    connection,
    exclusively: (task) => task(),
    query: async <T>(sql: string, params: readonly unknown[] = []) =>
      rowsOf<T>(await driver.unsafe(sql, [...params] as never[])),
    readOnlyQuery: async <T>(sql: string, params: readonly unknown[] = []) =>
      rowsOf<T>(
        await driver.begin(
          "read only",
          (tx: TransactionSql) => tx.unsafe(sql, [...params] as never[], { prepare: true }),
        ),
      ),
    script: async (sql) => void await driver.begin((tx: TransactionSql) => tx.unsafe(sql).simple()),
    close: () => driver.end({ timeout: 2 }),
  };
}

/** PGlite sets this process's exit code, at its start and with every error of its Postgres. */
async function keepExitCode<T>(work: () => Promise<T>): Promise<T> {
  const { exitCode } = Deno;
  try {
    return await work();
  } finally {
    Deno.exitCode = exitCode;
  }
}

/**
 * On its first request `@supabase/lite` 0.10 grants ALL on all tables and sequences of every schema
 * that has row-level security to the API roles, undoing every REVOKE, and when no table has any it
 * does not switch to the caller's role at all. Its method that decides both is replaced: the role
 * is always switched, and privileges are what bootstrap.sql and the migrations say.
 */
function keepPrivileges(connection: Connection): void {
  const seam = "ensureRlsContext";
  if (typeof Reflect.get(connection, seam) !== "function") {
    throw new Error(
      `@supabase/lite no longer has ${seam}(): find where it grants privileges now, ` +
        `tests/security/data-api.test.ts has the cases`,
    );
  }
  Object.defineProperty(connection, seam, { value: () => Promise.resolve(true) });
  Object.defineProperty(connection, "rlsState", { value: "active", writable: true });
}

/** Makes what hosted Supabase has before the first migration: `auth`, API roles, their grants. */
export async function provision(database: Database, root: string): Promise<void> {
  await database.script(getAuthSchemaSql(false));
  await database.script(await Deno.readTextFile(join(root, "local", "bootstrap.sql")));
}
