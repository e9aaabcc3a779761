/** The deep health view: how each region fares, and what is kept for the dashboard. */
import { assert, assertEquals } from "@std/assert";
import { call, sharedStack } from "../support/stack.ts";
import { HEALTH, sql, test } from "./suite.ts";

interface DeepHealth {
  readonly status: string;
  readonly regions: Record<string, boolean>;
  readonly circuit_breakers: Record<string, {
    readonly state: string;
    readonly consecutive_failures: number;
    readonly next_probe_at: string | null;
  }>;
}

async function deepHealth(): Promise<
  { status: number; body: DeepHealth; retryAfter: string | null }
> {
  const response = await call(await sharedStack(), HEALTH, "", { secret: true });
  const body = await response.json() as DeepHealth;
  return { status: response.status, body, retryAfter: response.headers.get("retry-after") };
}

/** The function with a region dead, for as long as `work` runs. */
async function withDeadRegion(
  env: Record<string, string>,
  work: () => Promise<void>,
): Promise<void> {
  const stack = await sharedStack();
  await stack.restartFunction(HEALTH, { KMS_HEALTH_CACHE_MS: "0", ...env });
  stack.aws.faults.set([{ region: "us-east-1", effect: { kind: "refuse" } }]);
  try {
    await work();
  } finally {
    stack.aws.faults.clear();
    await sql("delete from kms.region_health");
    await stack.restartFunction(HEALTH, {});
  }
}

test("all well: every region healthy, every circuit closed", async () => {
  const { status, body } = await deepHealth();
  assertEquals([status, body.status], [200, "healthy"]);
  assertEquals(body.regions, { "us-east-1": true, "us-west-2": true, "eu-west-1": true });
  assertEquals(
    Object.values(body.circuit_breakers).map(({ state }) => state),
    ["CLOSED", "CLOSED", "CLOSED"],
  );
});

test("a dead region is degraded for those who look deep, and healthy for the public", async () => {
  await withDeadRegion({}, async () => {
    const { status, body, retryAfter } = await deepHealth();
    assertEquals([status, body.status, retryAfter], [200, "degraded", null]);
    assertEquals(body.regions, { "us-east-1": false, "us-west-2": true, "eu-west-1": true });
    assert(body.circuit_breakers["us-east-1"]?.next_probe_at);
    const open = await call(await sharedStack(), HEALTH);
    const answer = await open.json() as DeepHealth;
    assertEquals([open.status, answer.status, "regions" in answer], [200, "healthy", false]);
  });
});

test("KMS_HEALTH_DEGRADED_STATUS=503 tells monitors, with a Retry-After", async () => {
  await withDeadRegion({ KMS_HEALTH_DEGRADED_STATUS: "503" }, async () => {
    const { status, body, retryAfter } = await deepHealth();
    assertEquals([status, body.status], [503, "degraded"]);
    assertEquals(retryAfter, "1");
  });
});

test("results are kept for the dashboard: codes, regions, latency", async () => {
  await deepHealth();
  // Recorded in the background, after the answer.
  for (let round = 0; round < 100; round++) {
    const rows = await sql<{ status: string; checks: unknown; regions: unknown }>(
      "select status, checks, regions from kms.health_history order by checked_at limit 1",
    );
    if (rows.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      continue;
    }
    assertEquals(rows[0], {
      status: "healthy",
      checks: { kms_connectivity: "pass", key_functionality: "pass" },
      regions: { "us-east-1": "CLOSED", "us-west-2": "CLOSED", "eu-west-1": "CLOSED" },
    });
    return;
  }
  throw new Error("nothing was recorded");
});
