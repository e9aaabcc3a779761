import { assert, assertEquals } from "@std/assert";
import { loadConfig } from "../../functions-shared/config.ts";
import { ConfigError, type Environment } from "../../functions-shared/environment.ts";
import { readText } from "../support/repository.ts";
import { ACCESS_KEY, AWS, ENV, GCP, PLATFORM, VAULT } from "./support/environment.ts";

const example = readText(".env.example");

/** Every variable that loading a configuration from `env` looks at. */
function namesRead(env: Environment): Set<string> {
  const names = new Set<string>();
  const recording = new Proxy({ ...env }, {
    get(target, name) {
      if (typeof name === "string") names.add(name);
      return Reflect.get(target, name);
    },
  });
  try {
    loadConfig(recording);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
  }
  return names;
}

/** `NAME=value`, also behind `# `; and the platform's, which have no value to give. */
function namesDocumented(): Set<string> {
  const own = example.matchAll(/^(?:# )?([A-Z][A-Z0-9_]*)=/gm);
  const platform = example.matchAll(/^# ((?:SUPABASE|SB)_[A-Z_]+) {2,}\S/gm);
  return new Set([...own, ...platform].map(([, name = ""]) => name));
}

function assignments(pattern: RegExp): Record<string, string> {
  return Object.fromEntries(
    [...example.matchAll(pattern)].map(([, name = "", value = ""]) => [name, value]),
  );
}

Deno.test(".env.example and the configuration name the same variables", () => {
  // Unset legacy names are only looked at when their successors are missing; so are some of ours.
  const read = new Set([AWS, ENV, GCP, VAULT, {}].flatMap((env) => [...namesRead(env)]));
  const documented = namesDocumented();
  assert(read.size > 30);
  assertEquals([...read.difference(documented)], [], "read but not in .env.example");
  assertEquals([...documented.difference(read)], [], "in .env.example but not read");
});

Deno.test("an unchanged copy of .env.example is valid beside the platform's variables and keys", () => {
  const copied = assignments(/^([A-Z][A-Z0-9_]*)=(.*)$/gm);
  const config = loadConfig({ ...PLATFORM, ...ACCESS_KEY, ...copied });
  assertEquals(config.environment, "development");
  assertEquals(config.aws?.fallbackRegions, ["us-west-2", "eu-west-1"]);
});

Deno.test("every example value in .env.example is valid, and every stated default is the default", () => {
  const copied = assignments(/^([A-Z][A-Z0-9_]*)=(.*)$/gm);
  const shown = assignments(/^# ([A-Z][A-Z0-9_]*)=(.+)$/gm);
  loadConfig({ ...PLATFORM, ...ACCESS_KEY, ...copied, ...shown });
  const bare = loadConfig({ ...PLATFORM, ...ACCESS_KEY, ...copied });
  const defaults = [
    ...example.matchAll(/Default:\n?(?:# )? ?([^\n]+?)\.\n(?:#[^\n]*\n)*?# ([A-Z_]+)=(.+)$/gm),
  ]
    .filter(([, stated, , value]) => stated === value);
  assert(defaults.length >= 8, `${defaults.length} defaults found`);
  for (const [, , name = "", value = ""] of defaults) {
    const given = loadConfig({ ...PLATFORM, ...ACCESS_KEY, ...copied, [name]: value });
    assertEquals(given, bare, `${name}=${value} is not the default`);
  }
});

Deno.test(".env.example holds no credential", () => {
  for (
    const name of [
      "AWS_ACCESS_KEY_ID",
      "AWS_SECRET_ACCESS_KEY",
      "AWS_SESSION_TOKEN",
      "ENCRYPTION_KEY",
      "GOOGLE_CREDENTIALS_JSON",
      "GOOGLE_ACCESS_TOKEN",
      "VAULT_TOKEN",
      "VAULT_SECRET_ID",
    ]
  ) {
    const [, value] = new RegExp(`^(?:# )?${name}=(.*)$`, "m").exec(example) ?? [];
    assertEquals(value, "", name);
  }
});
