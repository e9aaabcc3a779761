/** Pastes blocks of runbook 4 into a shell that goes on after a failure, as an operator's does. */

import { assert, assertEquals } from "@std/assert";
import { readRunbooks } from "./runbooks.ts";
import { runScript } from "./session.ts";

const BLOCKS = (readRunbooks().get("4") ?? []).map(({ code }) => code);
const PREAMBLE = readRunbooks().get("0")?.[0]?.code ?? "";

/** The block in which this stands. */
export function block(text: string): string {
  const found = BLOCKS.filter((code) => code.includes(text));
  assertEquals(found.length, 1, text);
  return found[0] ?? "";
}

/** A function of the preamble. */
function helper(name: string): string {
  const found = new RegExp(`^${name}\\(\\) \\{(?: .*\\}$|[\\s\\S]*?^\\}$)`, "m").exec(PREAMBLE)
    ?.[0];
  assert(found, name);
  return found;
}

const HELPERS = ["field", "stop", "patiently"].map(helper).join("\n");

/** A folder and what its shells said. */
export class Shell implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "blocks-" });

  /** Pastes into a new shell. @returns stdout and stderr */
  async paste(...code: string[]): Promise<string> {
    const script = ["set +eu +o pipefail", HELPERS, "sleep() { :; }", ...code, ":"].join("\n");
    const { stdout, stderr } = await runScript(script, this.folder, AbortSignal.timeout(30_000));
    return stdout + stderr;
  }

  write(name: string, value: unknown): void {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    Deno.mkdirSync(`${this.folder}/incident`, { recursive: true });
    Deno.writeTextFileSync(`${this.folder}/${name}`, text);
  }

  read(name: string): string {
    try {
      return Deno.readTextFileSync(`${this.folder}/${name}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}
