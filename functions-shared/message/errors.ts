/**
 * What a caller may learn when a message cannot be written or read.
 *
 * - `message_malformed`: the input of an encryption cannot become a message (a caller's mistake);
 *   the text says which rule, never a key or plaintext.
 * - `decryption_failed`: reading failed. Wrong key, wrong context, a changed byte, a truncated or
 *   overlong message and bad base64 are deliberately one error with one text.
 */
export type MessageErrorCode = "message_malformed" | "decryption_failed";

/** The only error class of this module. Neither code is worth a retry with the same input. */
export class MessageError extends Error {
  override readonly name = "MessageError";
  readonly retryable = false;

  constructor(readonly code: MessageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/**
 * The one error of every failed read. `detail` goes to `cause` only, which is for logs: it must
 * never reach the one who submitted the message.
 */
export function decryptionFailed(detail: string, cause?: unknown): MessageError {
  return new MessageError("decryption_failed", "The message could not be decrypted.", {
    cause: new Error(detail, cause === undefined ? undefined : { cause }),
  });
}

/** The error of an input that cannot be written as a message. */
export function malformed(rule: string): MessageError {
  return new MessageError("message_malformed", rule);
}
