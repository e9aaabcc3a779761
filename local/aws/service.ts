/** What a service of the local AWS is to the server: claims requests, answers, words its errors. */

import type { AwsError } from "./errors.ts";
import type { Caller } from "./iam/identities.ts";

/** A request as read from the wire. */
export interface AwsRequest {
  readonly id: string;
  readonly method: string;
  /** Path as sent, still percent-encoded, without the query. */
  readonly path: string;
  /** Query string as sent, without the question mark. */
  readonly query: string;
  /** Lower-case names; values of repeated headers joined by a comma. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}

export interface AwsReply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Uint8Array;
  /** Further headers that the service's protocol asks for. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Name of the error when the reply is one. */
  readonly errorName?: string;
  /** Access key id of the session that the call opened. */
  readonly opened?: string;
}

/** An authenticated request. */
export interface AwsCall {
  readonly operation: string;
  readonly region: string;
  readonly caller: Caller;
  /** Milliseconds since the epoch, by the server's clock. */
  readonly now: number;
  readonly request: AwsRequest;
}

/** Why a request's credentials were not accepted. */
export type AuthenticationFault =
  | "missing"
  | "incomplete"
  | "unknown_key"
  | "expired"
  | "signature";

export interface Service {
  /** Name in fault rules and call records, and in credential scopes unless `signingName` differs. */
  readonly name: string;
  /** Name in credential scopes, where it is another one. */
  readonly signingName?: string;
  /** The one region whose credential scope is taken, where the service is global. */
  readonly onlyRegion?: string;
  /**
   * The operation this request names, when the request is for this service; null otherwise.
   * The name may be one that the service does not have.
   */
  claim(request: AwsRequest): string | null;
  /** Throws AwsError. */
  perform(call: AwsCall): Promise<AwsReply> | AwsReply;
  /** An error in the service's own protocol, or in the one of its protocols that was asked in. */
  refuse(error: AwsError, request: AwsRequest): AwsReply;
  /** Throws when the operation does not exist; asked before credentials are looked at. */
  checkOperation(operation: string, request: AwsRequest): void;
  /** The service's own names for refused credentials. */
  readonly authenticationErrors: Readonly<Record<AuthenticationFault, string>>;
}
