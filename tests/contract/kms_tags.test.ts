import { assertEquals } from "@std/assert";
import {
  CreateKeyCommand,
  ListResourceTagsCommand,
  TagResourceCommand,
  UntagResourceCommand,
} from "@aws-sdk/client-kms";
import { constraint, refused400, withAws } from "./support.ts";

Deno.test("tags", (t) =>
  withAws(async (setting) => {
    const kms = setting.kms();
    const { KeyMetadata } = await kms.send(
      new CreateKeyCommand({ Tags: [{ TagKey: "b", TagValue: "1" }] }),
    );
    const KeyId = KeyMetadata?.KeyId ?? "";
    const tag = (tags: Readonly<Record<string, string>>) =>
      kms.send(
        new TagResourceCommand({
          KeyId,
          Tags: Object.entries(tags).map(([TagKey, TagValue]) => ({ TagKey, TagValue })),
        }),
      );
    const tags = async () => (await kms.send(new ListResourceTagsCommand({ KeyId }))).Tags;

    await t.step("are set, replaced and removed by key", async () => {
      await tag({ a: "x", b: "2" });
      assertEquals(await tags(), [
        { TagKey: "a", TagValue: "x" },
        { TagKey: "b", TagValue: "2" },
      ]);
      await kms.send(new UntagResourceCommand({ KeyId, TagKeys: ["a", "none"] }));
      assertEquals(await tags(), [{ TagKey: "b", TagValue: "2" }]);
    });

    await t.step("come in pages", async () => {
      await tag({ c: "3" });
      const first = await kms.send(new ListResourceTagsCommand({ KeyId, Limit: 1 }));
      assertEquals([first.Tags?.[0]?.TagKey, first.Truncated], ["b", true]);
      const second = await kms.send(
        new ListResourceTagsCommand({ KeyId, Limit: 1, Marker: first.NextMarker }),
      );
      assertEquals([second.Tags?.[0]?.TagKey, second.Truncated], ["c", false]);
    });

    await t.step("are checked", async () => {
      const reserved = "aws: prefixed tag key names are not allowed";
      await refused400(tag({ "aws:mine": "1" }), "TagException", reserved);
      const Tags = [{ TagKey: "d", TagValue: "1" }, { TagKey: "d", TagValue: "2" }];
      const twice = kms.send(new TagResourceCommand({ KeyId, Tags }));
      await refused400(twice, "TagException", "Duplicate tag keys");
      const many = Object.fromEntries(Array.from({ length: 49 }, (_, i) => [`t${i}`, ""]));
      await refused400(tag(many), "TagException", "Too many tags");
      const rule = "Member must have length greater than or equal to 1";
      const message = constraint("tags.1.member.tagKey", "Value ''", rule);
      await refused400(tag({ "": "1" }), "ValidationException", message);
    });
  }));
