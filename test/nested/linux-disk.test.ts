// SPDX-License-Identifier: Apache-2.0
/** Debian from its own disk, with its own kernel: to the login prompt, with network, again and again; and killed. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type DebianDisk, debianDisk } from "../../harness/disk-image.js";
import { suite } from "../support/capabilities.js";
import { LinuxGuest, LOGIN } from "../support/linux.js";
import { suspiciousMessages } from "../support/linux-checks.js";
import { rounds } from "../support/places.js";
import { start } from "../support/v2m.js";

/** Of a test with this many boots of a whole distribution, milliseconds. */
const patience = (boots: number) => 300_000 + boots * 240_000;

/** Files over HTTP on this computer's loopback, which guests reach at their gateway. */
class Files {
  readonly #server: Server;
  readonly asked: string[] = [];

  private constructor(files: ReadonlyMap<string, Buffer>) {
    this.#server = createServer((request, response) => {
      this.asked.push(request.url ?? "");
      const found = files.get(request.url ?? "");
      response.writeHead(found === undefined ? 404 : 200, { "content-length": found?.length ?? 0 });
      response.end(found);
    });
  }

  static async serve(files: ReadonlyMap<string, Buffer>): Promise<Files> {
    const served = new Files(files);
    await new Promise<void>((resolve) => served.#server.listen(0, "127.0.0.1", resolve));
    return served;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** A repository with one package, as apt takes it. */
function repository(): Map<string, Buffer> {
  const work = mkdtempSync(join(tmpdir(), "v3m-repository-"));
  try {
    const control =
      "Package: v3m-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <root@localhost>\nDescription: hello\n";
    mkdirSync(join(work, "root/DEBIAN"), { recursive: true });
    mkdirSync(join(work, "root/usr/share"), { recursive: true });
    writeFileSync(join(work, "root/DEBIAN/control"), control);
    writeFileSync(join(work, "root/usr/share/v3m-hello"), "hello from a package\n");
    execFileSync("dpkg-deb", [
      "--root-owner-group",
      "-Zgzip",
      "-b",
      join(work, "root"),
      join(work, "hello.deb"),
    ]);
    const deb = readFileSync(join(work, "hello.deb"));
    const sum = execFileSync("sha256sum", [join(work, "hello.deb")], { encoding: "utf8" }).split(" ")[0];
    const packages = `${control}Filename: ./hello.deb\nSize: ${deb.length}\nSHA256: ${sum}\n`;
    return new Map([
      ["/./Packages.gz", gzipSync(packages)],
      ["/./hello.deb", deb],
      ["/hello.txt", Buffer.from("hello from the host\n")],
    ]);
  } finally {
    rmSync(work, { recursive: true });
  }
}

suite("Debian from a disk", { needs: ["linux-guest", "root"] }, () => {
  let disk: DebianDisk;
  let guest: LinuxGuest;
  let files: Files;
  let gateway: string;
  beforeAll(async () => {
    disk = await debianDisk();
    files = await Files.serve(repository());
    guest = await LinuxGuest.bootDisk(disk, { nets: [{ kind: "user" }], rng: true });
    await guest.login(disk);
  }, patience(1));
  afterAll(async () => {
    await guest?.dispose();
    files?.close();
  });

  it("boots its own kernel from its own disk to multi-user, and every unit is up", async () => {
    expect(await guest.sh("systemctl is-system-running")).toBe("running");
    expect(await guest.sh("systemctl is-active multi-user.target")).toBe("active");
    expect(await guest.sh("systemctl --failed --plain --no-legend")).toBe("");
    expect(await guest.sh("findmnt -n -o SOURCE /")).toBe("/dev/vda1");
  });

  it("has no warning in its log", async () => {
    expect(await suspiciousMessages(guest)).toEqual([]);
  });

  it("has an address from the network, and reaches the host", async () => {
    const addresses = await guest.sh("ip -4 -o addr show scope global");
    expect(addresses).toMatch(/inet \d+\.\d+\.\d+\.\d+/);
    gateway = /via (\S+)/.exec(await guest.sh("ip -4 route show default"))?.[1] ?? "";
    expect(gateway).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect(await guest.sh(`busybox wget -q -O - http://${gateway}:${files.port}/hello.txt`)).toBe(
      "hello from the host",
    );
  });

  it("installs a package with apt through user networking", async () => {
    const source = `deb [trusted=yes] http://${gateway}:${files.port} ./`;
    // First from Debian's own mirror, where this computer reaches it: most emulated ones do not.
    const mirrored = await fetch("http://deb.debian.org/debian/dists/stable/InRelease", {
      signal: AbortSignal.timeout(10_000),
    }).then(
      (answer) => answer.ok,
      () => false,
    );
    if (mirrored) expect(await guest.sh("apt-get update")).toMatch(/^Fetched /m);
    await guest.sh(
      `rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; echo '${source}' >/etc/apt/sources.list`,
    );
    await guest.sh("apt-get -qq -o Acquire::Retries=1 update && apt-get -qq install v3m-hello");
    expect(await guest.sh("cat /usr/share/v3m-hello")).toBe("hello from a package");
  });

  it("writes to its disk and reads it back", async () => {
    const job =
      "--name=job --filename=/var/tmp/job --size=8M --bs=16k --ioengine=libaio --iodepth=4 --direct=1";
    const output = await guest.sh(
      `fio ${job} --rw=randwrite --verify=crc32c --verify_fatal=1 --output-format=terse`,
    );
    expect(output).toMatch(/^3;fio-/m);
  });

  it("powers off by its own shutdown", async () => {
    guest.type("systemctl poweroff\n");
    expect(await guest.ended()).toMatchObject({ state: "stopped", cause: "poweroff" });
  });
});

suite("Debian rebooted", { needs: ["linux-guest", "root"] }, () => {
  const REBOOTS = rounds(2, 20);
  it(
    "comes up again each time",
    async () => {
      const disk = await debianDisk();
      // Every shell that begins leaves a line in a file, and the system goes down in order: it must be there.
      await using guest = await LinuxGuest.bootDisk(disk);
      for (let boot = 0; boot <= REBOOTS; boot++) {
        if (boot > 0) await guest.waitFor(LOGIN);
        await guest.login(disk);
        await guest.sh(`echo ${boot} >>/root/boots`);
        expect(await guest.sh("wc -l </root/boots; systemctl is-system-running")).toBe(
          `${boot + 1}\nrunning`,
        );
        if (boot < REBOOTS) guest.type("systemctl reboot\n");
      }
    },
    patience(REBOOTS + 1),
  );
});

suite("a disk whose machine is killed", { needs: ["linux-guest", "root"] }, () => {
  const KILLS = rounds(2, 20);
  let work: string;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-kill-"));
  });
  afterAll(() => rmSync(work, { recursive: true }));

  /** Runs as process 1 with the root file system writable: counts what it has flushed while fio verifies. */
  const JOB = [
    "mount -t proc proc /proc; mount -t tmpfs tmpfs /run; rm -f /var/tmp/job",
    "{ fio --name=job --filename=/var/tmp/job --size=24M --bs=4k --rw=randwrite --ioengine=libaio --iodepth=8" +
      " --direct=1 --fsync=32 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --time_based --runtime=900" +
      " >/run/fio 2>&1; echo FIO''-ENDED $?; cat /run/fio; } &",
    "until [ -s /var/tmp/job ]; do sleep 0.1; done",
    "n=$(cat /root/count 2>/dev/null || echo 0)",
    "while :; do n=$((n+1)); echo $n >/root/new; sync /root/new; mv /root/new /root/count; sync /root; echo SYNCED-$n-; done",
  ].join("\n");

  it(
    "has lost nothing that was flushed, and its file system is clean",
    async () => {
      const disk = await debianDisk();
      const overlay = join(work, "overlay");
      for (let kill = 0; kill < KILLS; kill++) {
        const run = start(
          ...["run", "--disk", `${disk.path},overlay=${overlay}`, "--append", "quiet init=/bin/bash"],
        );
        await run.saw(/:\/# /);
        run.type(`stty -echo\n${JOB}\n`);
        await run.saw(/SYNCED-\d+-[\s\S]*SYNCED-\d+-|FIO-ENDED/);
        await new Promise((resolve) => setTimeout(resolve, 2000 + Math.random() * 6000));
        run.child.kill("SIGKILL");
        await run.outcome;
        expect(run.stdout).not.toContain("FIO-ENDED");
        const flushed = Number([...run.stdout.matchAll(/SYNCED-(\d+)-/g)].at(-1)?.[1]);
        await check(disk, overlay, flushed);
      }
    },
    patience(2 * KILLS),
  );

  /** In a guest of its own: the kernel replays the journal, then Debian's e2fsck looks at all of it. */
  async function check(disk: DebianDisk, overlay: string, flushed: number): Promise<void> {
    await using guest = await LinuxGuest.boot({
      memory: 256 << 20,
      initramfs: { modules: ["virtio_blk"] },
      disks: [
        { path: disk.path, overlay },
        { path: disk.path, readOnly: true },
      ],
    });
    await guest.sh(
      "mkdir /killed /tools; mount -t ext4 /dev/vda1 /killed; mount -o ro,noload -t ext4 /dev/vdb1 /tools",
    );
    const count = Number(await guest.sh("cat /killed/root/count"));
    expect(count).toBeGreaterThanOrEqual(flushed);
    // fio was at work: the file, which it lays out without content, has some.
    expect(await guest.sh("tr -d '\\0' </killed/var/tmp/job | head -c 1 | wc -c")).toBe("1");
    await guest.sh("umount /killed; mount -o bind /dev /tools/dev");
    const { code, output } = await guest.run("chroot /tools /sbin/e2fsck -fn /dev/vda1");
    expect({ code, output }).toMatchObject({ code: 0 });
    expect(await guest.sh("dmesg | grep -iE 'ext4-fs error|I/O error' || true")).toBe("");
    await guest.sh("sync; umount /tools/dev /tools");
  }
});
