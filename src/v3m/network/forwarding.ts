// SPDX-License-Identifier: Apache-2.0
/** The host's switch for passing packets on, which address translation needs. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { denied } from "./errors.js";

const SWITCH = "/proc/sys/net/ipv4/ip_forward";

/** Says that it was off before V3M turned it on. A reboot, which turns it off, removes it as well. */
const RECORD = "ip-forward-was-off";

/** Turn it on. @param directory for the record */
export async function turnOn(directory: string): Promise<void> {
  if ((await readFile(SWITCH, "latin1")).trim() !== "0") return;
  await writeFile(join(directory, RECORD), "");
  try {
    await writeFile(SWITCH, "1");
  } catch (cause) {
    await rm(join(directory, RECORD), { force: true });
    throw denied(`cannot write ${SWITCH}`, { cause });
  }
}

/** Off again, if V3M turned it on. */
export async function putBack(directory: string): Promise<void> {
  const record = join(directory, RECORD);
  if (!(await readFile(record).catch(() => undefined))) return;
  await writeFile(SWITCH, "0");
  await rm(record, { force: true });
}
