/** The XML of the query protocol. */

const NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/";

/** Elements by name; undefined ones are left out. */
export interface XmlTree {
  readonly [name: string]: string | number | XmlTree | undefined;
}

export function resultXml(operation: string, result: XmlTree, requestId: string): string {
  return `<${operation}Response xmlns="${NAMESPACE}">` +
    elements({
      [`${operation}Result`]: result,
      ResponseMetadata: { RequestId: requestId },
    }) +
    `</${operation}Response>\n`;
}

export function errorXml(
  error: { readonly type: "Sender" | "Receiver"; readonly code: string; readonly message: string },
  requestId: string,
): string {
  return `<ErrorResponse xmlns="${NAMESPACE}">` +
    elements({
      Error: { Type: error.type, Code: error.code, Message: error.message },
      RequestId: requestId,
    }) +
    `</ErrorResponse>\n`;
}

function elements(tree: XmlTree): string {
  return Object.entries(tree).map(([name, value]) => {
    if (value === undefined) return "";
    const inner = typeof value === "object" ? elements(value) : escape(String(value));
    return `<${name}>${inner}</${name}>`;
  }).join("");
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
