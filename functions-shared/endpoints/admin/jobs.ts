/** `/jobs`: starting, working on, watching and cancelling jobs. */
import * as v from "valibot";
import { jobLocation, type Jobs } from "../../admin/jobs.ts";
import { DEFAULT_BUDGET_MS, type Reencryption } from "../../admin/reencryption.ts";
import { DATA_CLASSES } from "../../data-class.ts";
import { SuiteError } from "../../errors.ts";
import type { Exchange, Route } from "../../http/app.ts";
import { readOptionalJson } from "../../http/body.ts";
import { decodeCursor, encodeCursor, readLimit, readQuery } from "../../http/query.ts";
import { isUuid } from "../../http/uuid.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { integer, parseInput } from "../../validation.ts";
import { adminRoute, success } from "./route.ts";

export interface AdminJobServices {
  readonly audit: AuditLog;
  readonly jobs: Jobs;
  readonly reencryption: Reencryption;
}

/** With the last chunk it stays within the 150 s in which the platform wants an answer. */
const MAX_BUDGET_MS = 100_000;

const startSchema = v.strictObject({
  data_class: v.optional(v.picklist(DATA_CLASSES)),
  dry_run: v.optional(v.boolean()),
});

const runSchema = v.strictObject({ budget_ms: v.optional(integer(1, MAX_BUDGET_MS)) });

const LIST_SCOPE = "jobs ";

export function jobRoutes<Services extends AdminJobServices>(): readonly Route<Services>[] {
  return [
    adminRoute("POST", "/jobs/reencrypt", async ({ request, url, actor, services }) => {
      readQuery(url, []);
      const options = parseInput(startSchema, await readOptionalJson(request) ?? {});
      const job = await services.reencryption.start(actor, options);
      const answer = success(job, { status: 202 });
      answer.headers.set("location", jobLocation(actor, job));
      return answer;
    }),
    adminRoute("POST", "/jobs/run", async (exchange) => {
      const budgetMs = await readBudget(exchange);
      return success(await exchange.services.reencryption.runNext(exchange.actor, budgetMs));
    }),
    adminRoute("GET", "/jobs", async ({ url, services }) => {
      const { limit, cursor } = readQuery(url, ["limit", "cursor"]);
      const page = await services.jobs.list(readLimit(limit), decodeCursor(cursor, LIST_SCOPE));
      return success({ jobs: page.items, next_cursor: encodeCursor(page.next, LIST_SCOPE) });
    }),
    adminRoute("GET", "/jobs/:id", async (exchange) => {
      readQuery(exchange.url, []);
      return success(await exchange.services.jobs.get(jobId(exchange)));
    }),
    adminRoute("GET", "/jobs/:id/failures", async (exchange) => {
      const id = jobId(exchange);
      const scope = `job ${id} `;
      const { limit, cursor } = readQuery(exchange.url, ["limit", "cursor"]);
      const page = await exchange.services.jobs.failures(
        id,
        readLimit(limit),
        decodeCursor(cursor, scope),
      );
      return success({ failures: page.items, next_cursor: encodeCursor(page.next, scope) });
    }),
    adminRoute("POST", "/jobs/:id/run", async (exchange) => {
      const budgetMs = await readBudget(exchange);
      const { reencryption } = exchange.services;
      return success(await reencryption.run(exchange.actor, jobId(exchange), budgetMs));
    }),
    adminRoute("POST", "/jobs/:id/cancel", async (exchange) => {
      readQuery(exchange.url, []);
      parseInput(v.strictObject({}), await readOptionalJson(exchange.request) ?? {});
      return success(await exchange.services.jobs.cancel(exchange.actor, jobId(exchange)));
    }),
  ];
}

/** @throws {SuiteError} not_found for what cannot be the id of anything. */
function jobId({ param }: Pick<Exchange<unknown>, "param">): string {
  const id = param("id");
  if (!isUuid(id)) throw new SuiteError("not_found");
  return id.toLowerCase();
}

async function readBudget({ request, url }: Pick<Exchange<unknown>, "request" | "url">) {
  readQuery(url, []);
  const body = parseInput(runSchema, await readOptionalJson(request) ?? {});
  return body.budget_ms ?? DEFAULT_BUDGET_MS;
}
