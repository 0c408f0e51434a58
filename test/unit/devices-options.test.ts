// SPDX-License-Identifier: Apache-2.0
/** Device options of a machine: what they become, what is refused, and what is left behind where a step fails. */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BlkFlag } from "../../src/ffi/devices.js";
import type { MachineHandle } from "../../src/ffi/machine.js";
import { parseDevices } from "../../src/v2m/device-options.js";
import { parseList } from "../../src/v2m/values.js";
import { channelsDirectory, directories } from "../../src/v3m/store/directories.js";
import { AttachedDevices, generationId, planDevices } from "../../src/vmm/device-plan.js";
import {
  ArgumentError,
  type DeviceOptions,
  type NetOptions,
  openLink,
  VmmError,
} from "../../src/vmm/index.js";

/** No machine, which none of these devices gets to. */
const NO_MACHINE = null as unknown as MachineHandle;
/** A flag that libvmmhpc does not know, and refuses the disk for. */
const UNKNOWN_FLAG = 1 << 30;

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "v3m-devices-"));
});
afterAll(() => rmSync(work, { recursive: true }));

const shm = { directory: "/c", peers: 2, areaBytes: 4096, peer: 0 };

describe("device options", () => {
  it("are none by default", () => {
    expect(planDevices({})).toEqual({
      disks: [],
      nets: [],
      rng: false,
      hvc: undefined,
      balloon: false,
      vsock: undefined,
      pmem: [],
      shm: [],
      vfio: [],
      generationId: undefined,
    });
  });

  it("of disks become flags", () => {
    const flags = (disk: object) => planDevices({ disks: [{ path: "d", ...disk }] }).disks[0]?.flags;
    expect(flags({})).toBe(0);
    expect(flags({ readOnly: true })).toBe(BlkFlag.READ_ONLY);
    expect(flags({ direct: true, ioUring: false })).toBe(BlkFlag.DIRECT | BlkFlag.NO_URING);
    expect(flags({ readOnly: false, direct: false, ioUring: true })).toBe(0);
    expect(planDevices({ disks: [{ path: "a" }, { path: "b", overlay: "o", serial: "s" }] }).disks).toEqual([
      { path: "a", flags: 0, overlay: undefined, serial: undefined },
      { path: "b", flags: 0, overlay: "o", serial: "s" },
    ]);
  });

  it("of interfaces: address and MTU", () => {
    const [plan] = planDevices({ nets: [{ kind: "user", mac: "52:54:00:AB:cd:0f", mtu: 9000 }] }).nets;
    expect(plan).toMatchObject({ mac: Uint8Array.of(0x52, 0x54, 0, 0xab, 0xcd, 0x0f), mtu: 9000 });
    expect(planDevices({ nets: [{ kind: "tap" }] }).nets[0]).toEqual({ open: expect.any(Function) });
  });

  it("of the rest", () => {
    const plan = planDevices({
      rng: true,
      balloon: true,
      vsock: 3,
      hvc: { outFd: 1, columns: 80, rows: 25 },
      pmem: [{ path: "p" }, { path: "q", readOnly: true }],
      generationId: new Uint8Array(16).fill(7),
    });
    expect(plan).toMatchObject({ rng: true, balloon: true, vsock: 3n });
    expect(plan.hvc).toEqual({ inFd: -1, outFd: 1, columns: 80, rows: 25 });
    expect(plan.pmem).toEqual([
      { path: "p", readOnly: false },
      { path: "q", readOnly: true },
    ]);
    expect(plan.generationId).toEqual(new Uint8Array(16).fill(7));
    expect(generationId("random")).toHaveLength(16);
    expect(generationId("random")).not.toEqual(generationId("random"));
  });

  const net = (more: object): DeviceOptions => ({ nets: [{ kind: "user", ...more } as NetOptions] });
  const bad: [string, DeviceOptions, string][] = [
    ["a disk without a path", { disks: [{ path: "" }] }, "disk 0: no path"],
    ["a path with a NUL", { disks: [{ path: "a" }, { path: "b\0" }] }, "disk 1: no path"],
    ["an overlay without a path", { disks: [{ path: "a", overlay: "" }] }, "disk 0: overlay: no path"],
    [
      "a read-only disk with an overlay",
      { disks: [{ path: "a", overlay: "o", readOnly: true }] },
      "an overlay takes writes",
    ],
    ["a long serial number", { disks: [{ path: "a", serial: "x".repeat(21) }] }, "does not fit"],
    ["an empty serial number", { disks: [{ path: "a", serial: "" }] }, "does not fit"],
    ["a serial number in Greek", { disks: [{ path: "a", serial: "αβγ" }] }, "does not fit"],
    ["an unknown kind of network", net({ kind: "bridge" }), "network interface 0: unknown kind bridge"],
    ["a MAC that is short", net({ mac: "52:54:00" }), "52:54:00 is not the address"],
    ["a MAC in other digits", net({ mac: "52:54:00:00:00:0g" }), "is not the address"],
    ["a MAC for many", net({ mac: "01:00:5e:00:00:01" }), "is not the address"],
    ["a MAC of zeros", net({ mac: "00:00:00:00:00:00" }), "is not the address"],
    ["an MTU below IP's", net({ mtu: 67 }), "the MTU must be at least 68"],
    ["an MTU beyond 16 bits", net({ mtu: 65536 }), "the MTU is too large"],
    ["a tap's name that is long", net({ kind: "tap", name: "sixteen-bytes-xx" }), "is not the name"],
    ["a tap's name that is empty", net({ kind: "tap", name: "" }), "is not the name"],
    ["a tap's name with a format in it", net({ kind: "tap", name: "a%s" }), "is not the name"],
    ["a tap's name with two numbers", net({ kind: "tap", name: "a%d%d" }), "is not the name"],
    ["a tap's name with a slash", net({ kind: "tap", name: "a/b" }), "is not the name"],
    ["a link without a descriptor", net({ kind: "link" }), "the descriptor must be a whole number"],
    ["a negative descriptor", net({ kind: "stream", fd: -1 }), "the descriptor must be at least 0"],
    ["a vsock for the host", { vsock: 2 }, "the context id must be at least 3"],
    ["a vsock for all", { vsock: 2 ** 32 - 1 }, "the context id is too large"],
    ["columns beyond 16 bits", { hvc: { columns: 65536 } }, "hvc: columns is too large"],
    ["an hvc on a negative descriptor", { hvc: { inFd: -1 } }, "hvc: the descriptor to read from"],
    ["a place in a channel of one", { shm: [{ ...shm, peers: 1 }] }, "shm 0: the number of peers"],
    ["a place that a channel has not", { shm: [{ ...shm, peer: 2 }] }, "shm 0: the peer"],
    ["one seen by a stranger", { shm: [{ ...shm, visibleTo: [1, 9] }] }, "shm 0: a peer to be seen by"],
    ["an area of odd size", { shm: [{ ...shm, areaBytes: 5000 }] }, "shm 0: the size of an area"],
    ["a common section of odd size", { shm: [{ ...shm, commonBytes: 1 }] }, "the size of the common section"],
    [
      "a common section of 2 GiB",
      { shm: [{ ...shm, commonBytes: 2 ** 31 }] },
      "the common section is too large",
    ],
    ["a device nowhere", { vfio: [{ device: "4.0" }] }, 'vfio 0: "4.0" is not the address'],
    ["a device twice", { vfio: [{ device: "00:04.0" }, { device: "0000:00:04.0" }] }, "named twice"],
    ["a device beside a balloon", { vfio: [{ device: "00:04.0" }], balloon: true }, "not together"],
    ["a channel nowhere", { shm: [{ ...shm, directory: "" }] }, "shm 0: no directory"],
    ["pmem without a path", { pmem: [{ path: "" }] }, "pmem 0: no path"],
    ["a short generation ID", { generationId: new Uint8Array(15) }, "16 bytes"],
    ["a generation ID in words", { generationId: "new" as "random" }, "16 bytes"],
  ];
  it.each(bad)("refuse %s", (_what, options, message) => {
    expect(() => planDevices(options)).toThrow(ArgumentError);
    expect(() => planDevices(options)).toThrow(message);
  });
});

describe("v2m's device options", () => {
  it("are those of a machine", () => {
    const channel = (name: string) => join(channelsDirectory(directories().runtime), name);
    expect(
      parseDevices({
        disk: ["a.img", "b,,c.img,overlay=temporary,serial=S 1", "/dev/sdx,ro,direct"],
        net: [
          "user,tcp=2222:22,tcp=0.0.0.0/80,udp=53",
          "tap",
          "tap=tap%d,vhost,mac=52:54:00:12:34:56",
          "link=5,mtu=9000",
          "stream=6",
        ],
        rng: true,
        balloon: true,
        vsock: "42",
        pmem: ["p", "q,ro"],
        vfio: ["0000:3b:00.1"],
        shm: [
          "channel=a,peer=1",
          "peer=2,visible-to=0+3,size=64K,peers=4,channel=b",
          "channel=c,peer=0,visible-to=none",
          "channel=d,peer=0,common=64K",
          "channel=e,peer=0,common=0",
        ],
      }),
    ).toEqual({
      disks: [
        { path: "a.img" },
        { path: "b,c.img", overlay: "temporary", serial: "S 1" },
        { path: "/dev/sdx", readOnly: true, direct: true },
      ],
      nets: [
        {
          kind: "user",
          tcp: [
            { host: 2222, guest: 22 },
            { host: 80, address: "0.0.0.0" },
          ],
          udp: [{ host: 53 }],
        },
        { kind: "tap" },
        { kind: "tap", name: "tap%d", vhost: true, mac: "52:54:00:12:34:56" },
        { kind: "link", fd: 5, mtu: 9000 },
        { kind: "stream", fd: 6 },
      ],
      rng: true,
      balloon: true,
      vsock: 42,
      pmem: [
        { path: "p", readOnly: false },
        { path: "q", readOnly: true },
      ],
      vfio: [{ device: "0000:3b:00.1" }],
      shm: [
        { directory: channel("a"), peer: 1, peers: 2, areaBytes: 1 << 20 },
        { directory: channel("b"), peer: 2, peers: 4, areaBytes: 65536n, visibleTo: [0, 3] },
        { directory: channel("c"), peer: 0, peers: 2, areaBytes: 1 << 20, visibleTo: [] },
        { directory: channel("d"), peer: 0, peers: 2, areaBytes: 1 << 20, commonBytes: 65536n },
        { directory: channel("e"), peer: 0, peers: 2, areaBytes: 1 << 20, commonBytes: 0n },
      ],
    });
    expect(parseDevices({})).toEqual({});
  });

  it("have commas between them", () => {
    expect(parseList("a,b=c,,d,")).toEqual(["a", "b=c,d", ""]);
  });
});

describe("devices that cannot be added", () => {
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const overlays = () => readdirSync(tmpdir()).filter((name) => name.startsWith("v3m-overlay-")).length;
  const attach = (options: DeviceOptions) => {
    const plan = planDevices(options);
    const disks = plan.disks.map((disk) => ({ ...disk, flags: UNKNOWN_FLAG }));
    return AttachedDevices.attach(NO_MACHINE, { ...plan, disks });
  };

  it("leave no overlay behind, temporary or not", async () => {
    const base = join(work, "base");
    writeFileSync(base, Buffer.alloc(1 << 20));
    const [before, open] = [overlays(), descriptors()];
    await expect(attach({ disks: [{ path: base, overlay: "temporary" }] })).rejects.toThrow(VmmError);
    const overlay = join(work, "overlay");
    await expect(attach({ disks: [{ path: base, overlay }] })).rejects.toThrow(VmmError);
    expect(readdirSync(work)).toEqual(["base"]);
    expect([overlays(), descriptors()]).toEqual([before, open]);
  });

  it("leave an overlay that was there alone", async () => {
    const directory = mkdtempSync(join(work, "kept-"));
    const overlay = join(directory, "overlay");
    writeFileSync(overlay, "somebody's");
    await expect(attach({ disks: [{ path: join(work, "base"), overlay }] })).rejects.toThrow(VmmError);
    expect(readdirSync(directory)).toEqual(["overlay"]);
  });

  it("leave descriptors to their owners", async () => {
    const before = descriptors();
    const link = openLink();
    expect(descriptors()).toBe(before + 2);
    const nothing = openSync("/dev/null", "r");
    await expect(attach({ nets: [{ kind: "link", fd: nothing }] })).rejects.toThrow(VmmError);
    expect(descriptors()).toBe(before + 3);
    closeSync(nothing);
    link.close();
    link.close();
    expect(descriptors()).toBe(before);
  });

  it("say what is missing", async () => {
    const missing = join(work, "nowhere");
    await expect(attach({ disks: [{ path: missing, overlay: "temporary" }] })).rejects.toMatchObject({
      code: "E_IO",
      errno: "ENOENT",
    });
  });
});
