// SPDX-License-Identifier: Apache-2.0
/** Plots against the size of a message, both axes logarithmic. */
import { escaped, svgDocument, svgText } from "../measure/markup.js";
import { short } from "../measure/statistics.js";
import { LABELS } from "./names.js";
import { medianOf, type NetBenchResult, type Point, type Series } from "./result.js";
import { formatSize, formatTime } from "./table.js";

const COLOURS = ["#2563eb", "#dc2626", "#16a34a", "#9333ea", "#ea580c", "#0891b2", "#be185d"] as const;
/** Of floors; not those of text. */
const GREYS = ["#475569", "#94a3b8", "#78716c", "#a8a29e"] as const;
const MARGIN = { left: 84, right: 20, top: 40, bottom: 56 };
const PLOT = { width: 620, height: 340 };
const LEGEND_ROW = 20;
const WIDTH = MARGIN.left + PLOT.width + MARGIN.right;
const POINT_RADIUS = 3;

interface Line {
  readonly label: string;
  readonly colour: string;
  /** SVG's stroke-dasharray; none: drawn through. */
  readonly dash: string;
  /** Positive, in order of x. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** From a value to its place, on a logarithmic axis. */
class Axis {
  readonly #low: number;
  readonly #high: number;
  readonly #from: number;
  readonly #to: number;

  /** @param base of the powers at which the axis begins and ends */
  constructor(values: readonly number[], base: number, from: number, to: number) {
    const low = Math.floor(Math.log(Math.min(...values)) / Math.log(base) + 1e-9);
    const high = Math.ceil(Math.log(Math.max(...values)) / Math.log(base) - 1e-9);
    this.#low = low * Math.log(base);
    this.#high = Math.max(high, low + 1) * Math.log(base);
    this.#from = from;
    this.#to = to;
  }

  at(value: number): number {
    const share = (Math.log(value) - this.#low) / (this.#high - this.#low);
    return this.#from + share * (this.#to - this.#from);
  }

  /** Powers of a base within the axis. */
  powers(base: number): number[] {
    const first = Math.ceil(this.#low / Math.log(base) - 1e-9);
    const last = Math.floor(this.#high / Math.log(base) + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => base ** (first + i));
  }
}

function drawn(line: Line, x: Axis, y: Axis): string[] {
  const places = line.points.map(([px, py]) => [x.at(px).toFixed(1), y.at(py).toFixed(1)] as const);
  const path = places.map(([px, py], i) => `${i === 0 ? "M" : "L"}${px} ${py}`).join("");
  const dash = line.dash === "" ? "" : ` stroke-dasharray="${line.dash}"`;
  const title = `<title>${escaped(line.label)}</title>`;
  return [
    `<path d="${path}" fill="none" stroke="${line.colour}" stroke-width="2"${dash}>${title}</path>`,
    ...places.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="${POINT_RADIUS}" fill="${line.colour}"/>`),
  ];
}

function axes(x: Axis, y: Axis, unit: (value: number) => string): string[] {
  const [left, top, right, bottom] = [
    MARGIN.left,
    MARGIN.top,
    MARGIN.left + PLOT.width,
    MARGIN.top + PLOT.height,
  ];
  return [
    ...x.powers(8).flatMap((value) => {
      const at = x.at(value).toFixed(1);
      return [
        `<path d="M${at} ${top}V${bottom}" stroke="#e2e8f0"/>`,
        svgText(Number(at), bottom + 18, formatSize(value), 12, 'text-anchor="middle" fill="#64748b"'),
      ];
    }),
    ...y.powers(10).flatMap((value) => {
      const at = y.at(value).toFixed(1);
      return [
        `<path d="M${left} ${at}H${right}" stroke="#e2e8f0"/>`,
        svgText(
          left - 8,
          Number(at) + 4,
          unit(value).replace(/\.0+ /, " "),
          12,
          'text-anchor="end" fill="#64748b"',
        ),
      ];
    }),
    svgText((left + right) / 2, bottom + 36, "size of a message", 12, 'text-anchor="middle" fill="#334155"'),
  ];
}

function legend(lines: readonly Line[], top: number): string[] {
  return lines.flatMap((line, i) => {
    const [x, y] = [MARGIN.left + (i % 2) * (PLOT.width / 2), top + Math.floor(i / 2) * LEGEND_ROW];
    const dash = line.dash === "" ? "" : ` stroke-dasharray="${line.dash}"`;
    return [
      `<path d="M${x} ${y - 4}h28" stroke="${line.colour}" stroke-width="2"${dash}/>`,
      svgText(x + 36, y, line.label, 12, 'fill="#0f172a"'),
    ];
  });
}

/** @param unit how a value of the vertical axis is written */
function chart(
  title: string,
  lines: readonly Line[],
  unit: (value: number) => string,
  footer: string,
): string {
  const points = lines.flatMap((line) => line.points);
  const legendTop = MARGIN.top + PLOT.height + MARGIN.bottom + 4;
  const height = legendTop + Math.ceil(lines.length / 2) * LEGEND_ROW + 24;
  const head = svgText(12, 22, title, 14, 'font-weight="600"');
  const foot = svgText(12, height - 8, footer, 12, 'fill="#64748b"');
  if (points.length === 0)
    return svgDocument(WIDTH, height, [head, svgText(12, 60, "nothing was measured", 12), foot]);
  const x = new Axis(
    points.map(([px]) => px),
    2,
    MARGIN.left,
    MARGIN.left + PLOT.width,
  );
  const y = new Axis(
    points.map(([, py]) => py),
    10,
    MARGIN.top + PLOT.height,
    MARGIN.top,
  );
  return svgDocument(WIDTH, height, [
    head,
    ...axes(x, y, unit),
    ...lines.flatMap((line) => drawn(line, x, y)),
    ...legend(lines, legendTop),
    foot,
  ]);
}

/** Lines of one test, one for each contender and number of pairs. */
function linesOf(
  result: NetBenchResult,
  test: Series["test"],
  pick: (point: Point) => number | null | undefined,
  style: { readonly suffix: string; readonly dash: string },
): Line[] {
  const keys = [...new Set(result.series.map(({ id, kind, pairs }) => `${kind} ${id} ${pairs}`))];
  const colour = (key: string) => {
    const same = keys.filter((other) => other.split(" ")[0] === key.split(" ")[0]);
    const list = key.startsWith("path") ? COLOURS : GREYS;
    return list[same.indexOf(key) % list.length] ?? COLOURS[0];
  };
  return keys.flatMap((key): Line[] => {
    const own = result.series.filter((s) => `${s.kind} ${s.id} ${s.pairs}` === key && s.test === test);
    const points = own
      .map((series) => [series.bytes, medianOf(series, pick) ?? 0] as const)
      .filter(([, value]) => value > 0)
      .toSorted(([a], [b]) => a - b);
    const [first] = own;
    if (first === undefined || points.length === 0) return [];
    const many = first.pairs === 1 ? "" : `, ${first.pairs} pairs`;
    return [
      { label: `${LABELS[first.id]}${many}${style.suffix}`, colour: colour(key), dash: style.dash, points },
    ];
  });
}

function footerOf(result: NetBenchResult): string {
  const { machine, plan, guests } = result;
  const where = machine.testbed === null ? "" : ` (emulated ${machine.testbed} machine)`;
  return `${machine.date.slice(0, 10)}, ${machine.cpu}${where}; ${guests.kind} guests; medians of ${plan.rounds} rounds`;
}

/** Latency, one way: medians, and dotted the 99.9th percentile. */
export function latencyPlot(result: NetBenchResult): string {
  const lines = [
    ...linesOf(result, "latency", (p) => p.latencyNs?.p50, { suffix: "", dash: "" }),
    ...linesOf(result, "latency", (p) => p.latencyNs?.p999, { suffix: ", 99.9 %", dash: "2 4" }),
  ];
  return chart("Latency, one way (less is better)", lines, formatTime, footerOf(result));
}

function formatBandwidth(bytesPerSecond: number): string {
  return bytesPerSecond >= 1e9
    ? `${short(bytesPerSecond / 1e9)} GB/s`
    : `${short(bytesPerSecond / 1e6)} MB/s`;
}

/** Bandwidth: one way, and dashed both ways together. */
export function bandwidthPlot(result: NetBenchResult): string {
  const lines = [
    ...linesOf(result, "stream", (p) => p.bytesPerSecond, { suffix: "", dash: "" }),
    ...linesOf(result, "both", (p) => p.bytesPerSecond, { suffix: ", both ways", dash: "7 4" }),
  ];
  return chart("Bandwidth (more is better)", lines, formatBandwidth, footerOf(result));
}
