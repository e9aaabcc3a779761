import { assert, assertEquals, assertMatch } from "@std/assert";
import { SettingsSeal } from "../../functions-shared/keys/settings-seal.ts";
import { decodeMessage, encodeMessage, parseMessage } from "../../functions-shared/message/mod.ts";
import { bytes } from "./support/identity.ts";
import { codeOf, everythingShown, suiteError } from "./support/thrown.ts";

type Options = ConstructorParameters<typeof SettingsSeal>[0];

const of = (changes: Partial<Options> = {}) =>
  new SettingsSeal({
    appName: "parker-flight",
    environment: "development",
    encryptionKey: undefined,
    secretKeys: ["sb_secret_one", "sb_secret_two"],
    ...changes,
  });
const SECRET = bytes('{"VAULT_TOKEN":"hvs.canary"}');
const KEY = new Uint8Array(32).fill(7);

Deno.test("what is sealed is a message of the suite, and opens as what it was", () => {
  const message = of().seal(7, SECRET);
  assertMatch(message, /^AgR4/);
  assertEquals(of().open(7, message), SECRET);
  const { encryptionContext } = parseMessage(decodeMessage(message)).header;
  assertEquals(encryptionContext, {
    app: "parker-flight",
    environment: "development",
    table: "settings",
    record: "7",
    field: "variables",
  });
});

Deno.test("any secret key of its time opens it, so that one of them may be revoked", async () => {
  const message = of().seal(1, SECRET);
  for (const key of ["sb_secret_one", "sb_secret_two"]) {
    assertEquals(of({ secretKeys: [key] }).open(1, message), SECRET);
  }
  const later = of({ secretKeys: ["sb_secret_three"] });
  assertEquals(await codeOf(() => later.open(1, message)), "decryption_failed");
});

Deno.test("under ENCRYPTION_KEY no secret key opens it; and what secret keys sealed is read beside it", async () => {
  const message = of({ encryptionKey: KEY }).seal(1, SECRET);
  assertEquals(of({ encryptionKey: KEY, secretKeys: [] }).open(1, message), SECRET);
  assertEquals(await codeOf(() => of().open(1, message)), "decryption_failed");
  assertEquals(of({ encryptionKey: KEY }).open(1, of().seal(1, SECRET)), SECRET);
});

Deno.test("another revision, application, environment or a changed message: one error that says nothing", async () => {
  const message = of().seal(7, SECRET);
  const raw = decodeMessage(message);
  const last = raw.length - 1;
  raw[last] = (raw[last] ?? 0) ^ 1;
  const errors = await Promise.all([
    suiteError(() => of().open(8, message)),
    suiteError(() => of({ appName: "other" }).open(7, message)),
    suiteError(() => of({ environment: "production" }).open(7, message)),
    suiteError(() => of().open(7, encodeMessage(raw))),
    suiteError(() => of().open(7, "AgR4")),
  ]);
  assertEquals(new Set(errors.map(({ code }) => code)), new Set(["decryption_failed"]));
  for (const error of errors) assert(!everythingShown(error).includes("canary"));
});

Deno.test("more secret keys than a message has room for are no obstacle", () => {
  const secretKeys = Array.from({ length: 40 }, (_, n) => `sb_secret_${n}`);
  const seal = of({ secretKeys });
  assertEquals(seal.open(1, seal.seal(1, SECRET)), SECRET);
});
