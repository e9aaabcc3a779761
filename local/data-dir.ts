import { join, resolve } from "node:path";
import { StackError } from "./errors.ts";
import { readTextFileIfAny, writePrivateFile } from "./private-file.ts";

/** Proves that a directory is ours before anything in it is removed. */
const MARKER = "stack-data.txt";
const MARKER_TEXT = "State of the embedded stack: database, keys, logs. Remove it with --reset.\n";
const LOCK = "lock";

/** Where one stack keeps its database, keys and logs. Locked for as long as it is open. */
export interface DataDir {
  /** Absolute path. */
  readonly path: string;
  /** Absolute path of a file or folder in it. */
  file(...names: string[]): string;
  close(): void;
}

/**
 * Opens (and makes, mode 0700) the data directory and takes its lock. The lock is the operating
 * system's: it ends with the process that holds it, however that process ends, so a stale one
 * cannot exist. PGlite has no lock of its own and two processes on one folder corrupt it.
 *
 * @param reset remove everything in the directory first; keys, users and rows are gone for good
 * @throws {StackError} when another process holds the lock, or the directory holds other files
 */
export async function openDataDir(
  path: string,
  { reset = false }: { reset?: boolean } = {},
): Promise<DataDir> {
  const root = resolve(path);
  await assertOurs(root);
  await Deno.mkdir(root, { recursive: true, mode: 0o700 });
  const lock = await Deno.open(join(root, LOCK), {
    read: true,
    write: true,
    create: true,
    mode: 0o600,
  });
  if (!await lock.tryLock(true)) {
    lock.close();
    const holder = (await readTextFileIfAny(join(root, LOCK)))?.trim();
    throw new StackError(
      `another stack${holder ? ` (process ${holder})` : ""} is using ${root}: stop it, or give ` +
        `this one its own directory with --data-dir`,
    );
  }
  try {
    await lock.truncate(0);
    await lock.write(new TextEncoder().encode(`${Deno.pid}\n`));
    if (reset) await removeAllBut(root, [LOCK, MARKER]);
    await writePrivateFile(join(root, MARKER), MARKER_TEXT);
  } catch (error) {
    lock.close();
    throw error;
  }
  return { path: root, file: (...names) => join(root, ...names), close: () => lock.close() };
}

async function assertOurs(root: string): Promise<void> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(root)) names.push(entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    if (error instanceof Deno.errors.NotADirectory) {
      throw new StackError(`${root} is a file: --data-dir takes a directory`);
    }
    throw error;
  }
  if (names.length === 0 || names.includes(MARKER)) return;
  throw new StackError(
    `${root} holds files that are not the stack's (no ${MARKER} in it): give an empty or a new ` +
      `directory with --data-dir`,
  );
}

async function removeAllBut(root: string, kept: readonly string[]): Promise<void> {
  for await (const entry of Deno.readDir(root)) {
    if (!kept.includes(entry.name)) await Deno.remove(join(root, entry.name), { recursive: true });
  }
}
