// SPDX-License-Identifier: Apache-2.0
/** Network cards of the emulated machine in the hands of a Linux guest: its drivers, DHCP, ping, TCP, reset. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { KernelFlavour } from "../../harness/kernels.js";
import { Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest, type LinuxOptions } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { rounds } from "../support/places.js";
import { download, md5, upload } from "../support/transfer.js";
import { bind, CARDS, WIRE, Wire } from "../support/vfio.js";

const BYTES = rounds(2, 16) << 20;

/** What udhcpc calls with what it got. */
const DHCP_SCRIPT = {
  type: "file",
  path: "etc/dhcp",
  data: Buffer.from('#!/bin/sh\n[ "$1" = bound ] && ip addr add "$ip/24" dev "$interface"\nexit 0\n'),
  mode: 0o755,
} as const;

interface HandedOn {
  readonly card: { readonly address: string; readonly mac: string };
  readonly module: string;
  readonly flavour: KernelFlavour;
}

/** 32-bit BARs, MSI-X in one of its own; and a 64-bit BAR with vendor-specific capabilities. */
const E1000E: HandedOn = { card: CARDS.e1000e, module: "e1000e", flavour: "generic" };
const VIRTIO: HandedOn = { card: CARDS.virtio, module: "virtio_net", flavour: "cloud" };
const HANDED_ON = [E1000E, VIRTIO];

const options = ({ card, module, flavour }: HandedOn): LinuxOptions => ({
  flavour,
  memory: 192 << 20,
  vfio: [{ device: card.address }],
  initramfs: { modules: [module, "af_packet"], extraFiles: [DHCP_SCRIPT] },
});

/** The guest asks for an address, and pings the other end. */
async function connect(guest: LinuxGuest): Promise<void> {
  await guest.sh("ip link set eth0 up; udhcpc -i eth0 -s /etc/dhcp -n -q -t 20 -T 3");
  expect(await guest.sh(`ping -c 3 -w 60 ${WIRE.host}`)).toContain(" 0% packet loss");
}

suite("a network card of the host's in a Linux guest", { needs: ["linux-guest", "spare-cards"] }, () => {
  let wire: Wire;
  let directory = "";
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "v3m-vfio-"));
    for (const { card } of HANDED_ON) await bind(card.address, "vfio-pci");
    wire = await Wire.open();
  });
  afterAll(async () => {
    await wire?.[Symbol.asyncDispose]();
    for (const { card } of HANDED_ON) await bind(card.address, undefined);
    rmSync(directory, { recursive: true, force: true });
  });

  /** Megabytes both ways. */
  async function transfer(guest: LinuxGuest): Promise<void> {
    const content = randomBytes(BYTES);
    expect(await download(guest, WIRE.host, content)).toBe(md5(content));
    const [sent, received] = await upload(guest, WIRE.host, BYTES);
    expect(received).toBe(sent);
  }

  it("e1000e: the guest's own driver has it; it is not saved, and nobody else gets it", async () => {
    await using guest = await LinuxGuest.boot(options(E1000E));
    expect(await guest.sh("cat /sys/class/net/eth0/address")).toBe(E1000E.card.mac);
    await connect(guest);
    expect(await guest.sh("grep -c -E 'PCI-MSI.*eth0' /proc/interrupts")).toMatch(/^[1-9]/);
    await transfer(guest);
    await expect(guest.machine.snapshot(join(directory, "s"))).rejects.toMatchObject({
      code: "E_UNSUPPORTED",
    });
    await expect(LinuxGuest.create(options(E1000E))).rejects.toMatchObject({
      code: "E_STATE",
      message: expect.stringContaining("in use"),
    });
    await guest.sh(`ping -c 1 -w 60 ${WIRE.host}`);
    expect(await suspiciousMessages(guest)).toEqual([]);
  });

  it("virtio: in a jailed monitor, also after a reset; free again when that is killed", async () => {
    await using guest = await LinuxGuest.boot({ ...options(VIRTIO), monitor: { directory } });
    await connect(guest);
    await transfer(guest);
    guest.machine.reset();
    await guest.shell();
    await connect(guest);
    expect(await guest.sh("grep -c -E 'PCI-MSI.*virtio' /proc/interrupts")).toMatch(/^[1-9]/);
    const { pid } = guest.machine.monitorInfo();
    process.kill(pid, "SIGKILL");
    await guest.ended();
    await using next = await LinuxGuest.create(options(VIRTIO));
    expect(next.machine.state).toBe("created");
  });

  it("virtio: INTx serves a driver that takes no MSI-X", async () => {
    await using guest = await LinuxGuest.boot({ ...options(VIRTIO), append: "pci=nomsi" });
    await connect(guest);
    const content = randomBytes(BYTES / 4);
    expect(await download(guest, WIRE.host, content)).toBe(md5(content));
    expect(await guest.sh("grep -c -E 'IO-APIC.*virtio' /proc/interrupts")).toMatch(/^[1-9]/);
  });

  it("is refused while the host's driver has it", async () => {
    await expect(
      Machine.create({ kernel: "/dev/null", vfio: [{ device: CARDS.own.address }] }),
    ).rejects.toMatchObject({
      code: "E_BUSY",
      message: `${CARDS.own.address} is the host's: e1000e drives it`,
    });
  });
});
