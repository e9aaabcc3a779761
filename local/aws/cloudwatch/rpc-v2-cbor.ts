/** Smithy RPC v2 with CBOR: what the SDKs for Go, Java, Rust and others speak. */

import { decodeCbor, encodeCbor } from "./cbor.ts";
import { contentType, type Protocol, queryErrorHeader, readBody } from "./protocol.ts";

const PATH = /^\/service\/GraniteServiceVersion20100801\/operation\/(\w{1,100})$/;
const CONTENT_TYPE = "application/cbor";
const HEADERS = { "smithy-protocol": "rpc-v2-cbor" };

export const rpcV2Cbor: Protocol = {
  claim(request) {
    return PATH.exec(request.path)?.[1] ?? null;
  },

  fits(request) {
    return request.method === "POST" && contentType(request) === CONTENT_TYPE &&
      request.headers.get("smithy-protocol") === "rpc-v2-cbor";
  },

  read(request) {
    return decodeCbor(readBody(request));
  },

  answer(_operation, result) {
    const body = encodeCbor(result ?? {});
    return { status: 200, contentType: CONTENT_TYPE, headers: HEADERS, body };
  },

  refuse(error, request) {
    return {
      status: error.status,
      contentType: CONTENT_TYPE,
      headers: { ...HEADERS, ...queryErrorHeader(error, request) },
      body: encodeCbor({
        __type: `com.amazonaws.cloudwatch#${error.code}`,
        ...error.hasMessage ? { message: error.message } : {},
      }),
      errorName: error.code,
    };
  },
};
