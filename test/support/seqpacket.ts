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

/**
 * Send one record and read one: what comes back, nothing where the other side closed the connection.
 * @param asUser root only: connect and send as this user
 */
export function exchange(path: string, record: Uint8Array, asUser?: number): Buffer {
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2, "latin1");
  const fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) as number;
  try {
    if (asUser !== undefined) setresuid(asUser, asUser, 0); // of all threads
    const failed = connect(fd, address, 2 + path.length + 1) as number;
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
