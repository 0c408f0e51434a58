// SPDX-License-Identifier: Apache-2.0
/** Bytes of a definition as text, in the encoding that they say they are in. */
import { DefinitionError } from "../errors.js";

/** Encodings that an XML declaration may name, in lower case, and the decoder for each. */
const DECLARED: Readonly<Record<string, string>> = {
  "utf-8": "utf-8",
  utf8: "utf-8",
  "us-ascii": "utf-8",
  ascii: "utf-8",
  "iso-8859-1": "windows-1252",
  latin1: "windows-1252",
  "iso-8859-15": "iso-8859-15",
  "windows-1252": "windows-1252",
};

function fail(name: string, message: string): never {
  throw new DefinitionError(name, [{ message, path: "", line: 1, column: 1, hint: "save it as UTF-8" }]);
}

function byteOrderMark(bytes: Uint8Array): string | undefined {
  const [a, b, c] = bytes;
  if (a === 0xff && b === 0xfe) return "utf-16le";
  if (a === 0xfe && b === 0xff) return "utf-16be";
  if (a === 0xef && b === 0xbb && c === 0xbf) return "utf-8";
  // XML without a mark: its first character is "<".
  if (a === 0x3c && b === 0) return "utf-16le";
  if (a === 0 && b === 0x3c) return "utf-16be";
  return undefined;
}

function declared(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 256)).toString("latin1");
  return /^<\?xml\s[^>]*?\sencoding\s*=\s*["']([^"'>]*)["']/.exec(head)?.[1];
}

/** @throws DefinitionError for bytes that are not text in that encoding. */
export function decode(bytes: Uint8Array, name: string): string {
  const mark = byteOrderMark(bytes);
  const said = mark === undefined ? declared(bytes)?.toLowerCase() : undefined;
  const encoding = mark ?? (said === undefined ? "utf-8" : DECLARED[said]);
  if (encoding === undefined) {
    fail(name, `the encoding ${JSON.stringify(said)} is not known here`);
  }
  let text: string;
  try {
    text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return fail(name, `this is not text in ${encoding.toUpperCase()}`);
  }
  if (text.includes("\0")) fail(name, "this is not text: it holds a NUL character");
  return text;
}

export function looksLikeXml(text: string): boolean {
  return /^\s*</.test(text);
}
