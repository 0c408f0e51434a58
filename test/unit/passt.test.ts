// SPDX-License-Identifier: Apache-2.0
/** startPasst with the real passt: frames go through its socket, and it ends when that is closed. */
import { execFileSync } from "node:child_process";
import { existsSync, read as readCallback, readdirSync, readlinkSync, writeSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.js";
import { type Passt, type PasstOptions, startPasst } from "../../src/vmm/passt.js";

const read = promisify(readCallback);
const present = (process.env.PATH ?? "").split(":").some((directory) => existsSync(`${directory}/passt`));
const MAC = Buffer.from("027600000002", "hex");
const BROADCAST = Buffer.alloc(6, 0xff);

const started: Passt[] = [];
async function start(options?: PasstOptions): Promise<Passt> {
  const passt = await startPasst(options);
  started.push(passt);
  return passt;
}
afterEach(async () => {
  await Promise.all(started.splice(0).map((passt) => passt.close()));
});

function send(fd: number, frame: Buffer): void {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.length);
  expect(writeSync(fd, Buffer.concat([length, frame]))).toBe(4 + frame.length);
}

async function exactly(fd: number, bytes: number): Promise<Buffer> {
  const data = Buffer.alloc(bytes);
  for (let have = 0; have < bytes; ) {
    const { bytesRead } = await read(fd, data, have, bytes - have, null);
    if (bytesRead === 0) throw new Error("passt closed its socket");
    have += bytesRead;
  }
  return data;
}

/** The next frame that a filter likes: passt also sends some of its own accord. */
async function receive(fd: number, wanted: (frame: Buffer) => boolean): Promise<Buffer> {
  for (;;) {
    const frame = await exactly(fd, (await exactly(fd, 4)).readUInt32BE());
    if (wanted(frame)) return frame;
  }
}

function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += data.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** RFC 2131: DHCPDISCOVER in UDP in IPv4 in Ethernet. */
function dhcpDiscover(): Buffer {
  const bootp = Buffer.alloc(300);
  bootp.set([1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78]);
  bootp.set(MAC, 28);
  bootp.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 236);
  const headers = Buffer.alloc(28);
  headers.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
  headers.writeUInt16BE(headers.length + bootp.length, 2);
  headers.writeUInt16BE(checksum(headers.subarray(0, 20)), 10);
  headers.writeUInt16BE(68, 20);
  headers.writeUInt16BE(67, 22);
  headers.writeUInt16BE(8 + bootp.length, 24);
  return Buffer.concat([BROADCAST, MAC, Buffer.from([0x08, 0x00]), headers, bootp]);
}

const isDhcp = (frame: Buffer) => frame.readUInt16BE(12) === 0x0800 && frame.readUInt16BE(36) === 68;

/** A DHCP option of an offer. */
function option(frame: Buffer, code: number): Buffer | undefined {
  for (let at = 42 + 240; at + 1 < frame.length && frame[at] !== 255; ) {
    const length = frame[at + 1] ?? 0;
    if (frame[at] === code) return frame.subarray(at + 2, at + 2 + length);
    at += 2 + length;
  }
  return undefined;
}

/** A process of that number that is not a zombie. */
function lives(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== "";
  } catch {
    return false;
  }
}

describe.skipIf(!present)("passt (skipped where package passt is not installed)", () => {
  it("offers the guest an address by DHCP, and answers ARP for the gateway", async () => {
    const { fd } = await start();
    send(fd, dhcpDiscover());
    const offer = await receive(fd, isDhcp);
    expect(offer.readUInt32BE(46)).toBe(0x12345678);
    expect(option(offer, 53)).toEqual(Buffer.from([2]));
    const address = offer.subarray(58, 62);
    const router = option(offer, 3);
    expect(address.readUInt32BE()).not.toBe(0);
    if (router === undefined) throw new Error("no router offered");
    const request = Buffer.from([0, 1, 8, 0, 6, 4, 0, 1]);
    const arp = [BROADCAST, MAC, Buffer.from([8, 6]), request, MAC, address, Buffer.alloc(6), router];
    send(fd, Buffer.concat(arp));
    const reply = await receive(fd, (frame) => frame.readUInt16BE(12) === 0x0806);
    expect(reply.subarray(0, 6)).toEqual(MAC);
    expect(reply.readUInt16BE(20)).toBe(2);
    expect(reply.subarray(28, 32)).toEqual(router);
  });

  it("ends when the socket is closed, and leaves no descriptor open", async () => {
    const count = () => readdirSync("/proc/self/fd").length;
    await (await startPasst()).close(); // what Node opens once
    const before = count();
    const passt = await startPasst();
    expect(lives(passt.pid)).toBe(true);
    const closing = performance.now();
    await passt.close();
    await passt.close();
    expect(performance.now() - closing).toBeLessThan(1500);
    expect(lives(passt.pid)).toBe(false);
    expect(count()).toBe(before);
  });

  it("forwards a port of the host to the guest", async () => {
    const probe = createServer();
    await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
    const address = probe.address();
    const host = typeof address === "object" && address !== null ? address.port : 0;
    await expect(startPasst({ tcp: [{ host }] })).rejects.toMatchObject({
      code: "E_OVERLAP",
      message: expect.stringContaining(String(host)),
    });
    await new Promise((resolve) => probe.close(resolve));
    const { fd } = await start({ tcp: [{ host, guest: 80 }] });
    send(fd, dhcpDiscover()); // so that it knows the guest's address
    await receive(fd, isDhcp);
    const { connect } = await import("node:net");
    const client = connect(host, "127.0.0.1");
    client.on("error", () => undefined);
    const isSyn = (frame: Buffer) =>
      frame.readUInt16BE(12) === 0x0800 && frame[23] === 6 && frame.readUInt16BE(36) === 80;
    const syn = await receive(fd, isSyn);
    expect((syn[47] ?? 0) & 0x12).toBe(0x02);
    client.destroy();
  });

  it("does not outlive the process that started it, even if that is killed", async ({ skip }) => {
    const module = new URL("../../dist/src/vmm/passt.js", import.meta.url);
    if (!existsSync(module)) skip("dist/ is not built");
    const code = `const p = await (await import(${JSON.stringify(module.href)})).startPasst();
      process.stdout.write(String(p.pid)); process.kill(process.pid, "SIGKILL");`;
    let pid = 0;
    try {
      execFileSync(process.execPath, ["--input-type=module", "-e", code], {
        stdio: ["ignore", "pipe", "pipe"],
      });
    } catch (error) {
      pid = Number(String((error as { stdout: Buffer }).stdout));
    }
    expect(pid).toBeGreaterThan(0);
    for (let i = 0; i < 100 && lives(pid); i++) await sleep(20);
    expect(lives(pid)).toBe(false);
  });
});

describe("startPasst", () => {
  it("says how to get passt where it is missing", async () => {
    await expect(startPasst({ program: "/nonexistent/passt" })).rejects.toMatchObject({
      code: "E_UNSUPPORTED",
      hint: "sudo apt install passt",
    });
  });

  it("reports what a program says that ends at once", async () => {
    await expect(startPasst({ program: "false" })).rejects.toMatchObject({ code: "E_IO" });
  });

  it("refuses ports and addresses that are none", async () => {
    await expect(startPasst({ tcp: [{ host: 0 }] })).rejects.toBeInstanceOf(ArgumentError);
    await expect(startPasst({ udp: [{ host: 1, guest: 65536 }] })).rejects.toBeInstanceOf(ArgumentError);
    await expect(startPasst({ tcp: [{ host: 80, address: "any/1" }] })).rejects.toBeInstanceOf(ArgumentError);
  });
});
