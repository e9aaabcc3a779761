/**
 * `kms import-rows`: rows of an earlier system, handed over as they are, then decrypted under an imported key
 * and stored anew. Repeating it does no harm: rows are known by their `source_id`.
 */
import { Argument, type Command, Option } from "commander";
import type { AdminApi, ImportRun, StagedRow } from "../api.ts";
import { CliError, EXIT, usage } from "../errors.ts";
import { textOrStdin } from "../files.ts";
import type { Host } from "../host.ts";
import type { Io } from "../io.ts";
import { given } from "../options.ts";
import { patiently, sleep } from "../patience.ts";
import { table } from "../text.ts";

/** Rows of one request: a body ends at 64 KiB. */
const MAX_ROWS = 100;
const MAX_BYTES = 48 * 1024;
/** Runs in a row that find all rows in others' hands; a lease ends after two minutes. */
const MAX_IDLE_RUNS = 30;
const IDLE_PAUSE_MS = 5_000;

interface Options {
  readonly encoding: string;
  readonly keyId?: string;
  readonly stageOnly?: boolean;
}

export function importRowsCommand(program: Command, host: Host): void {
  host.command(program, "import-rows", "store rows of an earlier system, one JSON object a line")
    .addArgument(
      new Argument(
        "<file>",
        "NDJSON of {source_id, user_id, ciphertext, as}; - for stdin",
      ),
    )
    .addOption(
      new Option("--encoding <encoding>", "how the ciphertexts are written").choices([
        ...["v1_hex", "hex", "base64_iv_tag_ciphertext", "base64_iv_ciphertext_tag"],
      ]).makeOptionMandatory(),
    )
    .option("--key-id <id>", "the imported key that they are encrypted under")
    .option("--stage-only", "hand them over; somebody else runs the import")
    .action(host.action<Options, [string]>(async (session, options, path) => {
      const { io } = session;
      const rows = readRows(await textOrStdin(path, io));
      const api = await session.admin();
      const staged = await stage(api, rows, options, io);
      const refused = staged.filter(({ outcome }) =>
        outcome === "conflict" || outcome === "owner_not_found"
      );
      const run = options.stageOnly ? null : await runImport(api, io);
      // Of earlier imports as well: somebody has to look at them.
      const failed = run?.remaining.failed ? (await api.failedRows()).rows : [];
      const text = [
        `${staged.length - refused.length} of ${staged.length} rows handed over`,
        ...refused.length === 0 ? [] : [table(refused, ["source_id", "outcome"])],
        ...run === null ? [] : [
          `${run.imported} imported, ${run.remaining.failed} failed, ${run.remaining.pending} left`,
        ],
        ...failed.length === 0 ? [] : [table(failed, ["source_id", "error_code", "error_detail"])],
      ];
      const { pending = 0 } = run?.remaining ?? {};
      const bad = refused.length + failed.length + pending > 0;
      return {
        document: { rows: staged.length, refused, run, failed },
        text: text.join("\n"),
        exit: bad ? EXIT.negative : EXIT.ok,
      };
    }));
}

async function stage(
  api: AdminApi,
  rows: readonly object[],
  { encoding, keyId: key_id }: Options,
  io: Io,
): Promise<StagedRow[]> {
  const staged: StagedRow[] = [];
  for (const items of batches(rows)) {
    requireTime(io);
    const body = given({ key_id, encoding, items });
    const { results } = await patiently(() => api.stageRows(body), io.interrupted);
    staged.push(...results);
    io.err(`${staged.length} of ${rows.length} rows handed over`);
  }
  return staged;
}

async function runImport(api: AdminApi, io: Io): Promise<ImportRun> {
  const sum = { imported: 0, failed: 0 };
  for (let idle = 0;;) {
    requireTime(io);
    const run = await patiently(() => api.runImport(), io.interrupted);
    sum.imported += run.imported;
    sum.failed += run.failed;
    io.err(`${sum.imported} imported, ${sum.failed} failed, ${run.remaining.pending} left`);
    idle = run.imported + run.failed > 0 ? 0 : idle + 1;
    if (run.remaining.pending === 0 || idle === MAX_IDLE_RUNS) return { ...run, ...sum };
    if (idle > 0) await sleep(IDLE_PAUSE_MS, io.interrupted);
  }
}

function requireTime(io: Io): void {
  if (!io.interrupted.aborted) return;
  const message = "interrupted: the same command goes on where this one stopped";
  throw new CliError(EXIT.interrupted, "interrupted", message);
}

/** Every line is read before the first is sent. The fault names the line and quotes nothing. */
function readRows(text: string): readonly object[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  if (lines.length === 0) throw usage("there are no rows");
  return lines.map((line, index) => {
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch {
      // Told below.
    }
    if (typeof row === "object" && row !== null && !Array.isArray(row)) return row;
    throw usage(`line ${index + 1} is not a JSON object`);
  });
}

function* batches(rows: readonly object[]): Generator<readonly object[]> {
  let batch: object[] = [];
  let bytes = 0;
  for (const row of rows) {
    const size = new TextEncoder().encode(JSON.stringify(row)).length + 1;
    if (batch.length > 0 && (batch.length === MAX_ROWS || bytes + size > MAX_BYTES)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(row);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}
