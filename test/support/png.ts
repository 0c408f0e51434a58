// SPDX-License-Identifier: Apache-2.0
/** Just enough of PNG to look at a screenshot: 8 bits a channel, RGB or RGBA, not interlaced (RFC 2083). */
import { inflateSync } from "node:zlib";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Whether a pixel has this colour. */
  is(x: number, y: number, rgb: readonly [number, number, number]): boolean;
}

const SIGNATURE_BYTES = 8;
const RGB = 2;
const RGBA = 6;

/** The predictor of filter 4. */
function paeth(a: number, b: number, c: number): number {
  const p = a + b - c;
  const [pa, pb, pc] = [Math.abs(p - a), Math.abs(p - b), Math.abs(p - c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/** @throws Error for kinds of PNG that it does not know */
export function decodePng(file: Buffer): Picture {
  const data: Buffer[] = [];
  let [width, height, channels] = [0, 0, 0];
  for (let at = SIGNATURE_BYTES; at < file.length; ) {
    const bytes = file.readUInt32BE(at);
    const type = file.toString("latin1", at + 4, at + 8);
    const chunk = file.subarray(at + 8, at + 8 + bytes);
    if (type === "IHDR") {
      [width, height] = [chunk.readUInt32BE(0), chunk.readUInt32BE(4)];
      const [depth, kind, interlaced] = [chunk[8], chunk[9], chunk[12]];
      if (depth !== 8 || (kind !== RGB && kind !== RGBA) || interlaced !== 0)
        throw new Error("a PNG of another kind");
      channels = kind === RGB ? 3 : 4;
    }
    if (type === "IDAT") data.push(chunk);
    at += bytes + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const pixels = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x < channels ? 0 : (pixels[y * stride + x - channels] ?? 0);
      const up = y === 0 ? 0 : (pixels[(y - 1) * stride + x] ?? 0);
      const corner = y === 0 || x < channels ? 0 : (pixels[(y - 1) * stride + x - channels] ?? 0);
      const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter ?? 0] ?? 0;
      pixels[y * stride + x] = (raw[y * (stride + 1) + 1 + x] ?? 0) + predicted;
    }
  }
  return {
    width,
    height,
    is: (x, y, rgb) => rgb.every((value, i) => pixels[y * stride + x * channels + i] === value),
  };
}
