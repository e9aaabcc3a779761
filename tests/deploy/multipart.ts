/**
 * A strict reader of `multipart/form-data` (RFC 7578): what `Request.formData()` repairs or hides
 * (stray bytes, odd headers, names that climb out of the folder) is an error here, because the test
 * has to see exactly what was sent.
 */

export interface Part {
  readonly name: string;
  readonly fileName: string | undefined;
  readonly contentType: string | undefined;
  readonly content: Uint8Array<ArrayBuffer>;
}

/** @throws Error naming the first deviation */
export function parseMultipart(contentType: string, body: Uint8Array<ArrayBuffer>): Part[] {
  const boundary = contentType.match(
    /^multipart\/form-data; ?boundary="?([\w'()+,./:=?-]{1,70})"?$/,
  )
    ?.[1];
  if (!boundary) throw new Error(`not multipart/form-data with a boundary: ${contentType}`);
  const delimiter = new TextEncoder().encode(`--${boundary}`);
  if (indexOf(body, delimiter, 0) !== 0) throw new Error("bytes before the first boundary");

  const parts: Part[] = [];
  let at = delimiter.length;
  while (true) {
    const after = ascii(body.subarray(at, at + 2));
    if (after === "--") {
      if (!["", "\r\n"].includes(ascii(body.subarray(at + 2)))) {
        throw new Error("bytes after the last boundary");
      }
      return parts;
    }
    if (after !== "\r\n") throw new Error("a boundary without a line end");
    const start = at + 2;
    const next = indexOf(body, new TextEncoder().encode(`\r\n--${boundary}`), start);
    if (next < 0) throw new Error("the last boundary is missing");
    parts.push(parsePart(body.slice(start, next)));
    at = next + 2 + delimiter.length;
  }
}

function parsePart(bytes: Uint8Array<ArrayBuffer>): Part {
  const end = indexOf(bytes, new TextEncoder().encode("\r\n\r\n"), 0);
  if (end < 0) throw new Error("a part without an end of its headers");
  let disposition: RegExpMatchArray | null = null;
  let contentType: string | undefined;
  for (
    const line of new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, end)).split(
      "\r\n",
    )
  ) {
    const [field, value = ""] = line.split(/: ?(.*)/s, 2);
    switch (field?.toLowerCase()) {
      case "content-disposition":
        disposition = value.match(/^form-data; name="([^"%\\]+)"(?:; filename="([^"%\\]+)")?$/);
        if (!disposition) throw new Error(`unreadable content-disposition: ${value}`);
        break;
      case "content-type":
        contentType = value;
        break;
      default:
        throw new Error(`unexpected header: ${line}`);
    }
  }
  const name = disposition?.[1];
  if (name === undefined) throw new Error("a part without a name");
  return { name, fileName: disposition?.[2], contentType, content: bytes.slice(end + 4) };
}

function ascii(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

function indexOf(bytes: Uint8Array, needle: Uint8Array, from: number): number {
  for (
    let at = bytes.indexOf(needle[0] ?? 0, from);
    at >= 0;
    at = bytes.indexOf(needle[0] ?? 0, at + 1)
  ) {
    if (needle.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}
