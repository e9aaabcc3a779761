/** Bounds on what is written and read, all checked before the value is used. */

/** The u16 length fields of the format: context, provider id, provider info, wrapped key. */
export const MAX_UINT16 = 0xffff;

/** Frame length this suite writes, bytes. */
export const FRAME_LENGTH = 4096;

/** What {@link parseMessage} accepts. Every bound is inclusive. */
export interface ParseLimits {
  /** Whole message, bytes. Default 16 MiB. */
  readonly maxMessageBytes: number;
  /** Encrypted data keys, count, 1 to 65535. Default 16. */
  readonly maxEncryptedDataKeys: number;
  /** Frame length stated in the header, bytes. Default 64 MiB; the official SDKs write 4096. */
  readonly maxFrameLength: number;
}

/** Also what {@link encryptMessage} keeps to: whatever we write we read with the defaults. */
export const DEFAULT_LIMITS: ParseLimits = Object.freeze({
  maxMessageBytes: 16 * 1024 * 1024,
  maxEncryptedDataKeys: 16,
  maxFrameLength: 64 * 1024 * 1024,
});
