// SPDX-License-Identifier: Apache-2.0
/** The report: one HTML file with table, plots and all data in it, which needs no network. */
import { escaped } from "../measure/markup.js";
import { bandwidthPlot, latencyPlot } from "./plot.js";
import type { NetBenchResult } from "./result.js";
import { circumstances, HEADING, rows, skipped, verdicts } from "./table.js";

const STYLE = `
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #0f172a }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #e2e8f0; padding: .25rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto }
figure { display: inline-block; margin: 1rem 1rem 0 0 }
svg { max-width: 100%; height: auto }
code { font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere }
`;

function tableOf(heading: readonly string[], body: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join("")}</tr>`;
  return `<div class="wide"><table><thead>${line(heading, "th")}</thead><tbody>\n${body.map((cells) => line(cells, "td")).join("\n")}\n</tbody></table></div>`;
}

function list(items: readonly string[]): string {
  return items.length === 0 ? "" : `<ul>${items.map((item) => `<li>${escaped(item)}</li>`).join("")}</ul>`;
}

/** Both machines, as they were. */
function environment(result: NetBenchResult): string {
  const machines = [["machine", result.machine] as const, ["host below it", result.host] as const];
  const body = machines.flatMap(([name, of]) =>
    of === null
      ? []
      : Object.entries(of).map(([key, value]) => [
          `${name}: ${key}`,
          typeof value === "object" && value !== null ? JSON.stringify(value) : String(value),
        ]),
  );
  return tableOf(["what", "value"], body);
}

function commands(result: NetBenchResult): string {
  const smallest = Math.min(...result.plan.sizes);
  const shown = result.series.filter(
    ({ bytes, pairs }) => bytes === smallest && pairs === result.plan.pairs[0],
  );
  return list(shown.flatMap((series) => series.commands));
}

/** JSON within a script element: no text of it may end that. */
function embedded(result: NetBenchResult): string {
  return JSON.stringify(result).replaceAll("<", "\\u003c");
}

/** A complete HTML document. */
export function reportHtml(result: NetBenchResult): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>v2m bench net, ${escaped(result.machine.date.slice(0, 10))}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Networks between guests</h1>
${list(circumstances(result))}
<p><code>${escaped(result.command.join(" "))}</code></p>
${list(skipped(result))}
<figure id="latency">
${latencyPlot(result)}</figure>
<figure id="bandwidth">
${bandwidthPlot(result)}</figure>
<h2>Figures</h2>
${tableOf(HEADING, rows(result))}
${list(verdicts(result))}
<h2>To repeat it</h2>
${commands(result)}
${environment(result)}
<script type="application/json" id="result">${embedded(result)}</script>
</body>
</html>
`;
}
