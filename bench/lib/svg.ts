// SPDX-License-Identifier: Apache-2.0
/** A small plot: one horizontal bar for each contender up to the median, a dot for each round. */
import { svgDocument, svgText } from "../../src/measure/markup.js";
import { short, summarize } from "../../src/measure/statistics.js";

export interface Bar {
  readonly label: string;
  /** The rounds' values; without any, the row says so. */
  readonly values: readonly number[];
  /** Drawn in the colour of what the benchmark is about; the rest is grey. */
  readonly own: boolean;
}

export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
}

const ROW = 26;
const LABEL_WIDTH = 250;
const PLOT_WIDTH = 430;
const VALUE_WIDTH = 110;
const WIDTH = LABEL_WIDTH + PLOT_WIDTH + VALUE_WIDTH;
function text(x: number, y: number, content: string, attributes = ""): string {
  return svgText(x, y, content, 13, attributes);
}

function row(bar: Bar, y: number, scale: number, unit: string): string[] {
  const middle = y + ROW / 2;
  const label = text(LABEL_WIDTH - 8, middle + 4, bar.label, 'text-anchor="end"');
  if (bar.values.length === 0) return [label, text(LABEL_WIDTH + 4, middle + 4, "not measured")];
  const { median } = summarize(bar.values);
  const width = (median * scale).toFixed(1);
  const colour = bar.own ? "#2563eb" : "#94a3b8";
  return [
    label,
    `<rect x="${LABEL_WIDTH}" y="${y + 4}" width="${width}" height="${ROW - 8}" fill="${colour}"/>`,
    ...bar.values.map(
      (value) =>
        `<circle cx="${(LABEL_WIDTH + value * scale).toFixed(1)}" cy="${middle}" r="2.5" fill="#0f172a" fill-opacity="0.55"/>`,
    ),
    text(LABEL_WIDTH + PLOT_WIDTH + 8, middle + 4, `${short(median)} ${unit}`),
  ];
}

/** An SVG document with the panels below each other, and a line about where the figures come from. */
export function plot(title: string, panels: readonly Panel[], footer: string): string {
  const parts: string[] = [text(12, 24, title, 'font-weight="600"')];
  let y = 40;
  for (const panel of panels) {
    const highest = Math.max(...panel.bars.flatMap((bar) => bar.values), Number.MIN_VALUE);
    parts.push(text(12, y + 16, panel.title, 'fill="#334155"'));
    y += ROW;
    for (const bar of panel.bars) {
      parts.push(...row(bar, y, PLOT_WIDTH / highest, panel.unit));
      y += ROW;
    }
    y += 12;
  }
  parts.push(text(12, y + 12, footer, 'fill="#64748b"'));
  return svgDocument(WIDTH, y + 28, parts);
}
