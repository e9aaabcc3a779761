import { EnvKeyProvider } from "../../functions-shared/keys/providers/env.ts";
import { bytes } from "../unit/support/identity.ts";
import { keyProviderContract } from "./key-provider.ts";

keyProviderContract("env", () =>
  Promise.resolve({
    provider: () => new EnvKeyProvider(bytes("x".repeat(32))),
    foreign: [["env:pii-00112233", "pii-00112233"], ["env:", ""]],
    calls: () => 0,
    faults: [],
    withFault: () => Promise.reject(new Error("there is no service")),
    withLostRotation: () => Promise.reject(new Error("there is no service")),
    rotations: () => 0,
    close: () => Promise.resolve(),
  }), { service: false });
