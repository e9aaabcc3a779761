/** Runs the real Supabase CLI against a capture server, or against the embedded stack. */

import { join } from "node:path";
import { type CaptureServer, startCapture } from "./capture.ts";
import { lastLine, output } from "./command.ts";

const CLI = "supabase@3.1.0";
const PROJECT_REF = "abcdefghijklmnopqrst";
/** The form the CLI insists on; random, and known to the capture server alone. */
const accessToken = () => `sbp_${crypto.getRandomValues(new Uint8Array(20)).toHex()}`;

export interface Deployment extends Omit<CaptureServer, "close"> {
  readonly exitCode: number;
  /** Standard output and error, as printed. */
  readonly output: string;
}

/** `supabase functions deploy --use-api` for the project, or for one function of it. */
export async function deploy(root: string, only?: string): Promise<Deployment> {
  const token = accessToken();
  const capture = startCapture({ projectRef: PROJECT_REF, accessToken: token });
  try {
    const { code, stdout, stderr } = await supabase({ apiUrl: capture.url, token }, [
      ...["functions", "deploy", "--use-api", "--yes", `--remote=${PROJECT_REF}`],
      ...["--workdir", root],
      ...(only ? [only] : []),
    ], root);
    return { ...capture, exitCode: code, output: stdout + stderr };
  } finally {
    await capture.close();
  }
}

/** Runs the CLI against a management API. */
export async function supabase(
  { apiUrl, token }: { apiUrl: string; token: string },
  args: readonly string[],
  cwd?: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const home = await Deno.makeTempDir({ prefix: "supabase-cli-" });
  try {
    const profile = join(home, "profile.yaml");
    await Deno.writeTextFile(
      profile,
      [
        "name: capture",
        `api_url: ${apiUrl}`,
        `dashboard_url: ${apiUrl}`,
        "project_host: 127.0.0.1",
        "",
      ].join("\n"),
    );
    const { code, stdout, stderr } = await new Deno.Command(await executable(), {
      args: [...args],
      cwd: cwd ?? home,
      clearEnv: true,
      env: {
        PATH: Deno.env.get("PATH") ?? "",
        HOME: home,
        NO_COLOR: "1",
        DO_NOT_TRACK: "1",
        SUPABASE_PROFILE: profile,
        SUPABASE_ACCESS_TOKEN: token,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

let found: Promise<string> | undefined;

/** npm fetches the CLI once, with the caller's own settings; the CLI itself runs in a bare home. */
function executable(): Promise<string> {
  return found ??= output("npx", ["-y", "-p", CLI, "-c", "command -v supabase"]).then(lastLine);
}
