/** Judges one file against the layers: which imports and globals it may not have, and why. */

import { dirname, join, normalize } from "node:path/posix";
import { HOST_GLOBALS, type Layer, LAYERS } from "./layers.ts";
import { readFacts } from "./source_facts.ts";

export interface Tree {
  /** Every TypeScript file, relative to the repository's root, with its source. */
  readonly files: ReadonlyMap<string, string>;
  /** The names of the import map. */
  readonly packages: ReadonlySet<string>;
}

export function layerOf(path: string): Layer | undefined {
  return LAYERS.find((layer) => layer.files.test(path));
}

/** @returns one sentence for each fault, empty when the file keeps to its place */
export function faultsOf(path: string, tree: Tree): string[] {
  const source = tree.files.get(path);
  if (source === undefined) throw new Error(`${path} is not in the tree`);
  const { imports, names } = readFacts(path, source);
  const layer = layerOf(path);
  const deployed = /^(functions-shared|supabase\/functions)\//.test(path);
  const faults: string[] = [];
  if (deployed && !layer) faults.push("belongs to no layer: add it to layers.ts");

  for (const { specifier } of imports) {
    if (specifier === undefined) {
      if (deployed) faults.push("imports an expression: the deploy tool cannot follow it");
      continue;
    }
    const fault = importFault(path, specifier, layer, deployed, tree);
    if (fault) faults.push(`imports ${specifier}: ${fault}`);
  }
  if (layer) {
    const allowed = new Set(layer.allowed);
    const forbidden = new Set([...HOST_GLOBALS, ...(layer.forbidden ?? [])]);
    for (const name of names) {
      const root = name.split(".")[0] ?? name;
      const host = forbidden.has(name) || forbidden.has(root);
      if (host && !(allowed.has(name) && allowed.has(root))) {
        faults.push(`uses ${name}, which ${layer.name} may not`);
      }
    }
  }
  return faults;
}

function importFault(
  path: string,
  specifier: string,
  layer: Layer | undefined,
  deployed: boolean,
  tree: Tree,
): string | undefined {
  if (specifier.startsWith("./") || specifier.startsWith("../")) {
    const target = normalize(join(dirname(path), specifier));
    if (target.startsWith("../")) return "lies outside the repository";
    if (!tree.files.has(target)) return deployed ? "no such file" : undefined;
    return deployed ? localFault(layer, target) : houseFault(path, target);
  }
  if (!specifier.startsWith("node:")) {
    if (/^[a-z]+:/.test(specifier)) return "dependencies are named in import_map.json only";
    if (!tree.packages.has(specifier)) return "not in import_map.json";
  }
  if (layer && !layer.packages.some((pattern) => matches(pattern, specifier))) {
    return `${layer.name} may not use this package`;
  }
}

function localFault(layer: Layer | undefined, target: string): string | undefined {
  const other = layerOf(target);
  if (!other) return "only files of the deployed layers may be imported here";
  if (layer && other !== layer && !layer.imports.includes(other.name)) {
    return `${layer.name} may not import ${other.name}`;
  }
}

/** What the command line may use of the rest: configuration, key providers, sources of older keys, and where the stack is. */
const CLI_IMPORTS =
  /^(cli\/|local\/stack-file\.ts$|functions-shared\/(assembly\/legacy-key-sources|config|config-gcp|config-vault|environment|errors|data-class)\.ts$|functions-shared\/keys\/)/;

/**
 * The embedded stack is a tool of development: it may read the functions' code, never the tests. The command
 * line is a client like any other, and nothing is built on it.
 */
function houseFault(path: string, target: string): string | undefined {
  if (path.startsWith("local/") && target.startsWith("tests/")) return "local may not import tests";
  if (path.startsWith("cli/") && !CLI_IMPORTS.test(target)) return "cli may not import this";
  if (target.startsWith("cli/") && !/^(cli|tests)\//.test(path)) return "nothing imports cli";
}

function matches(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
