/** Which periods may be asked for, and where they start. Source: API reference, GetMetricStatistics. */

const MINUTE = 60;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const SHORT: readonly number[] = [1, 5, 10, 20, 30];

/** Seconds: what CloudWatch still has of data this old. */
function resolution(ageMs: number): number {
  if (ageMs <= 3 * HOUR_MS) return 1;
  if (ageMs <= 15 * DAY_MS) return MINUTE;
  return ageMs <= 63 * DAY_MS ? 5 * MINUTE : 60 * MINUTE;
}

/** Null when `period`, seconds, may be asked for over data as old as `ageMs`. */
export function checkPeriod(period: number, ageMs: number): string | null {
  if (!SHORT.includes(period) && period % MINUTE !== 0) {
    return "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.";
  }
  const finest = resolution(ageMs);
  return period % finest === 0
    ? null
    : `The parameter Period must be a multiple of ${finest} for a StartTime this far in the past.`;
}

/** Start of the first period, milliseconds since the epoch. */
export function roundStart(startTime: number, period: number, now: number): number {
  const step = period < MINUTE ? period : Math.max(MINUTE, resolution(now - startTime));
  return Math.floor(startTime / (step * 1000)) * step * 1000;
}
