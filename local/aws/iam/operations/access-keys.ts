/** Users and their access keys. Source: IAM API reference; messages as AWS answers them. */

import { AwsError } from "../../errors.ts";
import type { User } from "../identities.ts";
import {
  ACCESS_KEY_ID,
  type IamOperation,
  isoTime,
  noSuch,
  page,
  pageOf,
  requireAllowed,
  userOf,
} from "../operation.ts";
import { type AccessKeyRecord, createAccessKey } from "../records.ts";

const MAX_KEYS_PER_USER = 2;

export const accessKeys: Readonly<Record<string, IamOperation>> = {
  GetUser(call) {
    const { name, id, arn, createdAt } = userOf(call);
    return {
      User: {
        Path: "/",
        UserName: name,
        UserId: id,
        Arn: arn,
        CreateDate: isoTime(createdAt),
      },
    };
  },

  /** The only answer with the secret in it. */
  CreateAccessKey(call) {
    const user = userOf(call);
    if (user.keys.length >= MAX_KEYS_PER_USER) {
      throw new AwsError(
        "LimitExceeded",
        `Cannot exceed quota for AccessKeysPerUser: ${MAX_KEYS_PER_USER}`,
      );
    }
    const key: AccessKeyRecord = { ...createAccessKey("AKIA"), createdAt: call.now, active: true };
    user.keys.push(key);
    call.identities.markChanged();
    return { AccessKey: { ...describe(user, key), SecretAccessKey: key.secretAccessKey } };
  },

  ListAccessKeys(call) {
    const wanted = pageOf(call);
    const user = userOf(call);
    const list = { name: user.id, all: user.keys, id: (key: AccessKeyRecord) => key.accessKeyId };
    const { items, more } = page(list, wanted);
    return { AccessKeyMetadata: items.map((key) => describe(user, key)), ...more };
  },

  UpdateAccessKey(call) {
    const accessKeyId = call.parameters.required("AccessKeyId", ACCESS_KEY_ID);
    const status = call.parameters.required("Status", { oneOf: ["Active", "Inactive"] });
    keyOf(userOf(call), accessKeyId).active = status === "Active";
    call.identities.markChanged();
    return null;
  },

  DeleteAccessKey(call) {
    const accessKeyId = call.parameters.required("AccessKeyId", ACCESS_KEY_ID);
    const user = userOf(call);
    user.keys.splice(user.keys.indexOf(keyOf(user, accessKeyId)), 1);
    call.identities.markChanged();
    return null;
  },

  GetAccessKeyLastUsed(call) {
    const accessKeyId = call.parameters.required("AccessKeyId", ACCESS_KEY_ID);
    call.parameters.end();
    const found = call.identities.accessKey(accessKeyId);
    requireAllowed(call, found?.user.arn ?? "*", `access key ${accessKeyId}`);
    if (found === null) throw noSuch(`Access Key with id ${accessKeyId}`);
    const { lastUsed } = found.key;
    return {
      UserName: found.user.name,
      AccessKeyLastUsed: {
        LastUsedDate: lastUsed === undefined ? undefined : isoTime(lastUsed.at),
        ServiceName: lastUsed?.service ?? "N/A",
        Region: lastUsed?.region ?? "N/A",
      },
    };
  },
};

function describe(user: User, key: AccessKeyRecord) {
  return {
    UserName: user.name,
    AccessKeyId: key.accessKeyId,
    Status: key.active ? "Active" : "Inactive",
    CreateDate: isoTime(key.createdAt),
  };
}

/** Throws AwsError (NoSuchEntity), also for a key of somebody else. */
function keyOf(user: User, accessKeyId: string): AccessKeyRecord {
  const key = user.keys.find((one) => one.accessKeyId === accessKeyId);
  if (key === undefined) throw noSuch(`Access Key with id ${accessKeyId}`);
  return key;
}
