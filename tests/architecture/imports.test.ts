import { assert, assertEquals } from "@std/assert";
import { faultsOf, layerOf, type Tree } from "./direction.ts";
import { LAYERS } from "./layers.ts";
import { importMap, listFiles, readText } from "../support/repository.ts";
import { readFacts } from "./source_facts.ts";

function sourceTree(): Tree {
  const sources = listFiles().filter((path) => /\.[mc]?[jt]sx?$/.test(path));
  return {
    files: new Map(sources.map((path) => [path, readText(path)])),
    packages: new Set(Object.keys(importMap())),
  };
}

Deno.test("imports point downwards only, through relative paths and pinned packages", () => {
  const tree = sourceTree();
  assert([...tree.files.keys()].some((path) => path.startsWith("functions-shared/message/")));
  const faults = [...tree.files.keys()].flatMap((path) =>
    faultsOf(path, tree).map((fault) => `${path}: ${fault}`)
  );
  assertEquals(faults, []);
});

Deno.test("layers: every name in the table is a layer, and no two layers import each other", () => {
  const byName = new Map(LAYERS.map((layer) => [layer.name, layer]));
  assertEquals(byName.size, LAYERS.length);
  const useCases = new Set(["payments", "records", "health", "wallets", "admin"]);
  for (const layer of LAYERS) {
    for (const name of layer.imports) {
      const other = byName.get(name);
      assert(other, `${layer.name} imports ${name}, which is no layer`);
      const siblings = useCases.has(layer.name) && useCases.has(name) ||
        layer.name === "authentication" || name === "authentication";
      assert(siblings || !other.imports.includes(layer.name), `${layer.name} <-> ${name}`);
    }
  }
});

Deno.test("the import map pins exact npm versions and names no local file", () => {
  // The deploy tool uploads every local file that the import map names, reached or not.
  for (const [name, target] of Object.entries(importMap())) {
    assert(
      /^npm:(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+(\/[\w./-]+)?$/.test(target),
      `${name} -> ${target}`,
    );
  }
});

Deno.test("every name of the import map is imported somewhere", () => {
  const used = new Set<string>();
  for (const [path, source] of sourceTree().files) {
    for (const { specifier } of readFacts(path, source).imports) if (specifier) used.add(specifier);
  }
  assertEquals(Object.keys(importMap()).filter((name) => !used.has(name)), []);
});

const SHARED = "functions-shared";
const hostile: readonly [criterion: string, path: string, source: string, fault: RegExp][] = [
  [
    "message imports keys",
    `${SHARED}/message/x.ts`,
    `import { k } from "../keys/k.ts";`,
    /imports \.\.\/keys\/k\.ts: message may not import keys$/,
  ],
  [
    "a type import counts",
    `${SHARED}/message/x.ts`,
    `import type { K } from "../keys/k.ts";`,
    /message may not import keys/,
  ],
  [
    "an import() type counts",
    `${SHARED}/keys/x.ts`,
    `type A = import("../http/app.ts").App;`,
    /keys may not import http/,
  ],
  [
    "a re-export counts",
    `${SHARED}/payments/x.ts`,
    `export * from "../http/app.ts";`,
    /payments may not import http/,
  ],
  [
    "a dynamic import counts",
    `${SHARED}/records/x.ts`,
    `await import("../endpoints/e.ts");`,
    /records may not import endpoints/,
  ],
  [
    "a dynamic import of an expression",
    `${SHARED}/records/x.ts`,
    `await import(name);`,
    /imports an expression/,
  ],
  [
    "a use case imports the AWS adapter",
    `${SHARED}/payments/x.ts`,
    `import { Kms } from "../keys/providers/aws/kms.ts";`,
    /payments may not import aws/,
  ],
  [
    "a use case imports the AWS SDK",
    `${SHARED}/payments/x.ts`,
    `import { KMSClient } from "@aws-sdk/client-kms";`,
    /payments may not use this package/,
  ],
  [
    "keys outside providers/aws imports the AWS SDK",
    `${SHARED}/keys/providers/env.ts`,
    `import { KMSClient } from "@aws-sdk/client-kms";`,
    /key providers may not use this package/,
  ],
  [
    "supabase-js outside its adapter",
    `${SHARED}/http/app.ts`,
    `import { createClient } from "@supabase/supabase-js";`,
    /http may not use this package/,
  ],
  ["message imports npm", `${SHARED}/message/x.ts`, `import { z } from "valibot";`, /may not use/],
  ["message imports node:fs", `${SHARED}/message/x.ts`, `import fs from "node:fs";`, /may not use/],
  ["an inline npm: import", `${SHARED}/http/x.ts`, `import "npm:hono@4";`, /import_map\.json only/],
  [
    "an inline https: import in a test",
    "tests/unit/x.test.ts",
    `import "https://example.com/x.ts";`,
    /import_map\.json only/,
  ],
  ["a package nobody pinned", "local/x.ts", `import "left-pad";`, /not in import_map\.json/],
  [
    "a test imported by deployed code",
    `${SHARED}/http/x.ts`,
    `import "../../tests/support/t.ts";`,
    /only files of the deployed layers/,
  ],
  [
    "the local stack imported by a function",
    "supabase/functions/f/index.ts",
    `import "../../../local/stack.ts";`,
    /only files of the deployed layers/,
  ],
  [
    "a test imported by the local stack",
    "local/x.ts",
    `import "../tests/support/t.ts";`,
    /local may not import tests/,
  ],
  [
    "the command line imported by the local stack",
    "local/x.ts",
    `import "../cli/run.ts";`,
    /nothing imports cli/,
  ],
  [
    "the command line imported by deployed code",
    `${SHARED}/http/x.ts`,
    `import "../../cli/run.ts";`,
    /only files of the deployed layers/,
  ],
  [
    "a use case imported by the command line",
    "cli/x.ts",
    `import "../functions-shared/payments/p.ts";`,
    /cli may not import this/,
  ],
  [
    "the stack itself imported by the command line",
    "cli/x.ts",
    `import "../local/stack.ts";`,
    /cli may not import this/,
  ],
  ["a missing file", `${SHARED}/http/x.ts`, `import "./gone.ts";`, /no such file/],
  [
    "a function that imports a use case",
    "supabase/functions/f/index.ts",
    `import "../../../functions-shared/payments/p.ts";`,
    /functions may not import payments/,
  ],
  ["a file of no layer", `${SHARED}/misc/x.ts`, `export {};`, /belongs to no layer/],
  [
    "a file beside a function's index.ts",
    "supabase/functions/f/helper.ts",
    `export {};`,
    /belongs to no layer/,
  ],
  ["Deno.env", `${SHARED}/http/x.ts`, `Deno.env.get("A");`, /uses Deno\.env, which http may not/],
  ["Deno destructured", `${SHARED}/http/x.ts`, `const { env } = Deno;`, /uses Deno,/],
  ["globalThis.Deno", `${SHARED}/http/x.ts`, `globalThis.Deno.env;`, /uses Deno,/],
  ["globalThis[name]", `${SHARED}/http/x.ts`, `globalThis[name];`, /uses globalThis\.\*,/],
  [
    "globalThis by another name",
    `${SHARED}/http/x.ts`,
    `const g = globalThis;`,
    /uses globalThis,/,
  ],
  ["process.env", `${SHARED}/http/x.ts`, `process.env.A;`, /uses process\.env,/],
  ["more of Deno than env", `${SHARED}/runtime.ts`, `Deno.serve(h);`, /uses Deno\.serve,/],
  ["a clock in message", `${SHARED}/message/x.ts`, `const t = Date.now();`, /uses Date\.now,/],
  ["new Date in message", `${SHARED}/message/x.ts`, `const t = new Date();`, /uses Date,/],
  ["performance in message", `${SHARED}/message/x.ts`, `performance.now();`, /performance/],
  ["fetch in message", `${SHARED}/message/x.ts`, `await fetch("x");`, /uses fetch,/],
  ["fetch through globalThis", `${SHARED}/message/x.ts`, `globalThis.fetch("x");`, /uses fetch,/],
  ["Math.random in message", `${SHARED}/message/x.ts`, `Math.random();`, /uses Math\.random,/],
];

function fixture(path: string, source: string): Tree {
  const others = [
    ...["keys/k.ts", "keys/providers/aws/kms.ts", "http/app.ts", "endpoints/e.ts"],
    ...["payments/p.ts", "message/m.ts", "runtime.ts"],
  ].map((name) => `${SHARED}/${name}`);
  const files = [
    ...others,
    ...["local/stack.ts", "local/stack-file.ts", "tests/support/t.ts", "cli/run.ts"],
  ];
  return {
    files: new Map([...files.map((name): [string, string] => [name, ""]), [path, source]]),
    packages: new Set(["valibot", "hono", "@aws-sdk/client-kms", "@supabase/supabase-js"]),
  };
}

Deno.test("the check sees a violation: each hostile file has the fault it was made for", async (t) => {
  for (const [criterion, path, source, fault] of hostile) {
    await t.step(criterion, () => {
      const faults = faultsOf(path, fixture(path, source));
      assert(faults.length > 0, "no fault found");
      assert(faults.some((text) => fault.test(text)), faults.join("; "));
    });
  }
});

Deno.test("the check is quiet about what is allowed", () => {
  const allowed: readonly [path: string, source: string][] = [
    [`${SHARED}/runtime.ts`, `import "./keys/providers/aws/kms.ts"; Deno.env.get("A");`],
    [`${SHARED}/keys/providers/aws/x.ts`, `import { KMSClient } from "@aws-sdk/client-kms";`],
    [`${SHARED}/payments/x.ts`, `import { k } from "../keys/k.ts"; import * as v from "valibot";`],
    [
      `${SHARED}/message/x.ts`,
      `// import "npm:x"; Deno.env; fetch()\nexport const a = "Date.now()";`,
    ],
    [`${SHARED}/message/x.ts`, `export const o = { fetch: 1, Date: 2 }; o.fetch; o.Date;`],
    ["supabase/functions/f/index.ts", `import { r } from "../../../functions-shared/runtime.ts";`],
    [
      "local/x.ts",
      `import "../functions-shared/keys/k.ts"; import "node:fs"; Deno.env.get("HOME");`,
    ],
    [
      "cli/x.ts",
      `import "./run.ts"; import "../local/stack-file.ts"; import "../functions-shared/keys/k.ts";`,
    ],
    ["tests/cli/x.test.ts", `import "../../cli/run.ts";`],
    [
      "tests/unit/x.test.ts",
      `import "../../local/stack.ts"; import "../../functions-shared/http/app.ts";`,
    ],
  ];
  for (const [path, source] of allowed) assertEquals(faultsOf(path, fixture(path, source)), []);
});

Deno.test("layerOf: the most specific place wins", () => {
  assertEquals(layerOf(`${SHARED}/http/auth.ts`)?.name, "authentication");
  assertEquals(layerOf(`${SHARED}/keys/providers/aws/kms.ts`)?.name, "aws");
  assertEquals(layerOf(`${SHARED}/keys/providers/env.ts`)?.name, "key providers");
  assertEquals(layerOf(`${SHARED}/unknown.ts`), undefined);
});
