/**
 * A Vault and a Google Cloud beside the local AWS, with the suite's keys in them, so that every provider can
 * be tried. For each there is a file that makes it the provider: `kms config set .local/providers/NAME.json`.
 */
import { DATA_CLASSES } from "./aws/seed.ts";
import type { DataDir } from "./data-dir.ts";
import { type LocalGcp, startLocalGcp } from "./gcp/mod.ts";
import { writePrivateFile } from "./private-file.ts";
import { type LocalVault, startLocalVault } from "./vault/mod.ts";

export interface KeyServices {
  readonly gcp: LocalGcp;
  readonly vault: LocalVault;
  close(): Promise<void>;
}

export interface KeyServicesOptions {
  readonly application: string;
  readonly environment: string;
  readonly onProgress: (line: string) => void;
}

export async function startKeyServices(
  dataDir: DataDir,
  { application, environment, onProgress }: KeyServicesOptions,
): Promise<KeyServices> {
  const [gcp, vault] = await Promise.all([
    onItsPort("Google Cloud", startLocalGcp, dataDir.file("gcp.json"), onProgress),
    onItsPort("Vault", startLocalVault, dataDir.file("vault.json"), onProgress),
  ]);
  for (const dataClass of DATA_CLASSES) {
    const name = `${application}-${dataClass}-${environment}`;
    for (const service of [gcp, vault]) if (!service.keyExists(name)) service.createKey(name);
  }
  await writeProviderFiles(dataDir, gcp, vault);
  return {
    gcp,
    vault,
    close: async () => {
      await Promise.all([gcp.close(), vault.close()]);
    },
  };
}

/** Where it was before, since stored settings name the address. */
async function onItsPort<Service>(
  name: string,
  start: (options: { stateFile: string; port?: number }) => Promise<Service>,
  stateFile: string,
  onProgress: (line: string) => void,
): Promise<Service> {
  try {
    return await start({ stateFile });
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EADDRINUSE") throw error;
    onProgress(
      `the port of the local ${name} is taken: it has another one now, and settings that name the ` +
        "old one must be set again",
    );
    return await start({ stateFile, port: 0 });
  }
}

/** Bodies of `PUT /config`, in files of mode 0600: they hold credentials. */
async function writeProviderFiles(
  dataDir: DataDir,
  gcp: LocalGcp,
  vault: LocalVault,
): Promise<void> {
  const files = {
    gcp: {
      provider: "gcp",
      project: gcp.project,
      location: gcp.location,
      key_ring: gcp.keyRing,
      credentials: { service_account: JSON.parse(gcp.credentialsJson) },
    },
    vault: {
      provider: "vault",
      addr: vault.endpoint,
      credentials: { role_id: vault.roleId, secret_id: vault.secretId },
    },
  };
  await Deno.mkdir(dataDir.file("providers"), { recursive: true, mode: 0o700 });
  for (const [name, body] of Object.entries(files)) {
    const path = dataDir.file("providers", `${name}.json`);
    await writePrivateFile(path, JSON.stringify(body, null, 2) + "\n");
  }
}
