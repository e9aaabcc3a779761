/** How large a deployment is. */

import { join } from "node:path";
import type { ModuleGraph } from "./project.ts";

export interface Size {
  readonly files: number;
  readonly bytes: number;
}

export function sizeOf(files: Iterable<Uint8Array>): Size {
  let count = 0;
  let bytes = 0;
  for (const content of files) {
    count += 1;
    bytes += content.length;
  }
  return { files: count, bytes };
}

/** Bytes of all contents together under gzip, at the runtime's default level. */
export async function gzipBytes(files: Iterable<Uint8Array<ArrayBuffer>>): Promise<number> {
  const compressed = new Blob([...files]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(compressed).arrayBuffer()).byteLength;
}

/** The npm packages that the platform bundles with a function, whole and unpacked. */
export function npmSize(graph: ModuleGraph): Size {
  const folders = Object.values(graph.npmPackages).map(({ localPath }) => localPath);
  return {
    files: folders.length,
    bytes: folders.reduce((sum, folder) => sum + folderBytes(folder), 0),
  };
}

function folderBytes(folder: string): number {
  let bytes = 0;
  for (const entry of Deno.readDirSync(folder)) {
    const path = join(folder, entry.name);
    bytes += entry.isDirectory ? folderBytes(path) : Deno.statSync(path).size;
  }
  return bytes;
}

export function kib(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}
