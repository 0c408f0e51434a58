// SPDX-License-Identifier: Apache-2.0
/** Checks of what a definition can ask for, in the shared guest. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import koffi from "koffi";
import { expect } from "vitest";
import { errnoName } from "../../../src/errors.js";
import { qemuImg } from "../../../src/v3m/images.js";
import type { Check } from "./check.js";
import type { ConsoleShell } from "./shell.js";
import { MIB, PATTERN } from "./world.js";

/** The guest's name of a disk. */
function device(serial: string): string {
  return `/dev/$(cd /sys/block; for d in vd*; do [ "$(cat $d/serial)" = ${serial} ] && echo $d; done)`;
}

const text = (serial: string) => `written by the guest to ${serial}`;

/** Through to the file on the host: past the guest's cache and, by a flush, what the back end keeps. */
function write(shell: ConsoleShell, serial: string): Promise<string> {
  return shell.sh(
    `echo '${text(serial)}' | dd of=${device(serial)} bs=512 seek=8 conv=sync,fsync 2>/dev/null`,
  );
}

function read(shell: ConsoleShell, serial: string, block: number): Promise<string> {
  return shell.sh(`dd if=${device(serial)} bs=512 skip=${block} count=1 2>/dev/null | tr -d '\\000'`);
}

const writtenTo = (image: Buffer) => image.toString("latin1", 8 * 512, 9 * 512);

/** Of an image, while the machine has it open. */
async function content(path: string, format: "raw" | "qcow2"): Promise<Buffer> {
  if (format === "raw") return readFileSync(path);
  const raw = `${path}.as-raw`;
  await qemuImg(["convert", "-U", "-f", format, "-O", "raw", path, raw]);
  return readFileSync(raw);
}

const AF_VSOCK = 40;

/** What the guest's kernel answers to a connection that nobody there waits for. */
function knock(cid: number): string {
  const libc = koffi.load("libc.so.6");
  const socket = libc.func("socket", "int", ["int", "int", "int"]);
  const connect = libc.func("connect", "int", ["int", "void *", "uint"]);
  const close = libc.func("close", "int", ["int"]);
  const fd: number = socket(AF_VSOCK, 1, 0);
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(9999, 4);
  address.writeUInt32LE(cid, 8);
  const result: number = connect(fd, address, address.length);
  const errno = errnoName(koffi.errno());
  close(fd);
  return result === 0 ? "connected" : (errno ?? "");
}

export const DEVICES: readonly Check[] = [
  {
    feature: "boot:kernel",
    name: "with the given initrd and command line, and nothing but it",
    async run(world) {
      const { definition, shell } = await world.guest();
      const { boot } = definition;
      const line = (await shell.sh("cat /proc/cmdline")).trim();
      expect(boot.from === "kernel" && line.endsWith(boot.cmdline)).toBe(true);
    },
  },
  {
    feature: "topology",
    name: "the guest sees cores of one socket",
    async run(world) {
      const { shell } = await world.guest();
      const topology = "/sys/devices/system/cpu/cpu[01]/topology";
      expect(await shell.sh(`cat ${topology}/physical_package_id | sort -u | wc -l`)).toBe("1");
      // Not core_id, which AMD's count in each NUMA node.
      expect(await shell.sh(`cat ${topology}/thread_siblings_list | sort -u | wc -l`)).toBe("2");
    },
  },
  {
    feature: "pin",
    name: "each vCPU's thread is on its host CPU",
    async run(world) {
      const { definition } = await world.guest();
      const { pid } = await world.backend.status(definition.name);
      const tasks = readdirSync(`/proc/${pid}/task`).map((tid) =>
        readFileSync(`/proc/${pid}/task/${tid}/status`, "latin1"),
      );
      const pinned = tasks.filter((status) => /^Cpus_allowed_list:\s*0$/m.test(status));
      expect(pinned.length).toBeGreaterThanOrEqual(definition.cpus);
    },
  },
  {
    feature: "hugepages",
    name: "guest RAM is of huge pages",
    needs: ["hugepages"],
    async run(world) {
      const { definition } = await world.guest();
      const status = await world.processFile(definition.name, "status");
      const kib = Number(/^HugetlbPages:\s*(\d+) kB/m.exec(status)?.[1]);
      expect(kib).toBeGreaterThan(0);
    },
  },
  {
    feature: "io-pin",
    name: "no thread of the machine may use another host CPU",
    async run(world) {
      const { definition } = await world.guest();
      const { pid } = await world.backend.status(definition.name);
      const cpus = readdirSync(`/proc/${pid}/task`).map(
        (tid) =>
          /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/task/${tid}/status`, "latin1"))?.[1],
      );
      // One that only waits for the machine's end is nobody's I/O.
      expect(cpus.filter((list) => list === "0").length).toBeGreaterThan(definition.cpus);
    },
  },
  {
    feature: "realtime",
    name: "threads that serve devices have their priority",
    needs: ["realtime"],
    async run(world) {
      const { definition } = await world.guest();
      const { pid } = await world.backend.status(definition.name);
      const policies = readdirSync(`/proc/${pid}/task`).map((tid) =>
        execFileSync("chrt", ["-p", tid], { encoding: "latin1" }),
      );
      expect(policies.some((text) => /SCHED_FIFO[\s\S]*priority: 2$/m.test(text))).toBe(true);
    },
  },
  {
    feature: "numa",
    name: "the guest sees its nodes, with their CPUs, memory and distances",
    async run(world) {
      const { shell } = await world.guest();
      const node = "/sys/devices/system/node/node";
      expect(await shell.sh(`cat ${node}0/cpulist ${node}1/cpulist`)).toBe("0\n1");
      expect(await shell.sh(`cat ${node}0/distance ${node}1/distance`)).toBe("10 25\n25 10");
      const free = await shell.sh(`grep -h MemTotal ${node}0/meminfo ${node}1/meminfo`);
      for (const [, kib] of free.matchAll(/(\d+) kB/g)) expect(Number(kib)).toBeGreaterThan(32 * 1024);
    },
  },
  {
    feature: "disks",
    name: "what the guest writes is in the image, made with the given size",
    async run(world) {
      const { shell } = await world.guest();
      expect(await shell.sh(`blockdev --getsize64 ${device("raw")}`)).toBe(String(16 * MIB));
      await write(shell, "raw");
      expect(writtenTo(await content(world.path("raw.img"), "raw"))).toContain(text("raw"));
    },
  },
  {
    feature: "disks",
    name: "one that is read-only can be read, and not written",
    async run(world) {
      const { shell } = await world.guest();
      expect(await read(shell, "readonly", 0)).toBe(PATTERN.trim());
      expect((await shell.run(`echo x >${device("readonly")}`)).code).not.toBe(0);
      expect(await shell.sh(`blockdev --getro ${device("readonly")}`)).toBe("1");
    },
  },
  {
    feature: "disk:qcow2",
    name: "what the guest writes is in the image, made with the given size",
    async run(world) {
      const { shell } = await world.guest();
      expect(await shell.sh(`blockdev --getsize64 ${device("qcow")}`)).toBe(String(16 * MIB));
      await write(shell, "qcow");
      expect(writtenTo(await content(world.path("disk.qcow2"), "qcow2"))).toContain(text("qcow"));
    },
  },
  {
    feature: "disk:overlay",
    name: "writes go to the overlay; the image below stays as it was",
    async run(world) {
      const { shell } = await world.guest();
      for (const serial of ["over", "brief"]) {
        expect(await read(shell, serial, 0)).toBe(PATTERN.trim());
        await write(shell, serial);
        expect(await read(shell, serial, 8)).toBe(text(serial));
      }
      const base = readFileSync(world.path("base.img"));
      expect(base.subarray(0, PATTERN.length).toString()).toBe(PATTERN);
      expect(base.subarray(PATTERN.length).every((byte) => byte === 0)).toBe(true);
      expect(readFileSync(world.path("overlay")).includes(text("over"))).toBe(true);
    },
  },
  {
    feature: "cdrom",
    name: "the guest mounts it",
    async run(world) {
      const { shell } = await world.guest();
      // A drive, or a disk with that serial number.
      const drive = `$([ -e /dev/sr0 ] && echo /dev/sr0 || echo ${device("cdrom")})`;
      expect(await shell.sh(`mount -t iso9660 -o ro ${drive} /root && cat /root/hello && umount /root`)).toBe(
        PATTERN.trim(),
      );
    },
  },
  {
    feature: "pmem",
    name: "what the guest writes is in the file",
    async run(world) {
      const { shell } = await world.guest();
      const written = text("pmem");
      await shell.sh(`echo '${written}' | dd of=/dev/pmem0 bs=512 conv=sync,fsync 2>/dev/null`);
      expect(readFileSync(world.path("pmem")).subarray(0, 512).toString("latin1")).toContain(written);
    },
  },
  {
    feature: "shm",
    name: "the guest has the device, and the window is as large as its channel",
    async run(world) {
      const { shell } = await world.guest();
      const device = (await shell.sh("grep -l 0x110a /sys/bus/pci/devices/*/vendor")).replace(
        /\/vendor$/,
        "",
      );
      expect(await shell.sh(`cat ${device}/device ${device}/class`)).toBe("0x4106\n0xff0000");
      // The window: a table and two areas of 1 MiB, to the next power of two.
      const [start, end] = (await shell.sh(`sed -n 3p ${device}/resource`)).split(" ");
      expect(Number(end) - Number(start) + 1).toBe(4 * MIB);
    },
  },
  {
    feature: "rng",
    name: "the guest gets random numbers from it",
    async run(world) {
      const { shell } = await world.guest();
      expect(await shell.sh("cat /sys/class/misc/hw_random/rng_current")).toMatch(/^virtio_rng/);
      expect(await shell.sh("dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c")).toBe("16");
    },
  },
  {
    feature: "balloon",
    name: "the guest's driver has it",
    async run(world) {
      const { shell } = await world.guest();
      expect(await shell.sh("ls /sys/bus/virtio/drivers/virtio_balloon")).toMatch(/virtio\d/);
    },
  },
  {
    feature: "vsock",
    name: "the guest answers at its context id",
    needs: ["vhost-vsock"],
    async run(world) {
      const { definition } = await world.guest();
      expect(knock(definition.vsock ?? 0)).toBe("ECONNRESET");
    },
  },
  {
    feature: "modules",
    name: "one that was named is there from the start, and sees the guest's port accesses",
    async run(world) {
      const { definition, shell } = await world.guest();
      const calls = async () => Number((await world.backend.stats(definition.name)).module_tally_calls);
      const before = await calls();
      await shell.sh("dd if=/dev/port bs=1 skip=1312 count=8 2>/dev/null | wc -c");
      expect(await calls()).toBeGreaterThanOrEqual(before + 8);
    },
  },
  {
    feature: "generation-id",
    name: "the guest's firmware tables have it",
    async run(world) {
      const { shell } = await world.guest();
      expect(await shell.sh("cat /sys/firmware/acpi/tables/?SDT* | grep -c VM_Gen_Counter || true")).not.toBe(
        "0",
      );
    },
  },
];
