/** Runs the real Supabase CLI against a capture server. */

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
  const home = await Deno.makeTempDir({ prefix: "supabase-cli-" });
  try {
    const profile = join(home, "profile.yaml");
    await Deno.writeTextFile(
      profile,
      [
        "name: capture",
        `api_url: ${capture.url}`,
        `dashboard_url: ${capture.url}`,
        "project_host: 127.0.0.1",
        "",
      ].join("\n"),
    );
    const { code, stdout, stderr } = await new Deno.Command(await executable(), {
      args: [
        ...["functions", "deploy", "--use-api", "--yes", `--remote=${PROJECT_REF}`],
        ...["--workdir", root],
        ...(only ? [only] : []),
      ],
      cwd: root,
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
    return { ...capture, exitCode: code, output: text.decode(stdout) + text.decode(stderr) };
  } finally {
    await capture.close();
    await Deno.remove(home, { recursive: true });
  }
}

let found: Promise<string> | undefined;

/** npm fetches the CLI once, with the caller's own settings; the CLI itself runs in a bare home. */
function executable(): Promise<string> {
  return found ??= output("npx", ["-y", "-p", CLI, "-c", "command -v supabase"]).then(lastLine);
}
