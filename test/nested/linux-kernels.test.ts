// SPDX-License-Identifier: Apache-2.0
/** Other kernels than the cloud kernel: whatever Debian calls a kernel boots. */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { clockSource, suspiciousMessages } from "../support/linux-checks.js";
import { FULL } from "../support/places.js";

suite("Debian's generic kernel", { needs: ["linux-guest"] }, () => {
  const shapes = [
    [1, true],
    ...(FULL
      ? ([
          [1, false],
          [2, true],
          [4, true],
          [4, false],
        ] as const)
      : []),
  ] as const;
  it.each(shapes)("boots with %i vCPUs (unpacked by the host: %s), and reboots", async (cpus, unpack) => {
    await using guest = await LinuxGuest.boot({ flavour: "generic", cpus, unpack, memory: 256 << 20 });
    expect(await guest.sh("uname -r")).toMatch(/^\d+\.\d+\.\d+-\d+-amd64$/);
    expect(await guest.sh("nproc")).toBe(String(cpus));
    expect(await clockSource(guest)).toMatch(/^(kvm-clock|tsc)$/);
    expect(await suspiciousMessages(guest)).toEqual([]);
    guest.type("reboot -f\n");
    await guest.shell();
    guest.type("poweroff -f\n");
    expect(await guest.ended()).toMatchObject({ cause: "poweroff" });
  });
});
