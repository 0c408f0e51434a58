// SPDX-License-Identifier: Apache-2.0
/** UNIX sockets of type SOCK_SEQPACKET, which Node.js has not: for tests that talk to a monitor themselves. */
import koffi from "koffi";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

const libc = koffi.load(null);
const socket = libc.func("int socket(int, int, int)");
const connect = libc.func("int connect(int, void *, uint32_t)");
const send = libc.func("int64_t send(int, void *, size_t, int)");
const recv = libc.func("int64_t recv(int, void *, size_t, int)");
const close = libc.func("int close(int)");
const setresuid = libc.func("int setresuid(uint32_t, uint32_t, uint32_t)");

const MSG_DONTWAIT = 0x40;

function connected(path: string): { fd: number; failed: number } {
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2, "latin1");
  const fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) as number;
  return { fd, failed: connect(fd, address, 2 + path.length + 1) as number };
}

/**
 * Send a record again and again and read nothing, until the other side will have none of it.
 * @returns how many records could be read afterwards, until the end of the connection
 */
export function flood(path: string, record: Uint8Array, times: number): number {
  const { fd, failed } = connected(path);
  try {
    if (failed !== 0) throw new Error(`cannot connect to ${path}`);
    for (let i = 0; i < times; i++) send(fd, record, record.length, MSG_NOSIGNAL | MSG_DONTWAIT);
    const answer = Buffer.alloc(4096);
    let count = 0;
    while ((recv(fd, answer, answer.length, 0) as number) > 0) count++;
    return count;
  } finally {
    close(fd);
  }
}

/**
 * Send one record and read one: what comes back, nothing where the other side closed the connection.
 * @param asUser root only: connect and send as this user
 */
export function exchange(path: string, record: Uint8Array, asUser?: number): Buffer {
  if (asUser !== undefined) setresuid(asUser, asUser, 0); // of all threads
  const { fd, failed } = connected(path);
  try {
    const sent = failed === 0 ? (send(fd, record, record.length, MSG_NOSIGNAL) as number) : -1;
    if (asUser !== undefined) setresuid(0, 0, 0);
    if (failed !== 0) {
      throw new Error(`cannot connect to ${path}`);
    }
    if (sent < 0) {
      return Buffer.alloc(0);
    }
    const answer = Buffer.alloc(65536);
    const got = recv(fd, answer, answer.length, 0) as number;
    return answer.subarray(0, Math.max(0, got));
  } finally {
    close(fd);
  }
}
