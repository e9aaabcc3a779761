/** Files that an operator hands in or takes away. */
import { CliError, EXIT, usage } from "./errors.ts";
import type { Io } from "./io.ts";

const MAX_BYTES = 64 * 1024 * 1024;

/** The text of a file that holds a secret. @throws {CliError} when others on this machine can read it */
export async function privateText(path: string): Promise<string> {
  await requirePrivate(path);
  return await text(path);
}

export async function requirePrivate(path: string): Promise<void> {
  const { mode } = await reading(path, () => Deno.stat(path));
  // Windows has no mode.
  if (mode !== null && (mode & 0o077) !== 0) {
    throw usage(`${path} holds a secret and others can read it: chmod 600 ${path}`);
  }
}

/** The text of a file, or of stdin for `-`. */
export async function textOrStdin(path: string, io: Io): Promise<string> {
  return path === "-" ? await io.stdin() : await text(path);
}

/** A JSON file, or stdin for `-`. The fault names the place and quotes nothing: it may be a credential. */
export async function jsonOrStdin(path: string, io: Io): Promise<unknown> {
  const content = await textOrStdin(path, io);
  try {
    return JSON.parse(content);
  } catch {
    throw usage(`${path === "-" ? "stdin" : path} is not JSON`);
  }
}

async function text(path: string): Promise<string> {
  const { size, isFile } = await reading(path, () => Deno.stat(path));
  if (isFile && size > MAX_BYTES) throw usage(`${path} is larger than 64 MiB`);
  return await reading(path, () => Deno.readTextFile(path));
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    const why = cause instanceof Deno.errors.NotFound ? "does not exist" : "cannot be read";
    throw new CliError(EXIT.usage, "usage", `${path} ${why}`, { cause });
  }
}

/**
 * Writes a new file, mode 0600: all of it, or nothing under its name. One that is there is never replaced.
 *
 * @returns its bytes
 */
export async function writeNewFile(
  path: string,
  content: ReadableStream<Uint8Array<ArrayBuffer>>,
): Promise<number> {
  const partial = `${path}.part`;
  const exists = await Deno.lstat(path).then(() => true, () => false);
  if (exists) throw usage(`${path} exists: choose another name`);
  let size = 0;
  try {
    const file = await Deno.open(partial, { write: true, createNew: true, mode: 0o600 });
    await content
      .pipeThrough(
        new TransformStream({
          transform(chunk, controller) {
            size += chunk.length;
            controller.enqueue(chunk);
          },
        }),
      )
      .pipeTo(file.writable);
    await Deno.rename(partial, path);
  } catch (cause) {
    if (cause instanceof Deno.errors.AlreadyExists) {
      throw usage(`${partial} exists: is another export running?`);
    }
    await Deno.remove(partial).catch(() => {});
    if (cause instanceof CliError) throw cause;
    throw new CliError(EXIT.usage, "not_written", `${path} could not be written`, { cause });
  }
  return size;
}
