// SPDX-License-Identifier: Apache-2.0
/** MPI programs on Linux guests, over the bypass: as many ranks as guests, woken by interrupts. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Channel, type ChannelOptions } from "../../src/vmm/index.js";
import { bypassBuild, counts } from "../support/bypass.js";
import { suite } from "../support/capabilities.js";
import { expectSameResults, HPCC_RESULTS, hpccInput, hpccResults, hpccWithOpenMpi } from "../support/hpcc.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { expectIntegrity, netpipeArgs } from "../support/netpipe.js";
import { FULL } from "../support/places.js";

/** Of an area, for each peer that its owner sends to. */
const SHARE = 1 << 20;

/** What brings a channel's interrupts to programs. */
const DRIVERS = {
  vfio: {
    name: "vfio-pci",
    modules: ["vfio_iommu_type1", "vfio_pci"],
    prepare: "echo Y >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
  },
  /** Where the guest's root has not said that VFIO may trust the function. */
  uio: {
    name: "uio_pci_generic",
    modules: ["vfio_iommu_type1", "vfio_pci", "uio_pci_generic"],
    prepare: "true",
  },
} as const;
type Driver = (typeof DRIVERS)[keyof typeof DRIVERS];

/** Guests in one channel; a program's rank is the number of its guest. */
class Group {
  readonly guests: LinuxGuest[] = [];
  readonly #channel: Channel;

  private constructor(options: ChannelOptions) {
    this.#channel = Channel.create(options);
  }

  static async boot(options: ChannelOptions, driver: Driver, ...programs: string[]): Promise<Group> {
    const group = new Group(options);
    const extraFiles = await Promise.all(
      programs.map(async (name) => {
        const data = await readFile(bypassBuild(name));
        return { type: "file", path: `bin/${name}`, data, mode: 0o755 } as const;
      }),
    );
    for (let peer = 0; peer < options.peers; peer++) {
      const initramfs = { extraFiles, modules: [...driver.modules] };
      const guest = await LinuxGuest.boot({ shm: [{ channel: group.#channel, peer }], initramfs });
      group.guests.push(guest);
      await guest.sh(driver.prepare);
    }
    return group;
  }

  /** The same command in each guest, at once. */
  run(command: string) {
    return Promise.all(this.guests.map((guest) => guest.run(command)));
  }

  /** Which driver has the channel's device, in each guest. */
  async drivers(): Promise<string[]> {
    const ran = await this.run(
      "for d in /sys/bus/pci/devices/*; do [ $(cat $d/vendor) = 0x110a ] && basename $(readlink $d/driver); done",
    );
    return ran.map(({ output }) => output);
  }

  async dispose(): Promise<void> {
    for (const guest of this.guests) await guest.dispose();
    this.#channel.close();
  }
}

suite("MPI programs on four Linux guests, by VFIO", { needs: ["linux-guest"] }, () => {
  let group: Group;
  beforeAll(async () => {
    group = await Group.boot({ peers: 4, areaBytes: 4 * SHARE }, DRIVERS.vfio, "mpi_check");
  });
  afterAll(() => group?.dispose());

  it("each function of the subset does what it should", async () => {
    const ran = await group.run("V3M_MPI_STATS=1 mpi_check");
    expect(ran.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    expect(ran[0]?.output).toContain("4 ranks: all is well\n");
    for (const { output } of ran) {
      const { sleeps, doorbells } = counts(output);
      expect(sleeps).toBeGreaterThan(0);
      expect(doorbells).toBeGreaterThan(0);
    }
    expect(await group.drivers()).toEqual([0, 1, 2, 3].map(() => DRIVERS.vfio.name));
  });

  it("a program that dies is an error of the others, and they can run another", async () => {
    const ran = await group.run("mpi_check survive");
    expect(ran.map(({ code }) => code)).toEqual([0, 3, 0, 0]);
    for (const rank of [0, 2, 3]) expect(ran[rank]?.output).toBe(`rank ${rank}: the sender is gone`);
    const again = await group.run("mpi_check");
    expect(again.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  });

  it("a machine that dies is one, too", async () => {
    const [first, second, third, fourth] = group.guests as [LinuxGuest, LinuxGuest, LinuxGuest, LinuxGuest];
    const others = [first, third, fourth].map((guest) => guest.run("mpi_check stay"));
    second.type("mpi_check stay\n");
    await second.waitFor("rank 1 stays");
    await second.dispose();
    const ran = await Promise.all(others);
    expect(ran.map(({ output }) => output)).toEqual(
      [0, 2, 3].map((rank) => `rank ${rank}: the sender is gone`),
    );
    for (const guest of [first, third, fourth]) {
      expect(await suspiciousMessages(guest)).toEqual([]);
    }
  });
});

suite("NetPIPE on two Linux guests, by UIO where VFIO does not trust the device", {
  needs: ["linux-guest"],
}, () => {
  let group: Group;
  beforeAll(async () => {
    group = await Group.boot({ peers: 2, areaBytes: 2 * SHARE, commonBytes: 8192 }, DRIVERS.uio, "NPmpi");
  });
  afterAll(() => group?.dispose());

  it("finds all its bytes", async () => {
    const ran = await group.run(["NPmpi", ...netpipeArgs(70_000)].join(" "));
    expect(ran.map(({ code }) => code)).toEqual([0, 0]);
    expect(await group.drivers()).toEqual([0, 1].map(() => DRIVERS.uio.name));
    expectIntegrity(ran[0]?.output ?? "");
  });
});

/** Minutes; ranks on the lightweight kernel do the same in yod-mpi.test.ts. */
if (FULL) {
  suite("hpcc on four Linux guests", { needs: ["linux-guest"] }, () => {
    let group: Group;
    beforeAll(async () => {
      group = await Group.boot({ peers: 4, areaBytes: 4 * SHARE }, DRIVERS.vfio, "hpcc");
    });
    afterAll(() => group?.dispose());

    it("gives the results that it gives with OpenMPI over TCP", async () => {
      const input = (await hpccInput()).toString("base64");
      const ran = await group.run(`cd /tmp && echo ${input} | base64 -d >hpccinf.txt && hpcc`);
      expect(ran.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
      const written = await group.guests[0]?.sh(`cd /tmp && ${HPCC_RESULTS}`);
      expectSameResults(hpccResults(written ?? ""), await hpccWithOpenMpi());
    });
  });
}
