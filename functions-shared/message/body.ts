/**
 * The framed message body (data-format/message-body.md, message-body-aad.md), big-endian:
 *
 *     regular frame  sequence number 4 | IV 12 | content, frame length bytes | tag 16
 *     final frame    FF FF FF FF | sequence number 4 | IV 12 | length 4 | content | tag 16
 *
 * Sequence numbers count from 1 without gaps; a frame's IV is its sequence number, so every IV
 * under the message's derived key is used once (the header's is 0). A frame is authenticated
 * together with the message id, its kind, its sequence number and its content length.
 */
import { decryptionFailed } from "./errors.ts";
import { aes256GcmOpenInto, aes256GcmSealInto } from "./primitives.ts";
import type { ByteReader } from "./reader.ts";
import { IV_BYTES, MESSAGE_ID_BYTES, TAG_BYTES } from "./suite.ts";
import { writeUint32 } from "./writer.ts";

const FINAL_FRAME_MARK = 0xffffffff;
const REGULAR_HEADER_BYTES = 4 + IV_BYTES;
const FINAL_HEADER_BYTES = 4 + 4 + IV_BYTES + 4;

// One array per kind of frame, filled anew for every frame: the cipher has read it before anything
// else can run, and it holds nothing secret. Allocating it each time costs as much as HKDF.
const regularAad = aadTemplate("AWSKMSEncryptionClient Frame");
const finalAad = aadTemplate("AWSKMSEncryptionClient Final Frame");

/** Where the frames are, found by arithmetic alone. All values are bytes or counts. */
export interface BodyLayout {
  /** Offset of the first frame. */
  readonly offset: number;
  readonly frameLength: number;
  /** Frames before the final one. */
  readonly regularFrames: number;
  readonly finalLength: number;
  readonly plaintextLength: number;
}

/**
 * The layout to write: the last frame is full, not empty, when the plaintext is a multiple of the
 * frame length, as the specification recommends.
 */
export function planBody(offset: number, plaintextLength: number, frameLength: number): BodyLayout {
  const regularFrames = Math.max(0, Math.ceil(plaintextLength / frameLength) - 1);
  const finalLength = plaintextLength - regularFrames * frameLength;
  return { offset, frameLength, regularFrames, finalLength, plaintextLength };
}

/** Bytes of the whole body. */
export function bodyLength({ frameLength, regularFrames, finalLength }: BodyLayout): number {
  return regularFrames * (REGULAR_HEADER_BYTES + frameLength + TAG_BYTES) +
    FINAL_HEADER_BYTES + finalLength + TAG_BYTES;
}

/**
 * Walks the frames from the reader's place to the end of the message without decrypting any.
 * An empty final frame after full ones is allowed; anything after the final frame is not.
 * @throws MessageError `decryption_failed`
 */
export function readBodyLayout(reader: ByteReader, frameLength: number): BodyLayout {
  const offset = reader.offset;
  for (let sequence = 1;; sequence++) {
    const mark = reader.uint32("frame");
    if (mark !== FINAL_FRAME_MARK) {
      if (mark !== sequence) throw decryptionFailed("frame is out of sequence");
      requireFrameIv(reader, sequence);
      reader.skip(frameLength, "frame content");
      reader.skip(TAG_BYTES, "frame tag");
      continue;
    }
    if (reader.uint32("final frame number") !== sequence) {
      throw decryptionFailed("final frame is out of sequence");
    }
    requireFrameIv(reader, sequence);
    const finalLength = reader.uint32("final frame length");
    if (finalLength > frameLength) throw decryptionFailed("final frame exceeds the frame length");
    reader.skip(finalLength, "final frame content");
    reader.skip(TAG_BYTES, "final frame tag");
    if (reader.remaining > 0) throw decryptionFailed("message has trailing bytes");
    const regularFrames = sequence - 1;
    const plaintextLength = regularFrames * frameLength + finalLength;
    return { offset, frameLength, regularFrames, finalLength, plaintextLength };
  }
}

/** Encrypts the plaintext into `out` as planned. */
export function sealBody(
  out: Uint8Array,
  layout: BodyLayout,
  key: Uint8Array,
  messageId: Uint8Array,
  plaintext: Uint8Array,
): void {
  const { frameLength, regularFrames, finalLength } = layout;
  let at = layout.offset;
  let read = 0;
  for (let sequence = 1; sequence <= regularFrames; sequence++) {
    writeUint32(out, at, sequence);
    writeUint32(out, at + REGULAR_HEADER_BYTES - 4, sequence);
    const iv = out.subarray(at + 4, at += REGULAR_HEADER_BYTES);
    const aad = frameAad(regularAad, messageId, sequence, frameLength);
    const content = plaintext.subarray(read, read += frameLength);
    aes256GcmSealInto(key, iv, aad, content, out, at);
    at += frameLength + TAG_BYTES;
  }
  const sequence = regularFrames + 1;
  writeUint32(out, at, FINAL_FRAME_MARK);
  writeUint32(out, at + 4, sequence);
  writeUint32(out, at + 8 + IV_BYTES - 4, sequence);
  writeUint32(out, at + 8 + IV_BYTES, finalLength);
  const iv = out.subarray(at + 8, at + 8 + IV_BYTES);
  const aad = frameAad(finalAad, messageId, sequence, finalLength);
  aes256GcmSealInto(key, iv, aad, plaintext.subarray(read), out, at + FINAL_HEADER_BYTES);
}

/**
 * Decrypts and verifies every frame of `bytes`, whose layout {@link readBodyLayout} gave.
 * @returns the plaintext, only when all frames verify; otherwise nothing of it is left behind
 * @throws Error of the cipher when a tag does not verify
 */
export function openBody(
  bytes: Uint8Array,
  layout: BodyLayout,
  key: Uint8Array,
  messageId: Uint8Array,
): Uint8Array {
  const { frameLength, regularFrames, finalLength } = layout;
  const plaintext = new Uint8Array(layout.plaintextLength);
  let at = layout.offset;
  let written = 0;
  try {
    for (let sequence = 1; sequence <= regularFrames; sequence++) {
      const iv = bytes.subarray(at + 4, at += REGULAR_HEADER_BYTES);
      const aad = frameAad(regularAad, messageId, sequence, frameLength);
      const sealed = bytes.subarray(at, at += frameLength + TAG_BYTES);
      aes256GcmOpenInto(key, iv, aad, sealed, plaintext, written);
      written += frameLength;
    }
    const iv = bytes.subarray(at + 8, at + 8 + IV_BYTES);
    const aad = frameAad(finalAad, messageId, regularFrames + 1, finalLength);
    const sealed = bytes.subarray(at + FINAL_HEADER_BYTES);
    aes256GcmOpenInto(key, iv, aad, sealed, plaintext, written);
    return plaintext;
  } catch (error) {
    plaintext.fill(0);
    throw error;
  }
}

function aadTemplate(label: string): Uint8Array {
  const bytes = new TextEncoder().encode(label);
  const aad = new Uint8Array(MESSAGE_ID_BYTES + bytes.length + 4 + 8);
  aad.set(bytes, MESSAGE_ID_BYTES);
  return aad;
}

/** Message id | label | sequence number 4 | content length 8, in the kind's own array. */
function frameAad(
  template: Uint8Array,
  messageId: Uint8Array,
  sequence: number,
  contentLength: number,
): Uint8Array {
  template.set(messageId);
  writeUint32(template, template.length - 12, sequence);
  // The upper half of the u64 stays 0: a frame is shorter than 2^32 bytes.
  writeUint32(template, template.length - 4, contentLength);
  return template;
}

// The IV field repeats the sequence number and is in no AAD. Since it is compared here, decryption
// may use it as it stands.
function requireFrameIv(reader: ByteReader, sequence: number): void {
  const high = reader.uint32("frame IV"), middle = reader.uint32("frame IV");
  if (high !== 0 || middle !== 0 || reader.uint32("frame IV") !== sequence) {
    throw decryptionFailed("frame IV is not its sequence number");
  }
}
