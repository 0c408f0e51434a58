// SPDX-License-Identifier: Apache-2.0
/** Linux guests in monitors, in the whole jail: every device, as root and as another user; modules that come and go. */
import { spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { guestInitramfs } from "../../harness/initramfs.js";
import { ensureKernel } from "../../harness/kernels.js";
import { packageRoot } from "../../src/ffi/library.js";
import { unpackKernel } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { GUEST_MODULES, useEveryDevice } from "../support/monitor-guest.js";
import { gone, MonitorPlace } from "../support/monitors.js";
import { rounds } from "../support/places.js";

const NOBODY = 65534;
const PATIENCE = 600_000;

let place: MonitorPlace;
let files: { readonly kernel: string; readonly initrd: string };

beforeAll(async () => {
  place = new MonitorPlace();
  chmodSync(place.root, 0o755);
  // Where every user can read them.
  const kernel = join(place.root, "vmlinux");
  const initrd = join(place.root, "initramfs");
  copyFileSync(await unpackKernel((await ensureKernel("cloud")).bzImage), kernel);
  copyFileSync(await guestInitramfs({ modules: GUEST_MODULES, kernel: await ensureKernel("cloud") }), initrd);
  for (const path of [kernel, initrd]) chmodSync(path, 0o644);
  files = { kernel, initrd };
});
afterAll(() => place?.remove());

function work(name: string): string {
  const directory = join(place.root, name);
  mkdirSync(directory);
  return directory;
}

/** Whether others than root may use KVM; in a nested machine, which is ours alone, they are let. */
function opensForOthers(): boolean {
  if (process.geteuid?.() !== 0 || !existsSync("/dev/kvm")) return false;
  const nested = process.env.V3M_TESTBED !== undefined;
  if (nested) chmodSync("/dev/kvm", 0o666);
  return (statSync("/dev/kvm").mode & 0o006) === 0o006;
}

suite("a Linux guest in a monitor", { needs: ["linux-guest", "jail"] }, () => {
  it(
    "has all its devices, is paused, reset and powered off",
    async () => {
      const root = process.geteuid?.() === 0;
      if (root) {
        for (const module of ["tun", "vhost_net"]) spawnSync("modprobe", [module], { stdio: "ignore" });
      }
      await useEveryDevice({ ...files, directory: work("own"), tap: root });
    },
    PATIENCE,
  );

  it.skipIf(!opensForOthers())(
    "also where a user without privileges starts it",
    () => {
      const directory = work("other");
      chownSync(directory, NOBODY, NOBODY);
      const program = join(packageRoot(), "dist/test/support/monitor-guest.js");
      accessSync(program, constants.R_OK);
      const user = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
      const command = [process.execPath, program, directory, files.kernel, files.initrd];
      const run = spawnSync("setpriv", [...user, ...command], {
        encoding: "utf8",
        env: { ...process.env, HOME: directory, XDG_CACHE_HOME: directory, TMPDIR: directory },
        timeout: PATIENCE,
      });
      expect(`${run.stdout}${run.stderr}`).toBe("");
      expect(run.status).toBe(0);
    },
    PATIENCE,
  );
});

suite("modules in a Linux guest's monitor", { needs: ["linux-guest", "jail"] }, () => {
  const TALLY = join(packageRoot(), "native/build/release/tally.so");
  const PROGRAM = join(packageRoot(), "test/programs/build/modules.glibc");

  it(
    "come and go while its programs call them and others work",
    async () => {
      const program = {
        type: "file",
        path: "bin/modules",
        data: readFileSync(PROGRAM),
        mode: 0o755,
      } as const;
      const directory = place.directory();
      await using guest = await LinuxGuest.boot({
        cpus: 2,
        initramfs: { extraFiles: [program] },
        monitor: { directory, modules: [TALLY] },
      });
      await guest.sh("modules >/tmp/modules & ");
      await guest.sh("(while :; do cat /proc/interrupts; done) >/dev/null & echo $! >/tmp/load");
      const loads = rounds(20, 100);
      for (let i = 0; i < loads; i++) {
        const handle = await guest.machine.loadModule(TALLY);
        while ((handle.info()?.hypercalls ?? 4n) < 4n) await new Promise((r) => setTimeout(r, 5));
        await handle.remove();
        expect(guest.machine.modules.list()).toEqual([]);
      }
      await guest.sh(
        "kill $(cat /tmp/load); killall modules; while pidof modules; do sleep 0.1; done >/dev/null",
      );
      const match = /^modules: answers (\d+) unknown (\d+) failed/.exec(await guest.sh("cat /tmp/modules"));
      expect(Number(match?.[1])).toBeGreaterThanOrEqual(4 * loads);
      expect(await suspiciousMessages(guest)).toEqual([]);
      await guest.machine.stop();
      expect((await gone(directory)).text).toBe("stopped by request");
    },
    PATIENCE,
  );
});
