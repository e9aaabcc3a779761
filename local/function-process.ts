import { pathToFileURL } from "node:url";
import type { FunctionSettings } from "./config-toml.ts";
import type { ControlSocket } from "./control-socket.ts";
import { messageOf } from "./errors.ts";
import { Exclusive } from "./exclusive.ts";
import type { FunctionLog } from "./function-log.ts";
import { accepts, freePort } from "./ports.ts";
import type { Env } from "./platform-env.ts";
import { writePrivateFile } from "./private-file.ts";

/** Longest a function may take to boot, in milliseconds. Its first start compiles its code. */
const BOOT_TIMEOUT_MS = 60_000;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 10_000;
/** A process that lived this long has not failed at its start: the next backoff is the first. */
const STABLE_MS = 10_000;

/** How to start the process of one function. */
export interface FunctionLaunch {
  readonly settings: FunctionSettings;
  readonly executable: string;
  /** Flags that resolve its imports. */
  readonly flags: readonly string[];
  /** What the executable needs; hidden from the function. */
  readonly runtimeEnv: Env;
  /** File to write the launcher to. */
  readonly launcher: string;
  readonly control: ControlSocket;
  readonly log: FunctionLog;
}

type Boot = { readonly origin: string } | { readonly failed: string };

/** Keeps one function running: starts it, starts it again with backoff when it ends. */
export class FunctionProcess {
  readonly name: string;
  #env: Env = {};
  #boot: Promise<Boot> = Promise.resolve({ failed: "not started" });
  #child: Deno.ChildProcess | null = null;
  #answering: string | null = null;
  #running: Promise<void> = Promise.resolve();
  readonly #turn = new Exclusive();
  /** Ends the current run, and with it any pause before the next start. */
  #stop: AbortController = new AbortController();

  constructor(private readonly launch: FunctionLaunch) {
    this.name = launch.settings.name;
  }

  /** Process id while a process is alive. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** `http://127.0.0.1:PORT` once the function answers; null when it failed to boot. */
  async origin(): Promise<string | null> {
    const boot = await this.#boot;
    return "origin" in boot ? boot.origin : null;
  }

  /** Resolves once the process that answered at `origin` is known to have ended, or after `ms`. */
  async ended(origin: string, ms: number): Promise<void> {
    for (let waited = 0; waited < ms; waited += 5) {
      if (this.#answering !== origin) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /**
   * Stops the process, if any, and starts it with `env` (default: what it has by then; a restart
   * before this one may bring another). Resolves to whether it booted.
   */
  async restart(env?: Env): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<Boot>();
    this.#boot = promise;
    await this.#turn.run(async () => {
      await this.#end();
      if (env) this.#env = env;
      this.#stop = new AbortController();
      this.#running = this.#keepRunning(this.#stop.signal, resolve);
    });
    return "origin" in await promise;
  }

  stop(): Promise<void> {
    return this.#turn.run(() => this.#end());
  }

  async #end(): Promise<void> {
    this.#stop.abort();
    kill(this.#child);
    await this.#running;
  }

  async #keepRunning(stop: AbortSignal, first: (boot: Boot) => void): Promise<void> {
    let announce = first;
    let backoffMs = FIRST_BACKOFF_MS;
    while (!stop.aborted) {
      const startedAt = Date.now();
      const status = await this.#runOnce(announce, stop).catch((error): Exit => {
        announce({ failed: messageOf(error) });
        return { reason: messageOf(error), booted: false };
      });
      if (stop.aborted || status.signal === "SIGINT") break;
      if (status.booted && Date.now() - startedAt > STABLE_MS) backoffMs = FIRST_BACKOFF_MS;
      this.launch.log.note(`[stack] ${this.name} ${status.reason}; next start in ${backoffMs} ms`);
      // After a crash requests wait for the new process; after a failed boot they are told so.
      if (status.booted) {
        const next = Promise.withResolvers<Boot>();
        this.#boot = next.promise;
        announce = next.resolve;
        await pause(backoffMs, stop);
      } else {
        await pause(backoffMs, stop);
        announce = (boot) => {
          if (!stop.aborted) this.#boot = Promise.resolve(boot);
        };
      }
      backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
    }
    announce({ failed: "stopped" });
  }

  async #runOnce(announce: (boot: Boot) => void, stop: AbortSignal): Promise<Exit> {
    const { settings, executable, flags, runtimeEnv, launcher, control, log } = this.launch;
    await writePrivateFile(launcher, launcherCode(settings.entrypoint));
    const port = freePort();
    const { address, booted, forget } = control.expect();
    if (stop.aborted) return { reason: "stopped", booted: false };
    const child = new Deno.Command(executable, {
      args: [
        "serve",
        "--host=127.0.0.1",
        `--port=${port}`,
        "--allow-net",
        "--allow-env",
        "--no-prompt",
        "--cached-only",
        "--no-check",
        "--quiet",
        ...flags,
        // Quiets a warning of newer Denos; the edge runtime's level does not know the flag.
        ...executable === Deno.execPath() ? ["--unstable-no-legacy-abort"] : [],
        launcher,
      ],
      clearEnv: true,
      env: {
        ...this.#env,
        ...runtimeEnv,
        NO_COLOR: "1",
        STACK_CONTROL: `${address}:${Object.keys(this.#env).join(",")}`,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#child = child;
    if (stop.aborted) kill(child);
    const output = Promise.all([log.follow(child.stdout), log.follow(child.stderr)]);
    const exited = child.status.then((status) => ({ status }));
    let isBooted = false;
    try {
      const tooLong = setTimeout(() => kill(child), BOOT_TIMEOUT_MS);
      const hasRun = await Promise.race([booted.then(() => true), exited.then(() => false)]);
      clearTimeout(tooLong);
      if (hasRun && await listens(port, exited)) {
        isBooted = true;
        this.#answering = `http://127.0.0.1:${port}`;
        announce({ origin: this.#answering });
      } else {
        kill(child);
        announce({ failed: "it did not boot" });
      }
      const { status } = await exited;
      await output;
      const how = status.signal ? `was ended by ${status.signal}` : `ended with ${status.code}`;
      return {
        reason: isBooted ? how : `failed to boot and ${how}`,
        booted: isBooted,
        signal: status.signal,
      };
    } finally {
      forget();
      this.#child = null;
      this.#answering = null;
    }
  }
}

interface Exit {
  readonly reason: string;
  readonly booted: boolean;
  readonly signal?: Deno.Signal | null;
}

function launcherCode(entrypoint: string): string {
  const host = new URL("./function-host.ts", import.meta.url).href;
  return `// Written at every start of the function.\n` +
    `import { host } from ${JSON.stringify(host)};\n` +
    `import * as entrypoint from ${JSON.stringify(pathToFileURL(entrypoint).href)};\n` +
    `export default host(entrypoint);\n`;
}

/** `deno serve` listens right after the code has run. */
async function listens(port: number, exited: Promise<unknown>): Promise<boolean> {
  let alive = true;
  void exited.then(() => alive = false);
  while (alive) {
    if (await accepts(port)) return true;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return false;
}

function kill(child: Deno.ChildProcess | null): void {
  try {
    child?.kill("SIGKILL");
  } catch {
    // It has ended already.
  }
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    stop.addEventListener("abort", done);
  });
}
