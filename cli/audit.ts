/** What the audit's routes answer by pages and portions, put together. */
import type { AdminApi, Period, Pruned, Verification } from "./api.ts";
import { CliError, EXIT } from "./errors.ts";
import { writeNewFile } from "./files.ts";
import type { Io } from "./io.ts";
import { patiently } from "./patience.ts";

/** What one verification takes. */
const MAX_ANCHORS = 200;
const PAGE = 100;
const DAY_MS = 86_400_000;

/** All of the range, and every anchor, however many there are. */
export async function verifyTrail(
  api: AdminApi,
  period: Period,
  anchors: readonly unknown[],
  io: Io,
): Promise<Verification> {
  const ask = (body: Parameters<AdminApi["verifyAudit"]>[0]) =>
    patiently(() => api.verifyAudit(body), io.interrupted);
  const parts: Verification[] = [];
  let cursor: string | null = null;
  do {
    requireTime(io);
    const chunk = parts.length === 0 ? anchors.slice(0, MAX_ANCHORS) : [];
    const part: Verification = await ask({
      ...period,
      ...cursor === null ? {} : { cursor },
      ...chunk.length === 0 ? {} : { anchors: chunk },
    });
    parts.push(part);
    cursor = part.next_cursor;
    if (cursor !== null) io.err(`${sum(parts, "entries")} entries verified`);
  } while (cursor !== null);
  const anchor = parts.at(-1)?.anchor ?? null;
  const whole = { entries: sum(parts, "entries"), days: sum(parts, "days") };
  // Anchors are compared wherever they are; the shortest range that there is goes with the rest of them.
  for (let at = MAX_ANCHORS; at < anchors.length; at += MAX_ANCHORS) {
    requireTime(io);
    const chunk = anchors.slice(at, at + MAX_ANCHORS);
    const day = (chunk[0] as { day?: string } | null)?.day;
    parts.push(await ask({ ...day === undefined ? {} : { from: day, to: day }, anchors: chunk }));
  }
  return {
    valid: parts.every(({ valid }) => valid),
    ...whole,
    faults: parts.flatMap(({ faults }) => faults),
    fault_count: sum(parts, "fault_count"),
    anchor,
    next_cursor: null,
  };
}

export async function allAnchors(api: AdminApi, period: Period, io: Io): Promise<unknown[]> {
  const anchors: unknown[] = [];
  for await (
    const page of pages((cursor) => api.anchors({ ...period, ...cursor, limit: PAGE }), io)
  ) anchors.push(...page.anchors);
  return anchors;
}

/** Day by day, in the order of the chain. */
export async function writeExport(
  api: AdminApi,
  { from, to }: { readonly from: string; readonly to: string },
  path: string,
  io: Io,
): Promise<{ readonly entries: number; readonly bytes: number }> {
  let entries = 0;
  async function* lines(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const encoder = new TextEncoder();
    for (let at = Date.parse(from); at <= Date.parse(to); at += DAY_MS) {
      const day = new Date(at).toISOString().slice(0, 10);
      for await (const page of pages((cursor) => api.exportDay({ day, ...cursor }), io)) {
        entries += page.entries.length;
        yield encoder.encode(page.entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
      }
      io.err(`${day}: ${entries} entries so far`);
    }
  }
  const bytes = await writeNewFile(path, ReadableStream.from(lines()));
  return { entries, bytes };
}

/** In portions, until all days before are gone. */
export async function pruneBefore(api: AdminApi, before: string, io: Io): Promise<Pruned> {
  const parts: Pruned[] = [];
  for (;;) {
    requireTime(io, "interrupted: what is gone is gone, and the same command goes on");
    const part = await patiently(() => api.pruneAudit(before), io.interrupted);
    parts.push(part);
    const [days, entries] = [sum(parts, "days"), sum(parts, "entries")];
    const anchor = parts.findLast((one) => one.anchor !== null)?.anchor ?? null;
    if (part.complete) return { ...part, days, entries, anchor };
    io.err(`${days} days, ${entries} entries gone so far`);
    if (part.days === 0) {
      throw new CliError(EXIT.negative, "no_progress", "the next day is too large for one request");
    }
  }
}

async function* pages<Page extends { readonly next_cursor: string | null }>(
  read: (cursor: { readonly cursor?: string }) => Promise<Page>,
  io: Io,
): AsyncGenerator<Page> {
  let cursor: string | null | undefined;
  do {
    requireTime(io);
    const at: { readonly cursor?: string } = cursor ? { cursor } : {};
    const page: Page = await patiently(() => read(at), io.interrupted);
    yield page;
    cursor = page.next_cursor;
  } while (cursor);
}

function requireTime(io: Io, message = "interrupted: nothing was changed"): void {
  if (io.interrupted.aborted) throw new CliError(EXIT.interrupted, "interrupted", message);
}

function sum<Name extends string>(
  parts: readonly { readonly [Each in Name]: number }[],
  name: Name,
): number {
  return parts.reduce((total, part) => total + part[name], 0);
}
