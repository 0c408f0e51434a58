// SPDX-License-Identifier: Apache-2.0
/** Runs each libFuzzer target of native/fuzz for some seconds from its seeds. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectFuzzed, FUZZ_SECONDS, fuzz, type Result, type Target } from "../support/fuzz.js";

const run = promisify(execFile);
const native = fileURLToPath(new URL("../../native/", import.meta.url));
const build = join(native, "build/fuzz");
const dictionary = (name: string) => join(native, "fuzz", name);
const AT_ONCE = 2;

/** Every native/fuzz/fuzz_NAME.c has an entry. */
const targets: Readonly<Record<string, Target>> = {
  bzimage: { covers: { "boot/bzimage.c": 90, "boot/linux.c": 90 }, dictionary: dictionary("boot.dict") },
  elf: {
    covers: { "boot/elf.c": 85, "boot/elfnote.c": 85, "boot/elflinux.c": 90, "boot/pvh.c": 90 },
    dictionary: dictionary("boot.dict"),
  },
  multiboot: { covers: { "boot/multiboot.c": 90 }, dictionary: dictionary("boot.dict") },
  flat: { covers: { "boot/flat.c": 85 }, dictionary: dictionary("boot.dict"), maxLength: 4096 },
  boot: { covers: { "boot/recognise.c": 85, "boot/load.c": 60 }, dictionary: dictionary("boot.dict") },
  dispatch: { covers: { "dispatch.c": 90 }, maxLength: 2000 },
  packed: { covers: { "snapshot/unpack.c": 85 }, maxLength: 4096 },
  dhcp: { covers: { "supervise/dhcp.c": 85 }, maxLength: 600 },
  snapshot: {
    covers: {
      "snapshot/read.c": 70,
      "snapshot/memory.c": 45,
      "snapshot/layers.c": 60,
      "snapshot/whole.c": 60,
      "snapshot/machine.c": 60,
      "snapshot/pci.c": 85,
      "snapshot/virtio.c": 45,
      "snapshot/uart.c": 70,
    },
    maxLength: 4096,
  },
  uart: { covers: { "uart.c": 90 }, maxLength: 4096 },
  unpack: {
    covers: {
      "unpack/unpack.c": 75,
      "unpack/lz4.c": 75,
      "unpack/gzip.c": 60,
      "unpack/xz.c": 50,
      "unpack/zstd.c": 65,
    },
    dictionary: dictionary("unpack.dict"),
  },
  pci: { covers: { "pci/bus.c": 75, "pci/msix.c": 70, "virtio/pci_transport.c": 75 }, maxLength: 4096 },
  shm: { covers: { "shm/device.c": 75, "shm/window.c": 70, "shm/link.c": 80 }, maxLength: 4096 },
  vfio: { covers: { "vfio/config.c": 75, "vfio/bars.c": 65 }, maxLength: 4096 },
  virtio_blk: { covers: { "virtio/blk.c": 85, "virtio/blk_overlay_io.c": 75 }, maxLength: 8192 },
  virtio_net: {
    covers: {
      "virtio/net.c": 60,
      "virtio/net_rx.c": 85,
      "virtio/net_header.c": 75,
      "virtio/net_gso.c": 80,
      "virtio/net_stream.c": 80,
    },
    maxLength: 8192,
  },
  control: {
    covers: {
      "monitor/server.c": 30,
      "monitor/setup.c": 70,
      "monitor/requests.c": 80,
      "remote/wire.c": 75,
    },
    maxLength: 4096,
  },
  gdb: {
    covers: { "gdb/packet.c": 80, "gdb/commands.c": 85, "gdb/run.c": 80, "gdb/registers.c": 70 },
    maxLength: 4096,
  },
  virtqueue: { covers: { "virtio/virtqueue.c": 85 }, maxLength: 8192 },
  virtio_small: {
    covers: { "virtio/rng.c": 60, "virtio/hvc.c": 55, "virtio/balloon.c": 55 },
    maxLength: 24_000,
  },
  yod: {
    covers: {
      "yod/path.c": 85,
      "yod/walk.c": 85,
      "yod/open.c": 80,
      "yod/names.c": 85,
      "yod/io.c": 80,
      "yod/stat.c": 80,
    },
    maxLength: 2000,
  },
};

const results: Record<string, Result> = {};
let seeds: string;

/** At most AT_ONCE of them at a time, in order. */
const waiting: (() => void)[] = [];
let free = AT_ONCE;
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (free === 0) {
    await new Promise<void>((resolve) => waiting.push(resolve));
  } else {
    free--;
  }
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) {
      next();
    } else {
      free++;
    }
  }
}

describe("fuzzing", () => {
  const timeout = (Object.keys(targets).length / AT_ONCE) * FUZZ_SECONDS * 1000 + 180_000;

  beforeAll(async () => {
    seeds = await mkdtemp(join(tmpdir(), "v3m-seeds-"));
    await run(join(build, "seeds"), [seeds]);
  });

  afterAll(async () => {
    await rm(seeds, { recursive: true, force: true });
    const report = Object.fromEntries(
      Object.entries(results).map(([name, { log: _, code: __, ...rest }]) => [
        name,
        { seconds: FUZZ_SECONDS, ...rest },
      ]),
    );
    await writeFile(join(build, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  });

  it("has an entry above for every target in native/fuzz", async () => {
    const sources = (await readdir(join(native, "fuzz"))).flatMap(
      (name) => /^fuzz_(.*)\.c$/.exec(name)?.[1] ?? [],
    );
    expect(Object.keys(targets).sort()).toEqual(sources.sort());
  });

  it.concurrent.each(Object.entries(targets))(
    "%s",
    async (name, target) => {
      const program = join(build, `fuzz_${name}`);
      const result = await inTurn(() => fuzz(program, target, native, join(seeds, name)));
      results[name] = result;
      expectFuzzed(name, target, result);
    },
    timeout,
  );
});
