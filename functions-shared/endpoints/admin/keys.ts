/** `/key/...`: what the keys are, their rotation, and the end of old versions. */
import * as v from "valibot";
import type { KeyAdministration } from "../../admin/keys.ts";
import { DATA_CLASSES, type DataClass } from "../../data-class.ts";
import { validationFailed } from "../../errors.ts";
import type { AuthenticatedExchange, Route } from "../../http/app.ts";
import { readJson, readOptionalJson } from "../../http/body.ts";
import { readQuery } from "../../http/query.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { parseInput } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminKeyServices {
  readonly audit: AuditLog;
  readonly keys: KeyAdministration;
}

type Exchange = AuthenticatedExchange<AdminKeyServices>;

export function keyRoutes<Services extends AdminKeyServices>(): readonly Route<Services>[] {
  return [
    adminRoute("GET", "/key/metadata", metadata),
    adminRoute("POST", "/key/rotate", rotate),
    adminRoute("POST", "/key/retire", retire),
  ];
}

const dataClass = v.picklist(DATA_CLASSES);
const uuid = (code: string) =>
  v.pipe(
    v.string(),
    v.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, `${code}: must be a UUID`),
    v.toLowerCase(),
  );
const keyName = (max: number) =>
  v.pipe(
    v.string(),
    v.minLength(1, `invalid_length: must be 1 to ${max} characters`),
    v.maxLength(max, `invalid_length: must be 1 to ${max} characters`),
  );

const rotateSchema = v.strictObject({
  target: v.optional(v.picklist(["branch_key", "kms_key"]), "branch_key"),
  data_class: v.optional(dataClass),
  user_id: v.optional(uuid("invalid_user_id")),
  confirm: v.optional(keyName(2048)),
});

const retireSchema = v.strictObject({
  branch_key_id: keyName(256),
  version: uuid("invalid_version"),
});

async function metadata({ url, config, services }: Exchange): Promise<Response> {
  const query = readQuery(url, ["data_class"]);
  const asked = readDataClass(query.data_class);
  const { key, branchKey } = await services.keys.describe(asked);
  const { automatic, next, last, onDemandLeft } = key.rotation;
  return success({
    keyId: key.keyId,
    description: key.description,
    createdAt: key.createdAt,
    lastRotated: last,
    enabled: key.state === "Enabled",
    keyUsage: "ENCRYPT_DECRYPT",
    keySpec: key.spec,
    provider: config.provider,
    data_class: asked,
    state: key.state,
    rotation: { automatic, next, on_demand_left: onDemandLeft },
    branch_key: branchKey === undefined ? null : { id: asked, ...branchKey },
  });
}

function readDataClass(value: string | undefined): DataClass {
  const found = DATA_CLASSES.find((candidate) => candidate === (value ?? "payment"));
  if (found !== undefined) return found;
  throw validationFailed([{
    parameter: "data_class",
    code: "unknown_class",
    detail: "must be payment, pii or general",
  }]);
}

async function rotate({ request, url, actor, services }: Exchange): Promise<Response> {
  readQuery(url, []);
  const parsed = await readOptionalJson(request);
  const body = parseInput(rotateSchema, parsed === undefined ? {} : parsed);
  const message = "Encryption key rotated successfully";
  if (body.target === "branch_key") {
    refuse("confirm", body.confirm, "Only a kms_key's rotation is confirmed.");
    const done = await services.keys.rotateBranchKeys(actor, body.data_class, body.user_id);
    const rotated = done.rotated.map((key) => ({ target: body.target, ...key }));
    const { failed } = done;
    return success({ newKeyVersion: rotated[0]?.version, rotated, failed }, { message });
  }
  refuse("user_id", body.user_id, "No user has a kms_key of their own.");
  const asked = require("data_class", body.data_class);
  const confirmed = require("confirm", body.confirm, "the key's id, as GET /key/metadata has it");
  const { keyId, version } = await services.keys.rotateWrappingKey(actor, asked, confirmed);
  const rotated = [{ target: body.target, data_class: asked, key_id: keyId, version }];
  return success({ newKeyVersion: version, rotated, failed: [] }, { message });
}

async function retire({ request, url, actor, services }: Exchange): Promise<Response> {
  readQuery(url, []);
  const body = parseInput(retireSchema, await readJson(request));
  await services.keys.retire(actor, body.branch_key_id, body.version);
  return success(body);
}

function refuse(name: string, value: unknown, detail: string): void {
  if (value === undefined) return;
  throw validationFailed([{ pointer: `/${name}`, code: "unknown_field", detail }]);
}

function require<T>(name: string, value: T | undefined, what?: string): T {
  if (value !== undefined) return value;
  const detail = `This field is required for a kms_key${what === undefined ? "" : `: ${what}`}.`;
  throw validationFailed([{ pointer: `/${name}`, code: "missing_field", detail }]);
}
