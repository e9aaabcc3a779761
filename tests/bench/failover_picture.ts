/** The failover run as an SVG that is readable on light and on dark pages. */
import type { FailoverRun, Second } from "./failover.ts";

const WIDTH = 760;
const LEFT = 64;
const RIGHT = 16;
const LATENCY = { top: 64, bottom: 264 } as const;
const COUNTS = { top: 300, bottom: 380 } as const;
const HEIGHT = 430;
/** Logarithmic, in milliseconds. */
const TICKS_MS = [1, 10, 100, 1000, 10_000] as const;

export function drawFailover(run: FailoverRun): string {
  const { seconds, diesAt, returnsAt, ratePerSecond } = run;
  const step = (WIDTH - LEFT - RIGHT) / seconds.length;
  const x = (second: number) => round(LEFT + second * step);
  const y = (ms: number) => {
    const share = Math.log10(Math.max(1, ms)) / Math.log10(TICKS_MS.at(-1)!);
    return round(LATENCY.bottom - share * (LATENCY.bottom - LATENCY.top));
  };
  const height = (count: number) => round(count / ratePerSecond * (COUNTS.bottom - COUNTS.top));
  const line = (name: string, of: (second: Second) => number) =>
    `<polyline class="${name}" points="${
      seconds.map((one) => `${round(x(one.second) + step / 2)},${y(of(one))}`).join(" ")
    }"/>`;
  const bars = (name: string, of: (second: Second) => number) =>
    seconds.filter((one) => of(one) > 0).map((one) =>
      `<rect class="${name}" x="${round(x(one.second) + 1)}" y="${
        round(COUNTS.bottom - height(of(one)))
      }" width="${round(step - 2)}" height="${height(of(one))}"/>`
    ).join("\n");
  const total = (of: (second: Second) => number) => seconds.reduce((sum, one) => sum + of(one), 0);

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-labelledby="title text">
<title id="title">A region dies and returns under steady load</title>
<desc id="text">Latency second by second of ${total((one) => one.calls)} calls, of which ${
    total((one) => one.errors)
  } failed; the primary region is silent from second ${diesAt} to ${returnsAt}.</desc>
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-size: 15px; font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.dead { fill: #cf222e; fill-opacity: .1 }
.p50, .p99 { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.p50 { stroke: #0969da }
.p99 { stroke: #bc4c00; stroke-dasharray: 6 3 }
.answered { fill: #0969da; fill-opacity: .45 }
.elsewhere { fill: #1a7f37 }
.errors { fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.dead { fill: #ff7b72; fill-opacity: .16 }
.p50 { stroke: #58a6ff }
.p99 { stroke: #f0883e }
.answered { fill: #58a6ff; fill-opacity: .45 }
.elsewhere { fill: #3fb950 }
.errors { fill: #ff7b72 }
}
</style>
<text class="heading" x="${LEFT}" y="20">A region dies and returns: ${ratePerSecond} KMS calls a second</text>
<text x="${LEFT}" y="40">one data key a call, attempt timeout ${run.attemptTimeoutMs} ms; ${
    total((one) => one.errors)
  } of ${total((one) => one.calls)} calls failed</text>
<rect class="dead" x="${x(diesAt)}" y="${LATENCY.top}" width="${
    round(x(returnsAt) - x(diesAt))
  }" height="${COUNTS.bottom - LATENCY.top}"/>
<text x="${x(diesAt) + 6}" y="${LATENCY.top + 14}">us-east-1 silent</text>
${
    TICKS_MS.map((ms) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(ms)}" y2="${y(ms)}"/>
<text x="${LEFT - 6}" y="${y(ms) + 4}" text-anchor="end">${
        ms < 1000 ? `${ms} ms` : `${ms / 1000} s`
      }</text>`
    ).join("\n")
  }
${line("p99", (one) => one.p99Ms)}
${line("p50", (one) => one.p50Ms)}
<text x="${LEFT - 6}" y="${COUNTS.top + 4}" text-anchor="end">${ratePerSecond}/s</text>
<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${COUNTS.bottom}" y2="${COUNTS.bottom}"/>
${bars("answered", (one) => one.calls)}
${bars("elsewhere", (one) => one.elsewhere)}
${bars("errors", (one) => one.errors)}
${
    seconds.filter(({ second }) => second % 4 === 0).map(({ second }) =>
      `<text x="${x(second)}" y="${COUNTS.bottom + 16}">${second} s</text>`
    ).join("\n")
  }
<line class="p50" x1="${LEFT}" x2="${LEFT + 24}" y1="418" y2="418"/><text x="${
    LEFT + 30
  }" y="422">p50</text>
<line class="p99" x1="${LEFT + 70}" x2="${LEFT + 94}" y1="418" y2="418"/><text x="${
    LEFT + 100
  }" y="422">p99</text>
<rect class="answered" x="${LEFT + 150}" y="412" width="12" height="12"/><text x="${
    LEFT + 168
  }" y="422">answered in us-east-1</text>
<rect class="elsewhere" x="${LEFT + 320}" y="412" width="12" height="12"/><text x="${
    LEFT + 338
  }" y="422">in another region</text>
<rect class="errors" x="${LEFT + 470}" y="412" width="12" height="12"/><text x="${
    LEFT + 488
  }" y="422">errors</text>
</svg>
`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
