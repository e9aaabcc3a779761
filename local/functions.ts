import { type FunctionSettings } from "./config-toml.ts";
import { ControlSocket } from "./control-socket.ts";
import type { DataDir } from "./data-dir.ts";
import { cacheDependencies, type DenoCli, resolutionFlags, runtimeEnv } from "./deno-cli.ts";
import { FunctionLog } from "./function-log.ts";
import { FunctionProcess } from "./function-process.ts";
import { type Env, withoutEmpty } from "./platform-env.ts";

/** The functions of one stack, each in a process of its own. */
export interface Functions {
  readonly settings: ReadonlyMap<string, FunctionSettings>;
  /** Where the function answers; null when it failed to boot. Waits while it boots. */
  origin(name: string): Promise<string | null>;
  /** Resolves once the process that answered at `origin` has ended, or after `ms`. */
  ended(name: string, origin: string, ms: number): Promise<void>;
  log(name: string): string;
  /** Process ids of those that run now. */
  pids(): number[];
  /**
   * Starts a function again. `changes` are laid over the environment of all functions (an empty
   * value removes a variable); without them it keeps what it has. Resolves to whether it booted.
   */
  restart(name: string, changes?: Env): Promise<boolean>;
  /** Replaces the environment of all functions, but for what `restart` laid over it, and starts them again. */
  setEnvironment(env: Env): Promise<void>;
  /** Downloads imports that may be new, then starts these functions again (default: all). */
  reload(names?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export interface FunctionsOptions {
  readonly settings: readonly FunctionSettings[];
  readonly deno: DenoCli;
  readonly env: Env;
  readonly dataDir: DataDir;
  /** Called for each line that a function writes. */
  readonly onLine?: (name: string, line: string) => void;
}

/** Starts every function and resolves once each has booted or failed to. */
export async function startFunctions(options: FunctionsOptions): Promise<Functions> {
  const { settings, deno, dataDir, onLine } = options;
  const byName = new Map(settings.map((one) => [one.name, one]));
  await Deno.mkdir(dataDir.file("functions"), { recursive: true, mode: 0o700 });
  await Deno.mkdir(dataDir.file("logs"), { recursive: true, mode: 0o700 });
  const [runtime] = await Promise.all([runtimeEnv(deno), cacheDependencies(deno, settings)]);
  const control = new ControlSocket();
  const logs = new Map<string, FunctionLog>();
  const processes = new Map<string, FunctionProcess>();
  const overlays = new Map<string, Env>();
  let env = options.env;
  for (const one of settings) {
    const log = new FunctionLog(
      dataDir.file("logs", `${one.name}.log`),
      (line) => onLine?.(one.name, line),
    );
    logs.set(one.name, log);
    processes.set(
      one.name,
      new FunctionProcess({
        settings: one,
        executable: deno.executable,
        flags: await resolutionFlags(deno, one.importMap),
        runtimeEnv: runtime,
        launcher: dataDir.file("functions", `${one.name}.ts`),
        control,
        log,
      }),
    );
  }
  const named = (name: string): FunctionProcess => {
    const process = processes.get(name);
    if (!process) throw new Error(`there is no function ${name}`);
    return process;
  };
  const environmentOf = (name: string) => withoutEmpty({ ...env, ...overlays.get(name) });
  await Promise.all([...processes.values()].map((process) => process.restart(env)));
  return {
    settings: byName,
    origin: (name) => named(name).origin(),
    ended: (name, origin, ms) => named(name).ended(origin, ms),
    log: (name) => logs.get(name)?.text ?? "",
    pids: () => [...processes.values()].flatMap(({ pid }) => pid === null ? [] : [pid]),
    restart: (name, changes) => {
      if (changes) overlays.set(name, changes);
      return named(name).restart(environmentOf(name));
    },
    setEnvironment: async (next) => {
      env = next;
      await Promise.all(
        [...processes].map(([name, process]) => process.restart(environmentOf(name))),
      );
    },
    reload: async (names = [...processes.keys()]) => {
      const chosen = settings.filter((one) => names.includes(one.name));
      await cacheDependencies(deno, chosen);
      await Promise.all(chosen.map((one) => named(one.name).restart()));
    },
    close: async () => {
      await Promise.all([...processes.values()].map((process) => process.stop()));
      control.close();
      for (const log of logs.values()) log.close();
    },
  };
}
