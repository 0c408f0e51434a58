// SPDX-License-Identifier: Apache-2.0
/** Paths, guests and tests by their names on the command line and in results. */

/** Ways between two guests. */
export const PATHS = ["tap", "vhost", "user", "shm", "rdma", "vfio"] as const;
export type PathName = (typeof PATHS)[number];

/** `payload`: tiny guests of V3M's own, which need no virtualization hardware. */
export const GUESTS = ["linux", "lwk", "payload"] as const;
export type GuestKind = (typeof GUESTS)[number];

/**
 * The same without guests: two processes by shared memory that both may write, by shared memory protected as guests' is
 * (each may only read the other's area), or by TCP; and copying within one.
 */
export const FLOORS = ["processes", "protected", "loopback", "memcpy"] as const;
export type FloorName = (typeof FLOORS)[number];

/** Round trips one by one; messages one way; messages both ways at once. */
export const TESTS = ["latency", "stream", "both"] as const;
export type TestName = (typeof TESTS)[number];

export type WaitMode = "poll" | "interrupt";

export const LABELS: Readonly<Record<PathName | FloorName, string>> = {
  tap: "tap",
  vhost: "tap with vhost-net",
  user: "user (passt)",
  shm: "shm (VMM-bypass)",
  rdma: "rdma (soft-RoCE)",
  vfio: "vfio (pass-through)",
  processes: "host processes, shared memory",
  protected: "host processes, protected as guests",
  loopback: "host processes, loopback TCP",
  memcpy: "memcpy",
};
