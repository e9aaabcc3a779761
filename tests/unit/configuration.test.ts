import { assertEquals } from "@std/assert";
import { Configuration } from "../../functions-shared/admin/configuration.ts";
import type { SealedRevision } from "../../functions-shared/admin/settings-store.ts";
import { sealSettings } from "../../functions-shared/admin/stored-settings.ts";
import { loadConfig } from "../../functions-shared/config.ts";
import { SettingsSeal } from "../../functions-shared/keys/settings-seal.ts";
import { AWS } from "./support/environment.ts";

const STORED_AT = Date.parse("2026-11-25T12:00:00.000Z");

/** A store with one revision, or with none, looked at some milliseconds after it was stored. */
async function everywhere(afterMs: number, stored = true): Promise<boolean> {
  const environment = { ...AWS, KMS_CONFIG_CACHE_MS: "60000" };
  const config = loadConfig(environment);
  const seal = new SettingsSeal({
    ...config,
    secretKeys: Object.values(config.supabase.secretKeys),
  });
  const row: SealedRevision = {
    revision: 1,
    provider: "aws",
    restores: null,
    reason: null,
    actor_type: "secret_key",
    actor_id: "default",
    created_at: new Date(STORED_AT).toISOString(),
    in_vault: true,
    restorable: true,
    message: sealSettings(seal, 1, { KMS_PROVIDER: "aws" }),
  };
  const unused = () => Promise.reject(new Error("not for reading"));
  const view = await new Configuration({
    environment,
    config,
    seal,
    store: {
      read: () => Promise.resolve(stored ? row : undefined),
      put: unused,
      history: unused,
      keysInUse: unused,
    },
    audit: { append: unused },
    keysOf: () => {
      throw new Error("not for reading");
    },
    renew: unused,
    now: () => STORED_AT + afterMs,
  }).get();
  return view.everywhere;
}

Deno.test("settings are everywhere when one cache time is over, and not before", async () => {
  assertEquals(await everywhere(0), false);
  assertEquals(await everywhere(59_999), false);
  assertEquals(await everywhere(60_000), true);
  // The database's clock is a little ahead of the worker's.
  assertEquals(await everywhere(-5), false);
});

Deno.test("where nothing was ever stored, there is nothing to wait for", async () => {
  assertEquals(await everywhere(0, false), true);
});
