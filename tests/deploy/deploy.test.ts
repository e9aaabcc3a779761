import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { parse } from "smol-toml";
import { functionNames } from "../support/repository.ts";
import { compare, copyProject, moduleGraph, needsOf, type Project } from "./project.ts";
import { gzipBytes, kib, npmSize, sizeOf } from "./sizes.ts";
import { deploy, type Deployment } from "./supabase_cli.ts";

const NAMES = functionNames();

/** The platform refuses a larger function. */
const BUNDLE_LIMIT_BYTES = 20 * 1024 * 1024;

async function withProject(use: (project: Project) => Promise<void>): Promise<void> {
  const project = await copyProject(NAMES);
  try {
    await use(project);
  } finally {
    await project.remove();
  }
}

function sent(deployment: Deployment, name: string) {
  const captured = deployment.functions.get(name);
  assert(captured, `${name} was not deployed: ${deployment.output}`);
  return captured;
}

Deno.test("the Supabase CLI deploys every function with exactly the files it needs", async (t) => {
  await withProject(async (project) => {
    const deployment = await deploy(project.root);

    await t.step("the CLI is content: exit code 0, no warning, no unknown request", () => {
      assertEquals(deployment.exitCode, 0, deployment.output);
      assert(!/warn/i.test(deployment.output), deployment.output);
      assertEquals(deployment.faults, []);
    });

    await t.step("every folder with an index.ts is a function, and nothing else is", () => {
      assert(NAMES.length >= 3);
      assertEquals([...deployment.functions.keys()].sort(), NAMES);
      assertEquals([...deployment.activated].sort(), NAMES);
    });

    for (const name of NAMES) {
      await t.step(`${name}: nothing is missing and nothing is surplus`, async () => {
        const needs = await needsOf(project.root, name);
        assertEquals(compare(needs, sent(deployment, name).files.keys()), {
          missing: [],
          surplus: [],
        });
      });

      await t.step(
        `${name}: files come from the function, functions-shared and the import map`,
        () => {
          for (const path of sent(deployment, name).files.keys()) {
            const home = path === "import_map.json" || path.startsWith("functions-shared/") ||
              path === `supabase/functions/${name}/index.ts`;
            assert(home && !/test|secret|\.env|\.d\.ts$/.test(path), path);
          }
        },
      );

      await t.step(`${name}: contents arrive as they are in the repository`, async () => {
        for (const [path, content] of sent(deployment, name).files) {
          assertEquals(content, await Deno.readFile(join(project.root, path)), path);
        }
      });

      await t.step(`${name}: metadata as supabase/config.toml says`, async () => {
        const config = await Deno.readTextFile(join(project.root, "supabase/config.toml"));
        const functions = parse(config).functions as Record<string, Record<string, unknown>>;
        assertEquals(functions[name]?.import_map, "../import_map.json");
        assertEquals(typeof functions[name]?.verify_jwt, "boolean");
        assertEquals(sent(deployment, name).metadata, {
          name,
          entrypoint_path: `supabase/functions/${name}/index.ts`,
          import_map_path: "import_map.json",
          static_patterns: [],
          verify_jwt: functions[name]?.verify_jwt === true,
        });
      });
    }

    await t.step("no planted secret is in anything that was sent", () => {
      for (const { files, metadata } of deployment.functions.values()) {
        assert(!JSON.stringify(metadata).includes(project.canary));
        for (const [path, content] of files) {
          assert(!new TextDecoder("latin1").decode(content).includes(project.canary), path);
        }
      }
    });

    await t.step("sizes: within what the platform accepts, packages included", async () => {
      for (const name of NAMES) {
        const files = [...sent(deployment, name).files.values()];
        const own = sizeOf(files);
        const npm = npmSize(await moduleGraph(project.root, name));
        console.log(
          `${name}: ${own.files} files, ${kib(own.bytes)}, ${kib(await gzipBytes(files))} gzip; ` +
            `${npm.files} npm packages, ${kib(npm.bytes)} unpacked`,
        );
        assert(npm.files > 0);
        assert(own.bytes + npm.bytes < BUNDLE_LIMIT_BYTES, `${own.bytes + npm.bytes} bytes`);
      }
    });
  });
});

// The CLI says little when something is wrong, so the comparison above has to: these prove it does.

Deno.test("a missing file: the CLI warns and exits 0, the comparison names the file", async () => {
  await withProject(async (project) => {
    const name = NAMES[0] ?? "";
    const path = `supabase/functions/${name}/index.ts`;
    const source = await Deno.readTextFile(join(project.root, path));
    await Deno.writeTextFile(
      join(project.root, path),
      `import "../../../functions-shared/gone.ts";\n${source}`,
    );
    const deployment = await deploy(project.root, name);
    assertEquals(deployment.exitCode, 0, deployment.output);
    assertMatch(deployment.output, /WARN: .*functions-shared\/gone\.ts/);
    const needs = await needsOf(project.root, name);
    assertEquals(compare(needs, sent(deployment, name).files.keys()), {
      missing: ["functions-shared/gone.ts"],
      surplus: [],
    });
  });
});

Deno.test("a directory alias: the CLI sends the whole folder, the comparison names the planted files", async () => {
  await withProject(async (project) => {
    const name = NAMES[0] ?? "";
    const mapPath = join(project.root, "import_map.json");
    const map = JSON.parse(await Deno.readTextFile(mapPath));
    map.imports["shared/"] = "./functions-shared/";
    await Deno.writeTextFile(mapPath, JSON.stringify(map));
    const deployment = await deploy(project.root, name);
    assertEquals(deployment.exitCode, 0, deployment.output);
    const captured = sent(deployment, name);
    const { surplus } = compare(await needsOf(project.root, name), captured.files.keys());
    assert(surplus.includes("functions-shared/secret.json"), surplus.join(", "));
    assertStringIncludes(
      new TextDecoder().decode(captured.files.get("functions-shared/secret.json")),
      project.canary,
    );
  });
});
