import { join, relative, sep } from "node:path";

/** Quiet time after the last change before anything restarts, in milliseconds. */
const DEBOUNCE_MS = 150;

/**
 * Watches what functions are made of: a change in `supabase/functions/<name>/` restarts that
 * function, one in `functions-shared/` or in a shared folder (`_...`) restarts all.
 *
 * @param changed called with the functions to restart; never again before it has resolved
 * @returns stops watching
 */
export function watchFunctions(
  root: string,
  names: readonly string[],
  changed: (names: readonly string[]) => Promise<void>,
): () => void {
  const functions = join(root, "supabase", "functions");
  const folders = [functions, join(root, "functions-shared")].filter(isFolder);
  if (folders.length === 0) return () => {};
  const watcher = Deno.watchFs(folders);
  const pending = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let busy: Promise<void> | null = null;

  const flush = () => {
    if (busy) return;
    const batch = [...pending];
    pending.clear();
    if (batch.length === 0) return;
    busy = changed(batch).catch(() => {}).finally(() => {
      busy = null;
      flush();
    });
  };
  void (async () => {
    for await (const event of watcher) {
      if (event.kind === "access") continue;
      for (const path of event.paths) {
        for (const name of affected(relative(functions, path), names)) pending.add(name);
      }
      clearTimeout(timer);
      timer = setTimeout(flush, DEBOUNCE_MS);
    }
  })();
  return () => {
    clearTimeout(timer);
    pending.clear();
    watcher.close();
  };
}

function affected(path: string, names: readonly string[]): readonly string[] {
  const [first = ""] = path.split(sep);
  if (names.includes(first)) return [first];
  // A folder that is no function and not shared is one that was not there at the start.
  return first === ".." || first.startsWith("_") ? names : [];
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
