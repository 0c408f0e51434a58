// SPDX-License-Identifier: Apache-2.0
/**
 * A system from a CD-ROM on a new disk: the installer runs in a machine of the back end's until it powers off or
 * reboots. It has to need nobody: its questions are not answered.
 */
import { mkdtemp, open, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { diskBoot } from "../../disk/index.js";
import { V3mError } from "../../errors.js";
import type { ImageSource, OperationOptions, VmStatus } from "../../vmm/backend.js";
import type { VmBoot, VmDefinition } from "../definition/types.js";
import { throwIfAborted } from "../errors.js";
import type { V3mBackend } from "../registry.js";
import { installerBoot } from "./iso.js";
import { Leash } from "./leash.js";
import { endMachine, privateBackend } from "./private-host.js";

const LOOK_MS = 500;
/** Of the console, for the message of an error. */
const TAIL = 1000;
const NAME = "installation";

export type CdromSource = ImageSource<VmDefinition> & { readonly kind: "cdrom" };

/** The machine of the installation: as the given one, with the CD-ROM and the new disk and no other. */
function machineOf(type: string, source: CdromSource, disk: string, boot: VmBoot): VmDefinition {
  return {
    ...source.machine,
    name: NAME,
    type,
    boot,
    disks: [{ id: "disk0", path: disk, format: source.format, readOnly: false, direct: false }],
    cdrom: source.from,
    pmem: [],
    shm: [],
    vfio: [],
    modules: [],
    // Whether it powers off or reboots, it is done.
    onReset: "stop",
  };
}

const ESCAPES = new RegExp(`${String.fromCharCode(27)}(\\[[0-9;?]*[A-Za-z]|[A-Za-z0-9])`, "g");

/** What a boot loader draws is not for the terminal of whoever reads an error. */
const plain = (text: string) => text.replace(ESCAPES, "").replace(/[^\n\x20-\x7e]/g, "");

/** The console, of which the last line is shown. */
class Watched {
  text = "";

  constructor(stream: NodeJS.ReadableStream) {
    stream.on("data", (chunk: Buffer) => {
      this.text = (this.text + plain(chunk.toString("latin1"))).slice(-TAIL);
    });
    stream.on("error", () => {}); // it ends with the machine
  }

  get lastLine(): string {
    return (
      this.text
        .split("\n")
        .findLast((line) => line.trim() !== "")
        ?.trim() ?? ""
    );
  }
}

async function untilEnded(backend: V3mBackend, options: OperationOptions): Promise<[VmStatus, Watched]> {
  const console = await backend.console(NAME);
  const watched = new Watched(console);
  try {
    for (let looks = 0; ; looks++) {
      throwIfAborted(options.signal, "the installation");
      const status = await backend.status(NAME);
      if (status.state !== "running" && status.state !== "starting") return [status, watched];
      options.onProgress?.({ what: `installing: ${watched.lastLine}`, done: looks });
      await sleep(LOOK_MS, undefined, options.signal === undefined ? {} : { signal: options.signal }).catch(
        () => {},
      );
    }
  } finally {
    console.destroy();
  }
}

function failed(why: string, watched: Watched): V3mError {
  return new V3mError("E_GUEST", `the installation failed: ${why}; the console's end:\n${watched.text}`, {
    hint: "the installer has to need nobody: see what it asks",
  });
}

const BOOT_CODE = 440;

/** Whether a boot loader is where firmware looks for one. */
async function hasBootCode(disk: string): Promise<boolean> {
  const file = await open(disk, "r");
  try {
    const { buffer } = await file.read(Buffer.alloc(512), 0, 512, 0);
    return buffer.readUInt16BE(510) === 0x55aa && buffer.subarray(0, BOOT_CODE).some((byte) => byte !== 0);
  } finally {
    await file.close();
  }
}

/** Why the disk is no system that the back end could boot; undefined where it is, or nobody can tell. */
async function unbootable(
  firmware: boolean,
  { format }: CdromSource,
  disk: string,
): Promise<string | undefined> {
  if ((await stat(disk)).blocks === 0) return "the installer wrote nothing to the disk";
  if (format !== "raw" || (firmware && (await hasBootCode(disk)))) return undefined;
  return await diskBoot(disk).then(
    () => undefined,
    (error: unknown) => {
      if (error instanceof V3mError) return `there is no system on the disk: ${error.message}`;
      throw error;
    },
  );
}

/**
 * Install a system on a disk that is there and empty.
 * @param firmware whether the back end's firmware boots CD-ROMs; else the installer's kernel is taken out of the ISO
 * @throws V3mError E_GUEST where the machine crashed, or left nothing that boots; whatever the back end throws
 */
export async function installFromCdrom(
  type: string,
  firmware: boolean,
  source: CdromSource,
  disk: string,
  options: OperationOptions = {},
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "v3m-inst-"));
  const leash = new Leash(directory, [disk]);
  let definition = machineOf(type, source, disk, { from: "cdrom" });
  let backend: V3mBackend | undefined;
  try {
    // Before anything else: who comes to clean up must be able to read it.
    await writeFile(join(directory, "definition.json"), JSON.stringify(definition));
    if (!firmware) {
      definition = { ...definition, boot: await installerBoot(source.from, directory, options.signal) };
    }
    backend = await privateBackend(directory, definition);
    await backend.define(definition);
    await backend.start(NAME, options.signal === undefined ? {} : { signal: options.signal });
    const [{ state, detail }, watched] = await untilEnded(backend, options);
    const why =
      state === "stopped" ? await unbootable(firmware, source, disk) : (detail ?? `its machine is ${state}`);
    if (why !== undefined) throw failed(why, watched);
  } finally {
    backend ??= await privateBackend(directory, definition);
    await endMachine(directory, backend, definition);
    leash.release();
  }
}
