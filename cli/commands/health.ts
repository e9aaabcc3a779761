/** `kms health`: what the health check says to holders of a secret key. */
import type { Command } from "commander";
import { CliError, EXIT } from "../errors.ts";
import type { Host } from "../host.ts";
import { facts } from "../text.ts";

export function healthCommand(program: Command, host: Host): void {
  host.command(program, "health", "encrypt and decrypt once under every key, and say how it went")
    .action(host.action(async (session) => {
      const client = await session.client();
      const { response, body } = await client.json("GET", "kms-health-check");
      // Unhealthy is an answer as well, under status 503.
      const { status, checks, provider } = (body ?? {}) as Record<string, unknown>;
      const known = status === "healthy" || status === "degraded" || status === "unhealthy";
      if (!known || typeof checks !== "object") throw client.failure(response, body);
      // Everybody gets an answer; the provider is named only to holders of a key.
      if (status !== "unhealthy" && provider === undefined) {
        const message = `the secret key is refused; what everybody is told: ${status}`;
        throw new CliError(EXIT.unauthorized, "unauthorized", message);
      }
      return {
        document: body,
        text: facts(body as object),
        exit: status === "unhealthy" ? EXIT.negative : EXIT.ok,
      };
    }));
}
