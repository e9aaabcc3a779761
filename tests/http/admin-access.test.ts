/** Who may call `kms-admin`. */
import { assert, assertEquals } from "@std/assert";
import { userClaims } from "../../local/tokens.ts";
import { mintJwt, sharedStack } from "../support/stack.ts";
import { ADMIN, admin, adminData, newAdmin } from "./admin.ts";
import { assertProblem, newUser, SERVER, sql, test, TIMESTAMP } from "./suite.ts";

interface HealthAnswer {
  readonly provider: string;
  readonly healthy: boolean;
  readonly lastChecked: string;
  readonly responseTime: number;
}

const refusals = (userId: string) =>
  sql<{ actor_type: string }>(
    `select actor_type from kms.audit_log
     where actor_id = $1 and action = 'admin.access' and error_code = 'admin_required'`,
    [userId],
  );

test("health in the guide's shape, for a server and for an administrator", async () => {
  for (const caller of [SERVER, await newAdmin()]) {
    const health = await adminData<HealthAnswer>("GET", "/health", undefined, caller);
    assertEquals([health.provider, health.healthy], ["aws", true]);
    assert(TIMESTAMP.test(health.lastChecked) && health.responseTime >= 0);
  }
});

test("a user is refused on every path that exists, and that is audited", async () => {
  const user = await newUser();
  assertProblem(await admin(user, "GET", "/health"), 403, "admin_required");
  assertEquals(await refusals(user.userId), [{ actor_type: "user" }]);
  assertProblem(await admin({}, "GET", "/health"), 401, "unauthorized");
  assertProblem(await admin(SERVER, "GET", "/nothing"), 404, "not_found");
  assertProblem(await admin(SERVER, "DELETE", "/health"), 405, "method_not_allowed");
});

test("a role that users can write themselves makes no administrator", async () => {
  const stack = await sharedStack();
  const user = await newUser();
  const claims = userClaims({ apiUrl: stack.apiUrl, ...user });
  for (const forged of [{ user_metadata: { role: "admin" } }, { app_metadata: ["admin"] }]) {
    const token = await mintJwt(stack, { ...claims, ...forged });
    assertProblem(await admin({ token }, "GET", "/health"), 403, "admin_required");
  }
});

test("KMS_ADMIN_REQUIRE_AAL2: an administrator needs a second factor", async () => {
  const stack = await sharedStack();
  await stack.restartFunction(ADMIN, { KMS_ADMIN_REQUIRE_AAL2: "true" });
  try {
    const weak = await newAdmin();
    assertProblem(await admin(weak, "GET", "/health"), 403, "admin_required");
    assertEquals(await refusals(weak.userId), [{ actor_type: "admin" }]);
    await adminData("GET", "/health", undefined, await newAdmin("aal2"));
    await adminData("GET", "/health");
  } finally {
    await stack.restartFunction(ADMIN, {});
  }
});
