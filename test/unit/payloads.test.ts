// SPDX-License-Identifier: Apache-2.0
/** The payloads as files: all are built and known, and parameters land where the guest reads them. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  PARAMETER_MAGIC,
  PARAMETERS_MAX,
  payload,
  payloadNames,
  payloadPath,
  payloads,
} from "../support/payloads.js";

/** The header of a flat image: a short jump, the magic, the parameters. */
const HEADER_BYTES = 64;

function file(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

describe("payloads", () => {
  it.each(payloadNames)("%s is built and small", (name) => {
    expect(statSync(payloadPath(name)).size).toBeLessThanOrEqual(8192);
    expect(payloads[name].parameters.length).toBeLessThanOrEqual(PARAMETERS_MAX);
  });

  it("are all known", () => {
    const built = readdirSync(dirname(payloadPath("hello"))).filter((name) => /\.(bin|elf)$/.test(name));
    const known = payloadNames.map((name) => payloads[name].file as string);
    expect([...built].sort()).toEqual([...known, "reset_stub.bin", "lwk.elf"].sort());
  });

  it.each(payloadNames.filter((name) => payloads[name].kind.startsWith("flat")))(
    "%s has the header",
    (name) => {
      const image = Buffer.from(payload(name).kernel);
      expect(image.subarray(0, 2)).toEqual(Buffer.from([0xeb, HEADER_BYTES - 2]));
      expect(image.toString("latin1", 8, 16)).toBe(PARAMETER_MAGIC);
    },
  );

  it("take parameters", () => {
    const image = Buffer.from(payload("pio", { count: 7, value: -1n }).kernel);
    const read = (index: number) => image.readBigUInt64LE(16 + 8 * index);
    expect([0, 1, 2, 3, 4, 5].map(read)).toEqual([7n, 0xf0n, 1n, 0n, 0xffff_ffff_ffff_ffffn, 0n]);
  });

  it("refuse unknown parameters", () => {
    // @ts-expect-error: not one of its parameters
    expect(() => payload("pio", { speed: 1 })).toThrow("has no parameter speed: it has count, port");
    // @ts-expect-error: it has none
    expect(() => payload("boot-pvh", { count: 1 })).toThrow("it has none");
  });

  it("agree with the library about the reset stub", () => {
    const header = readFileSync(file("native/src/reset_stub.h"), "utf8");
    const array = /vh_reset_stub\[\] = \{([^}]*)\}/.exec(header)?.[1] ?? "";
    const literal =
      array.replace(/\/\*.*?\*\//g, "").match(/0x[0-9a-f]{2}\b|VH_RESET_\w+( >> 8| & 0xff)?/g) ?? [];
    const value: Readonly<Record<string, number>> = {
      "VH_RESET_PORT & 0xff": 0xf9,
      "VH_RESET_PORT >> 8": 0x0c,
      VH_RESET_VALUE: 0x06,
    };
    const bytes = literal.map((text) => value[text] ?? Number.parseInt(text, 16));
    expect(Buffer.from(bytes)).toEqual(readFileSync(file("firmware/build/reset_stub.bin")));
  });
});
