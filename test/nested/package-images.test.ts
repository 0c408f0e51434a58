// SPDX-License-Identifier: Apache-2.0
/** Images of package sets, in machines of every back end: what they boot to, and MPI in them. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { qemuBackend } from "../../src/v3m/backends/qemu/index.js";
import { builtinRegistry } from "../../src/v3m/builtin.js";
import { installPackages } from "../../src/v3m/packages/install.js";
import { loadPackageSet } from "../../src/v3m/packages/load.js";
import type { V3mBackendFactory } from "../../src/v3m/registry.js";
import { type Capability, suite } from "../support/capabilities.js";
import { ConsoleShell } from "../support/conformance/shell.js";
import { disk, MIB, PLAIN, World } from "../support/conformance/world.js";
import { packageImage, writeTestSet } from "../support/package-images.js";

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

suite("a package set", { needs: ["packages"] }, () => {
  let work: string;
  beforeEach(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-set-"));
  });
  afterEach(() => rmSync(work, { recursive: true }));

  // The first build is that of the image which the machines boot, whenever that was.
  it("gives the same bytes whenever it is built", async () => {
    const again = join(work, "again.img");
    await installPackages(await loadPackageSet(writeTestSet("minimal", work)), again, { work });
    expect(await digest(again)).toBe(await digest(await packageImage("minimal")));
  }, 900_000);

  it("gives a file system without faults, with nothing of the host's in it", async () => {
    const image = `${await packageImage("minimal")}?offset=${MIB}`;
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const run = (program: string, ...args: string[]) =>
      execFileSync(program, args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    expect(run("e2fsck", "-fn", image)).toMatch(/^root: \d+/m);
    expect(run("debugfs", "-R", "cat /etc/hostname", image)).toBe("v3m\n");
    for (const path of ["/.v3m-setup", "/var/log/dpkg.log", "/var/lib/dbus/machine-id"]) {
      expect(run("debugfs", "-R", `stat ${path}`, image), path).not.toMatch(/Type: regular/);
    }
  });
});

const MACHINES: readonly [type: string, needs: readonly Capability[]][] = [
  ["Qemu", []],
  ["Kvm", ["linux-guest"]],
  ["VMM-HPC", ["linux-guest"]],
];

/** From the login prompt to a shell without prompt and echo, when the system is up. */
async function login(shell: ConsoleShell): Promise<void> {
  await shell.waitFor(/\S+ login: /);
  shell.type("root\n");
  await shell.waitFor(/# $/);
  shell.type("stty -echo; echo V3M-SHELL''-READY; exec sh -s 2>&1 | cat\n");
  await shell.waitFor(/V3M-SHELL-READY\r?\n/);
  await shell.run(
    "export LC_ALL=C PAGER=cat SYSTEMD_COLORS=0; systemctl is-system-running --wait >/dev/null",
  );
}

describe("an image of a package set", () => {
  for (const [type, needs] of MACHINES) {
    suite(type, { needs: ["root", ...needs] }, () => {
      let world: World;
      beforeEach(async () => {
        const registry = builtinRegistry();
        const factory: V3mBackendFactory =
          type === "Qemu" ? qemuBackend : { type, create: (host) => registry.get(type, host) };
        world = await World.create(factory);
      });
      afterEach(() => world.dispose());

      async function booted(image: string, cpus: number): Promise<ConsoleShell> {
        await world.define({
          ...PLAIN,
          name: "set",
          type,
          cpus,
          memory: { bytes: 512 * MIB, backing: "thp", prefault: false },
          boot: { from: "disk", cmdline: "quiet" },
          disks: [disk("disk0", image, { overlay: "temporary" })],
          rng: true,
        });
        await world.backend.start("set");
        const shell = new ConsoleShell(await world.backend.console("set"));
        await login(shell);
        return shell;
      }

      it("boots to a login prompt on the console, with every unit up, and powers off", async () => {
        const shell = await booted(await packageImage("minimal"), 1);
        expect(await shell.sh("systemctl is-system-running")).toBe("running");
        expect(await shell.sh("systemctl --failed --plain --no-legend")).toBe("");
        expect(await shell.sh("findmnt -n -o SOURCE,LABEL /")).toMatch(/^\/dev\/vda1 +root$/);
        expect(await shell.sh("hostname")).toBe("v3m");
        shell.type("systemctl poweroff\n");
        await shell.until(() => shell.ended, "the end").catch(() => {});
        expect((await world.backend.status("set")).state).toBe("stopped");
      }, 900_000);

      it("of a compute node runs MPI programs", async () => {
        const shell = await booted(await packageImage("compute"), 2);
        expect(await shell.sh("systemctl --failed --plain --no-legend")).toBe("");
        const mpirun =
          "su hpc -c 'cd; mpirun --oversubscribe -n 4 python3 -m mpi4py.bench helloworld' | sort";
        const hello = (await shell.sh(mpirun)).split("\n").filter((line) => line.startsWith("Hello"));
        expect(hello).toHaveLength(4);
        hello.forEach((line, rank) => {
          expect(line).toMatch(new RegExp(`I am process ${rank} of 4 on compute`));
        });
        const ring =
          "su hpc -c 'cd; mpirun --oversubscribe -n 2 python3 -m mpi4py.bench ringtest -q -n 1024 -l 16'";
        await shell.sh(ring);
        // Keys of its own, made at the first boot.
        expect(await shell.sh("ls /etc/ssh/ssh_host_*_key | wc -l")).not.toBe("0");
      }, 1_800_000);
    });
  }
});
