/** Tags of keys. */

import { AwsError } from "../errors.ts";

export interface WireTag {
  readonly TagKey: string;
  readonly TagValue: string;
}

const MAX_TAGS = 50;

/** The tags after adding `added`. Throws TagException or LimitExceededException. */
export function readTags(
  current: Readonly<Record<string, string>>,
  added: readonly WireTag[],
): Record<string, string> {
  const names = added.map((tag) => tag.TagKey);
  if (new Set(names).size !== names.length) {
    throw new AwsError("TagException", "Duplicate tag keys");
  }
  for (const { TagKey, TagValue } of added) {
    if (TagKey.toLowerCase().startsWith("aws:")) {
      throw new AwsError("TagException", "aws: prefixed tag key names are not allowed");
    }
    if (!/^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$/u.test(TagKey)) {
      throw new AwsError("TagException", "The tag key contains characters that are not allowed");
    }
    if (!/^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u.test(TagValue)) {
      throw new AwsError("TagException", "The tag value contains characters that are not allowed");
    }
  }
  const tags = new Map(Object.entries(current));
  for (const tag of added) tags.set(tag.TagKey, tag.TagValue);
  if (tags.size > MAX_TAGS) throw new AwsError("TagException", "Too many tags");
  return Object.fromEntries(tags);
}

export function wireTags(tags: Readonly<Record<string, string>>): WireTag[] {
  return Object.entries(tags).map(([TagKey, TagValue]) => ({ TagKey, TagValue }))
    .sort((a, b) => a.TagKey < b.TagKey ? -1 : 1);
}
