// SPDX-License-Identifier: Apache-2.0
/**
 * Real, unmodified static binaries on the lightweight kernel: output and exit code are byte-identical to those of
 * the same binary as a plain process on the computer that holds the VM.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { type BothOptions, runBoth } from "../support/native-run.js";
import { rounds } from "../support/places.js";
import { BUSYBOX, program } from "../support/yod.js";

let directory: string;

/** A text and binary data that are the same in each run. */
function layOut(): void {
  directory = mkdtempSync(join(tmpdir(), "v3m-lwk-"));
  let state = 12345;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const words = ["kernel", "latency", "noise", "Catamount", "quintessential", "yod", "node", "tick", "page"];
  const lines = Array.from({ length: 3000 }, (_, i) => {
    const text = Array.from({ length: 1 + random(8) }, () => words[random(words.length)]).join(" ");
    return `${String(random(100_000)).padStart(6)} ${i % 17} ${text}`;
  });
  writeFileSync(join(directory, "text"), `${lines.join("\n")}\n`);
  writeFileSync(join(directory, "other"), `${lines.filter((_, i) => i % 97 !== 5).join("\n")}\n`);
  const big = Buffer.allocUnsafe(rounds(2, 50) * 1_000_000);
  for (let at = 0; at < big.length; at += 4) big.writeUInt32LE(random(2 ** 32), at);
  writeFileSync(join(directory, "big"), big);
  mkdirSync(join(directory, "tree/deep/deeper"), { recursive: true });
  for (const [name, bytes] of [
    ["tree/one", 10],
    ["tree/deep/two", 5000],
    ["tree/deep/deeper/three", 0],
  ] as const) {
    writeFileSync(join(directory, name), "x".repeat(bytes), { mode: 0o640 });
  }
  // Directories last: they change with what is made in them.
  for (const name of [
    "tree/one",
    "tree/deep/two",
    "tree/deep/deeper/three",
    "tree/deep/deeper",
    "tree/deep",
  ]) {
    utimesSync(join(directory, name), 1_167_609_600, 1_167_609_600);
  }
}

/** Run both and compare. */
async function same(app: string, args: readonly string[], options: BothOptions = {}): Promise<void> {
  const { native, lwk } = await runBoth(app, args, {
    cwd: directory,
    roots: [{ path: directory }],
    ...options,
  });
  expect(lwk).toEqual(native);
}

const SUM =
  'BEGIN { FS = " " } { n[$2] += $1 } END { for (i = 0; i < 17; i++) printf "%d %d %.3f\\n", i, n[i], n[i] / 7 }';
const LOOP =
  'i=0; s=0; while [ $i -lt 500 ]; do s=$((s + i * i)); i=$((i + 1)); done; echo $s; read A; echo "<$A>"; exit 7';

/** Applets of busybox that need no second process. */
const APPLETS: readonly (readonly string[])[] = [
  ["sha256sum", "big"],
  ["md5sum", "big", "text"],
  ["sha512sum", "text"],
  ["cksum", "big"],
  ["sort", "text"],
  ["sort", "-k2,2n", "-k1,1nr", "-u", "text"],
  ["awk", SUM, "text"],
  ["awk", 'BEGIN { for (i = 1; i <= 2000; i++) s += sqrt(i) * sin(i); printf "%.6f\\n", s }'],
  ["gzip", "-c", "text"],
  ["bzip2", "-c", "text"],
  ["sed", "-n", "-e", "s/\\(kernel\\) \\(noise\\)/\\2 \\1/gp", "text"],
  ["tr", "a-z", "A-Z"],
  ["wc", "text", "big", "other"],
  ["grep", "-n", "-E", "quint.*yod$", "text"],
  ["grep", "nothing like this", "text"],
  ["find", "tree", "-type", "f", "-size", "+1"],
  ["ls", "-lR", "--full-time", "tree/deep"],
  ["od", "-A", "d", "-t", "x1z", "-N", "3000", "big"],
  ["hexdump", "-C", "-n", "500", "text"],
  ["diff", "text", "other"],
  ["cut", "-c", "8-30", "text"],
  ["uniq", "-c", "text"],
  ["tac", "text"],
  ["base64", "text"],
  ["head", "-c", "100000", "big"],
  ["tail", "-n", "20", "text"],
  ["seq", "-w", "1", "7", "3000"],
  ["expr", "length", "quintessential"],
  ["bc"],
  ["dc", "-e", "20 k 2 v p 3 7 / p"],
  ["date", "-u", "-d", "@1167609600"],
  ["sh", "-c", LOOP],
  ["cat", "no such file"],
  ["tar", "-cf", "-", "tree/deep"],
  ["stat", "-c", "%n %s %f %h %u %g %Y", "tree/one", "tree/deep/two"],
  ["factor", "1234567890123456789"],
  ["false"],
];

suite("busybox on the lightweight kernel", { needs: ["lwk"] }, () => {
  beforeAll(layOut);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it.each(APPLETS.map((argv) => [argv.join(" ").slice(0, 60), argv] as const))(
    "%s",
    async (_name, [applet = "", ...args]) => {
      const input =
        applet === "bc" ? "scale = 30; 2 ^ 200; sqrt(2); 1 / 7\n" : readFileSync(join(directory, "text"));
      // tar and ls look names of users up.
      const roots = [{ path: directory }, { path: "/etc" }];
      await same(BUSYBOX, [applet, ...args], { input, roots });
    },
  );

  it("gzip and gunzip, and the data is back", async () => {
    const { native, lwk } = await runBoth(BUSYBOX, ["gzip", "-c", "big"], {
      cwd: directory,
      roots: [{ path: directory }],
    });
    expect(lwk).toEqual(native);
    const packed = join(directory, "text.gz");
    await runBoth(BUSYBOX, ["gzip", "-k", "text"], {
      cwd: directory,
      roots: [{ path: directory, writable: true }],
      prepare: () => rmSync(packed, { force: true }),
    });
    expect(existsSync(packed)).toBe(true);
    await same(BUSYBOX, ["gunzip", "-c", "text.gz"]);
  });
});

const VARIANTS = ["glibc", "glibc-pie", "musl", "musl-pie"];

suite("static programs on the lightweight kernel", { needs: ["lwk"] }, () => {
  beforeAll(layOut);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  for (const variant of VARIANTS) {
    describe(variant, () => {
      it("C: numbers, memory, texts, time, options", async () => {
        const options = { env: { V3M_PROGRAM: "is set" } };
        await same(program(`cprog.${variant}`), ["-v", "-n", "20000", "zeta", "alpha", "mid"], options);
        await same(program(`cprog.${variant}`), ["-q"]);
        await same(program(`cprog.${variant}`), ["-x", "203"]);
        await same(program(`cprog.${variant}`), ["-c"], { input: readFileSync(join(directory, "text")) });
      });

      it("C++: exceptions, streams, containers, threads", async () => {
        await same(program(`classes.${variant}`), [], { input: "one\ntwo\nthree", cpus: 2 });
        await same(program(`classes.${variant}`), [], { input: "" });
      });

      it("OpenMP: heat and matrices on 4 vCPUs", async () => {
        for (const cpus of [4, 1]) await same(program(`heat.${variant}`), ["64", "50"], { cpus });
      });

      it("threads: mutexes, conditions, barriers, thread-local data, 1,000 short ones", async () => {
        // 25 at once: glibc takes 8 MiB for each stack, and memory is not overcommitted.
        const memory = 384 << 20;
        await same(program(`threads.${variant}`), [], { cpus: 2, memory });
        await same(program(`threads.${variant}`), ["100"], { cpus: 1, memory });
      });

      it("threads that are cancelled", async () => {
        await same(program(`threads.${variant}`), ["cancel"], { cpus: 2 });
      });

      it("signals: handlers, masks, alternate stacks, recovery, to threads", async () => {
        await same(program(`signals.${variant}`), [], { cpus: 2 });
        await same(program(`signals.${variant}`), ["timers"]);
      });

      it.each(["abort", "segv", "fpe", "ill", "term", "overflow"])("ended by a signal: %s", async (how) => {
        await same(program(`signals.${variant}`), [how]);
      });

      it("files: written, sought, listed, described, renamed", async () => {
        const place = join(directory, "files");
        await same(program(`files.${variant}`), [place], {
          roots: [{ path: place, writable: true }],
          cwd: directory,
          prepare: () => {
            rmSync(place, { recursive: true, force: true });
            mkdirSync(place);
          },
        });
      });
    });
  }
});
