// SPDX-License-Identifier: Apache-2.0
/** Operating-system noise, measured in three standard ways by one program in three places. */
import { cpus, release } from "node:os";
import type { Measurement, Parameters } from "./measurement.js";
import { METHODS, type Method, PLACES, type Place } from "./names.js";
import { calibrate, MEMORY_MIB, measureIn } from "./places.js";
import { type NoiseResult, series } from "./result.js";

export * from "./measurement.js";
export * from "./names.js";
export { noisePlot } from "./plot.js";
export * from "./result.js";

export interface NoiseOptions {
  readonly where: readonly Place[];
  readonly methods: readonly Method[];
  readonly rounds: number;
  readonly seconds: number;
  readonly thresholdNs: number;
  readonly intervalNs: number;
  /** Is told of each measurement. */
  readonly progress?: (round: number, place: Place, measurement: Measurement) => void;
}

/** Alternated rounds: each place comes first in turn, so that a drift hits all alike. */
export async function measureNoise(options: NoiseOptions): Promise<NoiseResult> {
  const parameters: Parameters = {
    seconds: options.seconds,
    thresholdNs: options.thresholdNs,
    work: await calibrate(options.intervalNs),
    intervalNs: options.intervalNs,
  };
  const where = PLACES.filter((place) => options.where.includes(place));
  const methods = METHODS.filter((method) => options.methods.includes(method));
  const found = new Map<string, Measurement[]>();
  for (let round = 0; round < options.rounds; round++) {
    const shift = round % where.length;
    for (const place of [...where.slice(shift), ...where.slice(0, shift)]) {
      for (const measurement of await measureIn(place, methods, parameters)) {
        options.progress?.(round, place, measurement);
        const key = `${place} ${measurement.method}`;
        found.set(key, [...(found.get(key) ?? []), measurement]);
      }
    }
  }
  return {
    schema: "v3m-noise/1",
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    kernel: release(),
    testbed: process.env.V3M_TESTBED || null,
    parameters,
    rounds: options.rounds,
    memoryMiB: MEMORY_MIB,
    series: methods.flatMap((method) =>
      where.map((place) => series(place, method, found.get(`${place} ${method}`) ?? [])),
    ),
  };
}
