/** `kms import-rows`: rows of an earlier system, decrypted under an imported key and stored anew. */
import { Argument, type Command } from "commander";
import { CliError, EXIT, usage } from "../errors.ts";
import { textOrStdin } from "../files.ts";
import type { Host } from "../host.ts";

/** Rows of one request: a body ends at 64 KiB. */
const MAX_ROWS = 100;
const MAX_BYTES = 48 * 1024;

export function importRowsCommand(program: Command, host: Host): void {
  host.command(program, "import-rows", "store rows of an earlier system, one JSON object a line")
    .addArgument(new Argument("<file>", "the rows (NDJSON); - for stdin"))
    .requiredOption("--key-id <name>", "the imported key that they are encrypted under")
    .action(
      host.action<{ readonly keyId: string }, [string]>(async (session, { keyId }, path) => {
        const { io } = session;
        const rows = readRows(await textOrStdin(path, io));
        const api = await session.admin();
        const results: { line: number; status: number }[] = [];
        for (const batch of batches(rows)) {
          if (io.interrupted.aborted) {
            throw new CliError(
              EXIT.interrupted,
              "interrupted",
              `interrupted after line ${results.length}`,
            );
          }
          const answer = await api.importRows({ key_id: keyId, rows: batch });
          for (const result of answer.results) {
            results.push({ line: results.length + 1, ...result });
          }
          io.err(`${results.length} of ${rows.length} rows`);
        }
        const failed = results.filter(({ status }) => status >= 400);
        return {
          document: { rows: rows.length, failed: failed.length, results },
          text: [
            `${rows.length - failed.length} rows imported, ${failed.length} failed`,
            ...failed.map((result) => `line ${result.line}: ${JSON.stringify(result)}`),
          ].join("\n"),
          exit: failed.length === 0 ? EXIT.ok : EXIT.negative,
        };
      }),
    );
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
