// SPDX-License-Identifier: Apache-2.0
/** Megabytes over TCP between a Linux guest (wget, nc) and this host. */
import { createHash } from "node:crypto";
import { type AddressInfo, createServer, type Server } from "node:net";
import type { LinuxGuest } from "./linux.js";

export const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

async function listen(server: Server, host: string): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as AddressInfo).port;
}

/** Give the content to the guest's wget. @param host the address that it reaches us by @returns the sum of what came */
export async function download(guest: LinuxGuest, host: string, content: Buffer): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write(`HTTP/1.0 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`);
      socket.end(content);
    });
  });
  try {
    const port = await listen(server, host);
    return await guest.sh(`wget -q -O - http://${host}:${port}/x | md5sum | cut -c1-32`);
  } finally {
    server.close();
  }
}

/** Take what the guest sends; the sums of both ends. */
export async function upload(
  guest: LinuxGuest,
  host: string,
  bytes: number,
): Promise<[sent: string, received: string]> {
  const hash = createHash("md5");
  let server: Server | undefined;
  const received = new Promise<string>((resolve) => {
    server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => hash.update(chunk));
      socket.on("end", () => {
        resolve(hash.digest("hex"));
        socket.end();
      });
    });
  });
  try {
    const port = await listen(server as Server, host);
    await guest.sh(`dd if=/dev/urandom of=/tmp/x bs=1k count=${bytes >> 10} 2>/dev/null`);
    const sent = await guest.sh(`nc ${host} ${port} </tmp/x; md5sum </tmp/x | cut -c1-32; rm /tmp/x`);
    return [sent, await received];
  } finally {
    server?.close();
  }
}
