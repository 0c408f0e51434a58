// SPDX-License-Identifier: Apache-2.0
/** Text in SVG and HTML documents. */

const FONT = 'font-family="system-ui, sans-serif"';

/** Text as it may stand in an element or in a quoted attribute. */
export function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** A line of text in an SVG document. @param size of the font, in pixels. @param attributes further ones, as they are */
export function svgText(x: number, y: number, content: string, size: number, attributes = ""): string {
  return `<text x="${x}" y="${y}" font-size="${size}" ${FONT} ${attributes}>${escaped(content)}</text>`;
}

/** An SVG document on white. */
export function svgDocument(width: number, height: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}
