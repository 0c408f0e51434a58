// SPDX-License-Identifier: Apache-2.0
/** From a definition to a machine that runs, or to nothing at all. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { V3mError } from "../../../errors.js";
import type { OperationOptions } from "../../../vmm/backend.js";
import { checkVfio } from "../../../vmm/vfio.js";
import type { VmDefinition } from "../../definition/types.js";
import { dhcpNetworks, openTaps, releaseNetwork, sweepCommand, type Taps } from "../../network/index.js";
import { readProcess, readRing, startSupervised } from "../../supervise/index.js";
import { HypervisorError } from "../errors.js";
import { CONSOLE_FD, EVENTS_FD, QMP_FD, qemuArguments } from "./arguments.js";
import { type MadeFiles, prepareDisks } from "./disks.js";
import type { QemuKind } from "./kind.js";
import { loadState } from "./migration.js";
import { placeThreads } from "./placement.js";
import { Qmp } from "./qmp.js";
import { STOPPING, settled } from "./status.js";

/** Bytes kept of QEMU's events and of its own words. */
const EVENTS_KEPT = 256 << 10;
const MESSAGES_KEPT = 64 << 10;

const HELLO = '{"execute":"qmp_capabilities"}\n';

export interface Directories {
  readonly state: string;
  readonly runtime: string;
}

/**
 * What the last machine of this name left is gone.
 * @param from a file that `saveState` wrote: it goes on from there
 * @throws V3mError; nothing is left then
 */
export async function startMachine(
  kind: QemuKind,
  definition: VmDefinition,
  directories: Directories,
  options: OperationOptions = {},
  from?: string,
): Promise<void> {
  const made: MadeFiles = [];
  let taps: Taps | undefined;
  try {
    await mkdir(directories.state, { recursive: true, mode: 0o700 });
    await rm(directories.runtime, { recursive: true, force: true });
    await mkdir(directories.runtime, { recursive: true, mode: 0o700 });
    await prepareDisks(definition, directories.state, made, options, from !== undefined);
    for (const { device } of definition.vfio) await checkVfio(device);
    taps = await openTaps(definition.nics, options);
    await launch(kind, definition, directories, taps, options, from);
    taps.close();
  } catch (error) {
    taps?.close();
    await releaseNetwork(definition.nics).catch(() => {}); // the error at hand says more
    for (const path of made) await rm(path, { force: true });
    await rm(directories.runtime, { recursive: true, force: true });
    throw error;
  }
}

async function launch(
  kind: QemuKind,
  definition: VmDefinition,
  { state, runtime }: Directories,
  taps: Taps,
  options: OperationOptions,
  from: string | undefined,
): Promise<void> {
  const { console } = definition;
  const { signal, onProgress } = options;
  onProgress?.({ what: "starting QEMU", done: 0, total: 2 });
  await using qemu = await startSupervised({
    directory: runtime,
    argv: [
      ...(await qemuArguments(kind, definition, state)),
      ...(from === undefined ? [] : ["-incoming", "defer"]),
    ],
    channels: [
      {
        name: "console",
        fd: CONSOLE_FD,
        keep: Math.max(console.scrollback, 4096),
        input: true,
        hold: true,
        ...(console.log === undefined ? {} : { log: console.log }),
      },
      { name: "events", fd: EVENTS_FD, keep: EVENTS_KEPT, hello: HELLO },
      { name: "messages", fd: 2, keep: MESSAGES_KEPT },
    ],
    sockets: [{ name: "qmp.sock", fd: QMP_FD }],
    dhcp: await dhcpNetworks(definition.nics),
    pass: taps.fds,
    after: sweepCommand(definition.nics),
    signal,
  });
  let qmp: Qmp;
  try {
    qmp = await Qmp.connect(join(runtime, "qmp.sock"), { signal });
  } catch (error) {
    if (!(error instanceof HypervisorError && error.code === "E_CLOSED")) throw error;
    await qemu[Symbol.asyncDispose]();
    throw await startFailure(runtime, error);
  }
  try {
    onProgress?.({ what: "starting QEMU", done: 1, total: 2 });
    const record = await readProcess(runtime);
    if (record !== undefined) await placeThreads(qmp, record.program.pid, definition, { signal });
    if (from !== undefined) await loadState(qmp, join(runtime, "state.sock"), from, options);
    await options.gate?.();
    await qmp.execute("cont", undefined, { signal });
    await settled(runtime, "running");
    await qemu.release();
  } finally {
    qmp.close();
  }
  await rm(join(runtime, STOPPING), { force: true });
  onProgress?.({ what: "starting QEMU", done: 2, total: 2 });
}

/** What QEMU said before it ended, as an error that says what to do. */
async function startFailure(runtime: string, cause: Error): Promise<V3mError> {
  const kept = (await readRing(join(runtime, "messages.ring")))?.data.toString("utf8") ?? "";
  const lines = kept.split("\n").map((line) => line.replace(/^\S*qemu\S*: /, "").trim());
  const words = lines.filter((line) => line !== "" && !/^warning:/.test(line)).join("; ");
  const text = `QEMU did not start: ${words === "" ? "it ended without a word" : words}`;
  const known = COMPLAINTS.find(({ match }) => match.test(words));
  return new HypervisorError(known?.code ?? "E_QEMU", text, {
    hint: known?.hint ?? "v2m doctor; is the definition right?",
    cause,
  });
}

const COMPLAINTS: readonly { readonly match: RegExp; readonly code: string; readonly hint: string }[] = [
  {
    match: /Failed to get "\w+( write)?" lock/,
    code: "E_BUSY",
    hint: "another machine uses the image: stop it, or give this one an overlay",
  },
  {
    match: /Could not access KVM|failed to initialize kvm/i,
    code: "E_NO_KVM",
    hint: "use type Qemu, or npx v2m-testbed; v2m doctor says more",
  },
  {
    match: /Permission denied|Operation not permitted/,
    code: "E_PERMISSION",
    hint: "check the permissions of the file that is named",
  },
  {
    match: /Cannot allocate memory|cannot set up guest memory|insufficient (free )?host memory/i,
    code: "E_NO_MEMORY",
    hint: "ask for less memory, or see what is free: free -m; grep Huge /proc/meminfo",
  },
  {
    match: /kernel|initrd|multiboot|PVH/i,
    code: "E_BAD_IMAGE",
    hint: "give a bzImage, a vmlinux or ELF with a PVH note, or a multiboot image",
  },
  {
    match: /not in \S+ format|Image is corrupt|Could not open backing|qcow2/i,
    code: "E_BAD_IMAGE",
    hint: "check the image: qemu-img check FILE",
  },
  {
    match: /Could not set up host forwarding|Address already in use/i,
    code: "E_OVERLAP",
    hint: "a port to be forwarded is taken, or needs a privilege: choose another",
  },
];
