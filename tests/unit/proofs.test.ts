import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { createHmac, hkdfSync } from "node:crypto";
import { jwtVerify } from "jose";
import { SuiteError } from "../../functions-shared/errors.ts";
import { type ProofKey, Proofs } from "../../functions-shared/keys/proofs.ts";

const CLAIMS = { kind: "test", user_id: "u", counts: { a: 1 }, text: 'é "quoted" \u2713 😀' };

/** Proofs under a beacon key of these bytes, and the key they derive. */
function suite(fill = 7) {
  const beacon = new Uint8Array(32).fill(fill);
  const key = new Uint8Array(
    hkdfSync("sha512", beacon, new Uint8Array(0), "supabase-kms/proof/v1", 32),
  );
  const asked: unknown[] = [];
  const proofs = new Proofs({
    beacon: (...args) => {
      asked.push(args.slice(0, 2));
      return Promise.resolve(beacon);
    },
  });
  return { proofs, beacon, key, asked };
}

const sign = (proofs: Proofs, claims: Record<string, unknown> = CLAIMS) =>
  proofs.withKey((key) => Promise.resolve(key.sign(claims)));
const verify = (proofs: Proofs, proof: string) =>
  proofs.withKey((key) => Promise.resolve(key.verify(proof)));

Deno.test("what was signed is verified, in every worker with the same beacon key", async () => {
  const proof = await sign(suite().proofs);
  assertEquals(await verify(suite().proofs, proof), CLAIMS);
  assertEquals(await verify(suite(8).proofs, proof), undefined);
});

Deno.test("a proof is a JWS that others' code verifies", async () => {
  const { proofs, key } = suite();
  const { payload, protectedHeader } = await jwtVerify(await sign(proofs), key);
  assertEquals(payload, CLAIMS as unknown as typeof payload);
  assertEquals(protectedHeader, { alg: "HS256", typ: "kms-proof+jws" });
});

Deno.test("the key is one derived for proofs, and not the beacon key", async () => {
  const { proofs, beacon, asked } = suite();
  const copy = beacon.slice();
  const [header, payload, signature] = (await sign(proofs)).split(".");
  const direct = createHmac("sha256", copy).update(`${header}.${payload}`).digest("base64url");
  assertNotEquals(signature, direct);
  assertEquals(asked, [["general", "general"]]);
  assertEquals(beacon, new Uint8Array(32), "the beacon key is wiped");
});

Deno.test("a changed character anywhere makes it invalid", async () => {
  const proof = await sign(suite().proofs);
  for (let at = 0; at < proof.length; at++) {
    for (const character of ["A", "B", "."]) {
      if (proof[at] === character) continue;
      const changed = proof.slice(0, at) + character + proof.slice(at + 1);
      assertEquals(await verify(suite().proofs, changed), undefined, `at ${at}`);
    }
  }
});

Deno.test("the algorithm is not for the proof to choose", async () => {
  const { proofs, key } = suite();
  const payload = btoa(JSON.stringify({ kind: "test" })).replaceAll("=", "");
  for (
    const header of [{ alg: "none" }, { alg: "HS512" }, { alg: "HS256" }, {
      typ: "kms-proof+jws",
      alg: "HS256",
    }]
  ) {
    const signed = `${btoa(JSON.stringify(header)).replaceAll("=", "")}.${payload}`;
    const signature = createHmac("sha256", key).update(signed).digest("base64url");
    assertEquals(await verify(proofs, `${signed}.${signature}`), undefined);
    assertEquals(await verify(proofs, `${signed}.`), undefined);
  }
});

Deno.test("claims of every length come back", async () => {
  for (let length = 0; length < 8; length++) {
    const claims = { text: "x".repeat(length) };
    assertEquals(await verify(suite().proofs, await sign(suite().proofs, claims)), claims);
  }
});

Deno.test("the key signs no more once its work has ended, well or not", async () => {
  const { proofs, beacon } = suite();
  let kept: ProofKey | undefined;
  await assertRejects(
    () =>
      proofs.withKey((key) => {
        kept = key;
        return Promise.reject(new SuiteError("database_unavailable"));
      }),
    SuiteError,
  );
  assert(kept !== undefined);
  beacon.fill(7);
  assertEquals(await verify(proofs, kept.sign(CLAIMS)), undefined);
});

Deno.test("without the key there is no work", async () => {
  const proofs = new Proofs({ beacon: () => Promise.reject(new SuiteError("kms_unavailable")) });
  let worked = false;
  const error = await assertRejects(
    () => proofs.withKey(() => Promise.resolve(worked = true)),
    SuiteError,
  );
  assertEquals([error.code, worked], ["kms_unavailable", false]);
});
