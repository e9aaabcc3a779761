import type { RestReply } from "../rest/server.ts";

/** A refusal as Vault words it. */
export class VaultError extends Error {
  readonly reply: RestReply;

  constructor(status: number, ...errors: string[]) {
    super(errors.join("; "));
    this.reply = { status, body: { errors } };
  }
}

export const PERMISSION_DENIED = "permission denied";
