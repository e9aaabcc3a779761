/**
 * Types for what of Deno's `@std/crypto` the npm package `deno-std` can load. The import map points
 * at that module: the package's own crypto/mod.js does not load, since the WebAssembly digests that
 * it imports were not published. Everything else is the runtime's WebCrypto.
 */
declare module "@std/crypto" {
  /**
   * Compares without an early exit.
   * @throws TypeError when the byte lengths differ
   */
  export function timingSafeEqual(
    a: ArrayBufferView | ArrayBufferLike,
    b: ArrayBufferView | ArrayBufferLike,
  ): boolean;
}
