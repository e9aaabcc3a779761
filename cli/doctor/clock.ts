/** Whether this machine's clock is that of the key service: signatures and tokens live by it. */
import type { Report } from "./report.ts";
import { clockOffset } from "./probe.ts";

/** AWS refuses signatures that are five minutes off. */
const FAIL_MS = 5 * 60_000;
const WARN_MS = 30_000;

/** @returns how far the service is ahead, milliseconds; 0 when it does not tell */
export async function checkClock(report: Report, check: string, url: string): Promise<number> {
  const offset = await clockOffset(url);
  if (offset === undefined) {
    report.warn(check, "the service does not tell its time", "look whether it can be reached");
    return 0;
  }
  const seconds = Math.round(Math.abs(offset) / 1000);
  const where = `this clock is ${seconds} s ${offset > 0 ? "behind" : "ahead"}`;
  const next = "set the clock of this machine by NTP";
  if (Math.abs(offset) >= FAIL_MS) report.fail(check, where, next);
  else if (Math.abs(offset) >= WARN_MS) report.warn(check, where, next);
  else report.pass(check, seconds <= 1 ? "in step" : where);
  return offset;
}
