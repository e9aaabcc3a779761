/**
 * Rows that are worked on at the same time: each may cost key calls, and a function has 256 MB and few
 * connections.
 */
const CONCURRENCY = 16;

/** Runs the tasks, 16 at a time; the first failure ends it. */
export async function inTurns<T>(
  tasks: readonly (() => Promise<T>)[],
): Promise<readonly T[]> {
  const results = new Array<T>(tasks.length);
  let next = 0;
  let failed = false;
  const worker = async () => {
    while (next < tasks.length && !failed) {
      const index = next++;
      try {
        results[index] = await (tasks[index] as () => Promise<T>)();
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, tasks.length) }, worker));
  return results;
}
