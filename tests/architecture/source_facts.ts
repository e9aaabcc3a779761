/**
 * What a source file imports and which globals it touches, read from its syntax tree. The parser is
 * the runtime's own (`Deno.lint.runPlugin`, available inside `deno test`), so comments and strings
 * that look like code count for nothing.
 */

export interface ImportFact {
  /** As written; undefined for `import(expression)`, which no tool can follow. */
  readonly specifier: string | undefined;
}

export interface SourceFacts {
  readonly imports: readonly ImportFact[];
  /** Names in value positions (`globalThis.x` counts as `x`) and members, such as `Deno.env`. */
  readonly names: ReadonlySet<string>;
}

/** @throws SyntaxError when the source does not parse */
export function readFacts(fileName: string, source: string): SourceFacts {
  const imports: ImportFact[] = [];
  const names = new Set<string>();
  const add = (specifier: string | undefined) => void imports.push({ specifier });
  const plugin: Deno.lint.Plugin = {
    name: "architecture",
    rules: {
      facts: {
        create: () => ({
          ImportDeclaration: (node) => add(node.source.value),
          ExportAllDeclaration: (node) => add(node.source.value),
          ExportNamedDeclaration: (node) => {
            if (node.source) add(node.source.value);
          },
          ImportExpression: (node) => add(stringValue(node.source)),
          TSImportType: (node) => add(stringValue(node.argument)),
          TSExternalModuleReference: (node) => add(stringValue(node.expression)),
          MemberExpression: (node) => {
            if (node.object.type !== "Identifier") return;
            const member = node.property.type === "Identifier" && !node.computed
              ? node.property.name
              : stringValue(node.property) ?? "*";
            const named = node.object.name === "globalThis" && member !== "*";
            names.add(named ? member : `${node.object.name}.${member}`);
          },
          Identifier: (node) => {
            if (isValueReference(node)) names.add(node.name);
          },
        }),
      },
    },
  };
  Deno.lint.runPlugin(plugin, fileName, source);
  return { imports, names };
}

function stringValue(node: Deno.lint.Node): string | undefined {
  if (node.type === "TSLiteralType") return stringValue(node.literal);
  return node.type === "Literal" && typeof node.value === "string" ? node.value : undefined;
}

/** False for names of properties, of imported or exported things, and in types. */
function isValueReference(node: Deno.lint.Identifier): boolean {
  const parent = node.parent as Deno.lint.Node;
  switch (parent.type) {
    case "MemberExpression":
      return parent.object === node ? node.name !== "globalThis" : parent.computed;
    case "Property":
      return parent.value === node || parent.computed;
    case "PropertyDefinition":
    case "MethodDefinition":
      return parent.computed || parent.key !== node;
    case "ImportSpecifier":
    case "ImportDefaultSpecifier":
    case "ImportNamespaceSpecifier":
    case "ExportSpecifier":
    case "MetaProperty":
      return false;
    default:
      return !parent.type.startsWith("TS") || parent.type === "TSAsExpression" ||
        parent.type === "TSNonNullExpression" || parent.type === "TSSatisfiesExpression";
  }
}
