// SPDX-License-Identifier: Apache-2.0
/** The emulated machine's spare network cards, and the other end of their wire (harness/amd/qemu.ts). */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CARDS } from "../../harness/amd/qemu.js";
import { bindFunction } from "../../harness/common/bind.js";

export { bindFunction as bind, CARDS };

/** This end's address, and those that are given by DHCP. */
export const WIRE = { host: "10.9.0.1", first: "10.9.0.2", last: "10.9.0.9" } as const;

const sys = (address: string, file: string) => join("/sys/bus/pci/devices", address, file);

/** Our end of the wire: a card with an address, and a DHCP server behind it. */
export class Wire implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "v3m-wire-"));
  readonly #server;

  constructor() {
    const [name = ""] = readdirSync(sys(CARDS.own.address, "net"));
    execFileSync("ip", ["addr", "replace", `${WIRE.host}/24`, "dev", name]);
    execFileSync("ip", ["link", "set", name, "up"]);
    const file = (path: string, content: string) => {
      writeFileSync(join(this.#directory, path), content);
      return join(this.#directory, path);
    };
    const leases = file("leases", "");
    const options = [
      `start ${WIRE.first}`,
      `end ${WIRE.last}`,
      `interface ${name}`,
      `lease_file ${leases}`,
      `pidfile ${join(this.#directory, "pid")}`,
      "option subnet 255.255.255.0",
    ];
    const config = file("udhcpd.conf", `${options.join("\n")}\n`);
    this.#server = spawn("busybox", ["udhcpd", "-f", config], { stdio: "ignore" });
  }

  static async open(): Promise<Wire> {
    await bindFunction(CARDS.own.address, "e1000e");
    return new Wire();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
    await bindFunction(CARDS.own.address, undefined);
  }
}
