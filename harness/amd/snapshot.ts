/**
 * Saved states of booted machines. A state holds the machine just before it takes a job; restoring it replaces the
 * boot. A state fits only the QEMU, arguments and images it was made with, and the running host (the guest has
 * measured the host's time-stamp counter): all of that is in its name. Numbers are in harness/README.md.
 */
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cacheDir, cached, exists } from "../common/cache.js";
import { runTool } from "../common/tools.js";
import { shellQuote } from "./job.js";
import { onLine } from "./lines.js";
import { Monitor } from "./monitor.js";
import { Qemu, type QemuOptions, qemuArguments } from "./qemu.js";
import { BOOT_LIMIT_MS, failure } from "./session.js";

/** Linux refines its clock frequency for about a second after `booted`; the looks at its clock take two, and this is spare. */
const SETTLE_MS = 500;
/**
 * On a busy host Linux may measure a wrong frequency of the time-stamp counter, and its clock then goes several times too
 * fast or too slow: such a state is not kept. Messages between two looks may be late by some tenths of a second.
 */
const CLOCK_MOST = 1.5;
const BOOTS = 3;
const KEEP_STATES = 4;
const KEEP_UNUSED_MS = 7 * 24 * 3600 * 1000;

/** Path of the state for these options, built first if necessary (a boot and some three seconds). */
export async function ensureSnapshot(
  options: QemuOptions,
  log: (message: string) => void,
  abort?: AbortSignal,
): Promise<string> {
  const path = await snapshotPath(options);
  if (await exists(path)) {
    const now = new Date();
    await utimes(path, now, now).catch(() => {}); // Used today: not to be removed. A read-only cache is fine.
    return path;
  }
  await removeUnused();
  return cached(path, async (temporary) => {
    for (let boot = 1; ; boot++) {
      log("booting once, to save the booted machine");
      const pace = await saveBooted(options, temporary, abort);
      if (pace < CLOCK_MOST && pace > 1 / CLOCK_MOST) return;
      const wrong = `its clock goes ${pace.toPrecision(2)} times as fast as the host's`;
      if (boot === BOOTS) throw new Error(`${wrong}: is the host very busy?`);
      log(`${wrong}: booting again`);
    }
  });
}

async function snapshotPath(options: QemuOptions): Promise<string> {
  const version = (await runTool(options.qemu, ["--version"])).stdout.toString();
  const bootId = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  const { outDir: _, restore: __, ...same } = options;
  const key = JSON.stringify([version, bootId, qemuArguments(same)]);
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 16);
  return cacheDir("machines", `state-${hash}`);
}

interface Look {
  /** Seconds of the machine's clock, and of the host's. */
  readonly machine: number;
  readonly host: number;
}

/** @returns seconds of the machine's clock in one of the host's */
async function saveBooted(options: QemuOptions, path: string, abort?: AbortSignal): Promise<number> {
  const { outDir: _, restore: __, ...boot } = options;
  const qemu = await Qemu.start(boot);
  let timer: NodeJS.Timeout | undefined;
  const looks: Look[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      abort?.addEventListener("abort", () => reject(abort.reason), { once: true });
      onLine(qemu.channel("control"), (line) => {
        const [word, seconds] = line.split(" ");
        if (word === "clock") looks.push({ machine: Number(seconds), host: performance.now() / 1000 });
        if (looks.length === 2) resolve();
      });
      qemu.exited.then(() => reject(failure(qemu, "E_BOOT", "the machine ended while it booted")));
      const late = (): void => reject(failure(qemu, "E_BOOT", "the machine did not boot in time"));
      timer = setTimeout(late, BOOT_LIMIT_MS);
    });
    await sleep(SETTLE_MS, undefined, abort ? { signal: abort } : {});
    const monitor = await Monitor.open(qemu.channel("monitor"));
    // Not stopped before: a machine saved while it is paused would be restored paused.
    await monitor.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 40, "downtime-limit": 10_000 });
    await monitor.execute("migrate", { uri: `exec:cat > ${shellQuote(path)}` });
    for (;;) {
      const { status } = (await monitor.execute("query-migrate")) as { status?: string };
      if (status === "completed") break;
      if (status === "failed") throw failure(qemu, "E_BOOT", "QEMU could not save the machine");
      await sleep(20);
    }
    const [first, second] = looks as [Look, Look];
    return (second.machine - first.machine) / (second.host - first.host);
  } finally {
    clearTimeout(timer);
    await qemu.kill();
  }
}

/** Makes room: a state is as large as what the booted kernel has touched, some 170 MB. */
async function removeUnused(): Promise<void> {
  const dir = cacheDir("machines");
  const found: { path: string; used: number }[] = [];
  for (const name of await readdir(dir).catch(() => [] as string[])) {
    const path = join(dir, name);
    const info = await stat(path).catch(() => undefined);
    if (info && !name.includes(".tmp-")) found.push({ path, used: info.mtimeMs });
  }
  found.sort((a, b) => b.used - a.used);
  const unused = found.filter(
    ({ used }, index) => index >= KEEP_STATES - 1 || used < Date.now() - KEEP_UNUSED_MS,
  );
  // A machine that is just reading its state keeps it open, and one that comes too late boots.
  for (const { path } of unused) await rm(path, { force: true });
}
