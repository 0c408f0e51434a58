// SPDX-License-Identifier: Apache-2.0
/** The three places in which the same binary measures: here, in a Linux guest, on the lightweight kernel. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { V3mError } from "../errors.js";
import { packageRoot } from "../ffi/library.js";
import { capture } from "../measure/capture.js";
import { Machine } from "../vmm/machine.js";
import { type Measurement, type Parameters, programArguments, understand } from "./measurement.js";
import type { Method, Place } from "./names.js";

/** Of the guests: one vCPU, so much memory. */
export const MEMORY_MIB = 128;
const MAX_OUTPUT = 64 << 20;
/** Beyond the measurement itself; a boot under emulation takes long. Against hangs only. */
const GRACE_MS = 300_000;
const SETTLE_SECONDS = 2;

const run = promisify(execFile);

/** The measuring program. @throws V3mError where it was not built */
export function program(): string {
  const path = join(packageRoot(), "native/build/release/noise");
  if (!existsSync(path)) {
    throw new V3mError("E_IO", `${path} is not there`, { hint: "make build builds it" });
  }
  return path;
}

/** Turns of fwq's loop that take so long on this CPU. */
export async function calibrate(intervalNs: number): Promise<number> {
  const { stdout } = await run(program(), ["calibrate", String(intervalNs)]);
  return Number(/^work (\d+)$/m.exec(stdout)?.[1]);
}

async function onHost(method: Method, parameters: Parameters): Promise<Measurement> {
  const { stdout } = await run(program(), programArguments(method, parameters), { maxBuffer: MAX_OUTPUT });
  return understand(stdout);
}

async function onLwk(method: Method, parameters: Parameters): Promise<Measurement> {
  const { stdout } = await capture({
    app: program(),
    args: programArguments(method, parameters),
    memory: MEMORY_MIB << 20,
    timeoutMs: parameters.seconds * 1000 + GRACE_MS,
  });
  return understand(stdout);
}

/** All methods in one boot of Debian's kernel, which is left alone for a while first. */
async function inLinux(methods: readonly Method[], parameters: Parameters): Promise<Measurement[]> {
  // Only here: nothing else of the product needs the harness.
  const [{ guestInitramfs }, { ensureKernel }] = await Promise.all([
    import("../../harness/initramfs.js"),
    import("../../harness/kernels.js"),
  ]);
  const commands = methods.map((method) => `/bin/noise ${programArguments(method, parameters).join(" ")}`);
  const file = { type: "file" as const, path: "bin/noise", data: readFileSync(program()), mode: 0o755 };
  const machine = await Machine.create({
    kernel: (await ensureKernel("cloud")).bzImage,
    initrd: await guestInitramfs({ extraFiles: [file] }),
    cmdline: `console=ttyS0 quiet v3m.run="sleep ${SETTLE_SECONDS}; ${commands.join("; ")}"`,
    memory: MEMORY_MIB << 20,
  });
  try {
    const chunks: Buffer[] = [];
    machine.console.on("data", (chunk: Buffer) => chunks.push(chunk));
    const drained = new Promise<void>((resolve) => {
      for (const event of ["end", "close"]) machine.console.once(event, resolve);
    });
    machine.start();
    await machine.wait(methods.length * parameters.seconds * 1000 + GRACE_MS);
    await drained;
    const text = Buffer.concat(chunks).toString("latin1").replaceAll("\r", "");
    const parts = text.match(/^noise 1 \w+\n[\s\S]*?^end$/gm) ?? [];
    if (parts.length !== methods.length) {
      throw new V3mError("E_NOISE", "the Linux guest did not measure everything", {
        hint: `its console ended with: ${JSON.stringify(text.slice(-500))}`,
      });
    }
    return parts.map(understand);
  } finally {
    await machine.dispose();
  }
}

/** One round of the given methods in one place, in their order. */
export async function measureIn(
  place: Place,
  methods: readonly Method[],
  parameters: Parameters,
): Promise<Measurement[]> {
  if (place === "linux") return inLinux(methods, parameters);
  const measured: Measurement[] = [];
  for (const method of methods) {
    measured.push(await (place === "host" ? onHost : onLwk)(method, parameters));
  }
  return measured;
}
