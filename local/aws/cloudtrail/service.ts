/**
 * CloudTrail's LookupEvents over AWS JSON 1.1: who called what with which key, in one region.
 * Source: CloudTrail API reference. AWS is a quarter of an hour late with its events; this is not.
 */

import { AwsError } from "../errors.ts";
import { globalContext, identityRefusal } from "../iam/access.ts";
import {
  answer,
  AUTHENTICATION_ERRORS,
  parseJson,
  refusal,
  requireForm,
} from "../json/protocol.ts";
import type { AwsCall, AwsReply, AwsRequest, Service } from "../service.ts";
import {
  type Infer,
  integer,
  list,
  oneOf,
  readInput,
  required,
  string,
  structure,
  timestamp,
} from "../shapes.ts";
import { eventSource, isReadOnly, record, userName } from "./record.ts";
import type { Trail, TrailEvent } from "./trail.ts";

/** Older clients name the operation with its package. */
const TARGET = /^(?:com\.amazonaws\.cloudtrail\.v20131101\.)?CloudTrail_20131101\.(.*)$/;

const INPUT = structure({
  LookupAttributes: list(structure({
    AttributeKey: required(
      oneOf(["EventId", "EventName", "ReadOnly", "Username", "EventSource", "AccessKeyId"]),
    ),
    AttributeValue: required(string({ min: 1, max: 2000 })),
  })),
  StartTime: timestamp(),
  EndTime: timestamp(),
  MaxResults: integer(),
  NextToken: string(),
});

type Input = Infer<typeof INPUT>;

const MAX_RESULTS = 50;

export class CloudTrailService implements Service {
  readonly name = "cloudtrail";
  readonly authenticationErrors = AUTHENTICATION_ERRORS;
  readonly #trail: Trail;

  constructor(trail: Trail) {
    this.#trail = trail;
  }

  claim(request: AwsRequest): string | null {
    return TARGET.exec(request.headers.get("x-amz-target") ?? "")?.[1] ?? null;
  }

  checkOperation(operation: string, request: AwsRequest): void {
    requireForm(request);
    if (operation !== "LookupEvents") throw new AwsError("UnknownOperationException");
  }

  perform(call: AwsCall): AwsReply {
    const input = readInput(INPUT, parseJson(call.request.body));
    const { caller } = call;
    const action = `cloudtrail:${call.operation}`;
    const context = globalContext(call);
    const denied = identityRefusal({ action, resource: "*", caller, context }, null);
    if (denied !== null) throw new AwsError("AccessDeniedException", denied);
    return answer(this.#lookup(call.region, input));
  }

  refuse(error: AwsError, _request: AwsRequest): AwsReply {
    return refusal(error);
  }

  #lookup(region: string, input: Input) {
    const matches = matcher(input);
    const found = this.#trail.events().filter((event) => event.region === region && matches(event))
      .reverse();
    const start = input.NextToken === undefined
      ? 0
      : found.findIndex(({ id }) => id === input.NextToken) + 1;
    if (input.NextToken !== undefined && start === 0) {
      throw new AwsError("InvalidNextTokenException", "The next token is not of this lookup.");
    }
    const events = found.slice(start, start + (input.MaxResults ?? MAX_RESULTS));
    const more = start + events.length < found.length;
    return { Events: events.map(show), ...more ? { NextToken: events.at(-1)?.id } : {} };
  }
}

/** Throws AwsError for what CloudTrail does not look up. */
function matcher(input: Input): (event: TrailEvent) => boolean {
  const { LookupAttributes: attributes = [], StartTime: from = 0, EndTime: to = Infinity } = input;
  if (attributes.length > 1) {
    throw new AwsError("InvalidLookupAttributesException", "One lookup attribute can be given.");
  }
  if (from > to) {
    throw new AwsError("InvalidTimeRangeException", "The start time is after the end time.");
  }
  const { MaxResults: max = MAX_RESULTS } = input;
  if (max < 1 || max > MAX_RESULTS) {
    throw new AwsError("InvalidMaxResultsException", `MaxResults must be 1 to ${MAX_RESULTS}.`);
  }
  const [wanted] = attributes;
  return (event) =>
    event.at >= from && event.at <= to &&
    (wanted === undefined || attribute(event, wanted.AttributeKey) === wanted.AttributeValue);
}

type AttributeKey = NonNullable<Input["LookupAttributes"]>[number]["AttributeKey"];

function attribute(event: TrailEvent, key: AttributeKey): string {
  switch (key) {
    case "EventId":
      return event.id;
    case "EventName":
      return event.operation;
    case "EventSource":
      return eventSource(event.service);
    case "ReadOnly":
      return String(isReadOnly(event.operation));
    case "Username":
      return userName(event.caller);
    case "AccessKeyId":
      return event.caller.accessKeyId;
  }
}

function show(event: TrailEvent) {
  return {
    EventId: event.id,
    EventName: event.operation,
    ReadOnly: String(isReadOnly(event.operation)),
    AccessKeyId: event.caller.accessKeyId,
    EventTime: Math.floor(event.at / 1000),
    EventSource: eventSource(event.service),
    Username: userName(event.caller),
    Resources: [],
    CloudTrailEvent: JSON.stringify(record(event)),
  };
}
