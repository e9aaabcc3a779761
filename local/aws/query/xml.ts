/** The XML of the query protocol. */

type XmlValue = string | number | boolean | XmlTree | readonly (string | XmlTree)[] | undefined;

/** Elements by name; undefined ones are left out, lists become `member` elements. */
export interface XmlTree {
  readonly [name: string]: XmlValue;
}

/** `result` null: the operation answers nothing but that it was done. */
export function resultXml(
  namespace: string,
  operation: string,
  result: XmlTree | null,
  requestId: string,
): string {
  return `<${operation}Response xmlns="${namespace}">` +
    elements({
      ...result === null ? {} : { [`${operation}Result`]: result },
      ResponseMetadata: { RequestId: requestId },
    }) +
    `</${operation}Response>\n`;
}

export function errorXml(
  namespace: string,
  error: { readonly type: "Sender" | "Receiver"; readonly code: string; readonly message: string },
  requestId: string,
): string {
  return `<ErrorResponse xmlns="${namespace}">` +
    elements({
      Error: { Type: error.type, Code: error.code, Message: error.message },
      RequestId: requestId,
    }) +
    `</ErrorResponse>\n`;
}

function elements(tree: XmlTree): string {
  return Object.entries(tree)
    .map(([name, value]) => value === undefined ? "" : `<${name}>${content(value)}</${name}>`)
    .join("");
}

function content(value: Exclude<XmlValue, undefined>): string {
  if (typeof value !== "object") return escape(String(value));
  if (!isList(value)) return elements(value);
  return value.map((member) => `<member>${content(member)}</member>`).join("");
}

/** `Array.isArray` does not tell a readonly list from a tree. */
function isList(value: object): value is readonly (string | XmlTree)[] {
  return Array.isArray(value);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
};

/** For an element's text. */
export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ENTITIES[c] ?? c);
}
