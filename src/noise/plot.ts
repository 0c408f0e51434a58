// SPDX-License-Identifier: Apache-2.0
/** The plot: for each method a time line of all detours and a histogram of their lengths, both on the same scale. */
import { svgDocument, svgText } from "../measure/markup.js";
import { METHODS, type Method, type Place } from "./names.js";
import { METHOD_NAMES, medians, type NoiseResult, PLACE_NAMES, type Series } from "./result.js";

const COLOURS: Readonly<Record<Place, string>> = { host: "#94a3b8", linux: "#dc2626", lwk: "#2563eb" };
const MARGIN = { left: 76, right: 16, top: 44, gap: 44 };
const TIME_WIDTH = 520;
const HISTOGRAM_WIDTH = 260;
const HEIGHT = 190;
const PANEL = HEIGHT + 86;
const WIDTH = MARGIN.left + TIME_WIDTH + MARGIN.gap + HISTOGRAM_WIDTH + MARGIN.right;
/** Lengths that are shown, as powers of ten of nanoseconds: 100 ns to 100 ms; others are moved to the edge. */
const LOW = 2;
const HIGH = 8;
const BINS_PER_DECADE = 5;
const BINS = (HIGH - LOW) * BINS_PER_DECADE;
const UNITS = ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"];

function text(x: number, y: number, content: string, attributes = ""): string {
  return svgText(x, y, content, 12, attributes);
}

function decades(ns: number): number {
  return Math.min(HIGH, Math.max(LOW, Math.log10(Math.max(ns, 1))));
}

function height(ns: number, top: number): number {
  return top + HEIGHT * (1 - (decades(ns) - LOW) / (HIGH - LOW));
}

/** How many detours have a length in each bin. */
export function histogram(of: Series): number[] {
  const bins = new Array<number>(BINS).fill(0);
  for (const [, ns] of of.detours) {
    const bin = Math.min(BINS - 1, Math.floor((decades(ns) - LOW) * BINS_PER_DECADE));
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  return bins;
}

/** Detours as dots; those that would fall on each other are drawn once. */
function timeLine(of: Series, seconds: number, top: number): string {
  const drawn = new Set<string>();
  for (const [at, ns] of of.detours) {
    const x = MARGIN.left + Math.min(1, at / 1e9 / seconds) * TIME_WIDTH;
    drawn.add(`M${x.toFixed(1)} ${height(ns, top).toFixed(1)}h1.6`);
  }
  return `<path d="${[...drawn].join("")}" stroke="${COLOURS[of.place]}" stroke-width="1.6" stroke-opacity="0.6"/>`;
}

/** Counts to the right on a logarithmic scale, lengths upwards as in the time line. */
function outline(of: Series, most: number, top: number): string {
  const left = MARGIN.left + TIME_WIDTH + MARGIN.gap;
  const step = HEIGHT / BINS;
  const points = histogram(of).map((count, bin) => {
    const x = left + (Math.log10(1 + count) / Math.log10(1 + most)) * HISTOGRAM_WIDTH;
    const bottom = top + HEIGHT - bin * step;
    return `L${x.toFixed(1)} ${bottom.toFixed(1)}V${(bottom - step).toFixed(1)}`;
  });
  const path = `M${left} ${top + HEIGHT}${points.join("")}H${left}`;
  const colour = COLOURS[of.place];
  return `<path d="${path}" fill="${colour}" fill-opacity="0.12" stroke="${colour}" stroke-width="1.2"/>`;
}

function grid(top: number): string[] {
  const left = MARGIN.left + TIME_WIDTH + MARGIN.gap;
  return UNITS.flatMap((label, i) => {
    const y = height(10 ** (LOW + i), top).toFixed(1);
    const line = (x: number, width: number) => `<path d="M${x} ${y}h${width}" stroke="#e2e8f0"/>`;
    return [
      line(MARGIN.left, TIME_WIDTH),
      line(left, HISTOGRAM_WIDTH),
      text(MARGIN.left - 6, Number(y) + 4, label, 'text-anchor="end" fill="#64748b"'),
    ];
  });
}

function panel(method: Method, all: readonly Series[], seconds: number, top: number): string[] {
  const most = Math.max(1, ...all.flatMap(histogram));
  const left = MARGIN.left + TIME_WIDTH + MARGIN.gap;
  const legend = all.map((of, i) => {
    const label = `${PLACE_NAMES[of.place]}: ${(medians(of).lost * 100).toPrecision(3)} % lost`;
    return text(MARGIN.left + 190 * i, top + HEIGHT + 36, label, `fill="${COLOURS[of.place]}"`);
  });
  return [
    text(12, top - 12, METHOD_NAMES[method], 'font-weight="600" fill="#334155"'),
    ...grid(top),
    ...all.map((of) => timeLine(of, seconds, top)),
    ...all.map((of) => outline(of, most, top)),
    text(MARGIN.left, top + HEIGHT + 16, "0 s", 'fill="#64748b"'),
    text(MARGIN.left + TIME_WIDTH, top + HEIGHT + 16, `${seconds} s`, 'text-anchor="end" fill="#64748b"'),
    text(left, top + HEIGHT + 16, "how many (logarithmic)", 'fill="#64748b"'),
    text(left + HISTOGRAM_WIDTH, top + HEIGHT + 16, String(most), 'text-anchor="end" fill="#64748b"'),
    ...legend,
  ];
}

/** An SVG document of all that was measured. */
export function noisePlot(result: NoiseResult): string {
  const shown = METHODS.map((method) => ({
    method,
    all: result.series.filter((of) => of.method === method),
  })).filter(({ all }) => all.length > 0);
  const total = MARGIN.top + shown.length * PANEL + 24;
  const where = result.testbed === null ? "" : ` in the emulated ${result.testbed} machine`;
  const footer = `${result.date.slice(0, 10)}, ${result.cpu}${where}; ${result.rounds === 1 ? "one round" : `medians of ${result.rounds} rounds, the median round is drawn`}`;
  return svgDocument(WIDTH, total, [
    text(12, 20, "Noise: how long the CPU was away from the program, and when", 'font-weight="600"'),
    ...shown.flatMap(({ method, all }, i) =>
      panel(method, all, result.parameters.seconds, MARGIN.top + 16 + i * PANEL),
    ),
    text(12, total - 10, footer, 'fill="#64748b"'),
  ]);
}
