// SPDX-License-Identifier: Apache-2.0
/** The jail of the monitor: lists of system calls, attempts to get out, and what happens where a part is not to be had. */
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/ffi/library.js";
import { suite } from "../support/capabilities.js";
import {
  type Attempt,
  enterJail,
  isAttempt,
  isFailure,
  JAIL_TEST,
  KINDS,
  requestsTable,
  seccompLists,
  systemCallsTable,
} from "../support/jail.js";

/** Users that exist nowhere. */
const STRANGER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--"];
/** A user namespace whose limits are ours to set, with a user that is not root. */
const LIMITED = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "--", "sh", "-c"];

/** What gets out where a part is missing and seccomp as well. */
const GETS_OUT: Readonly<Record<string, readonly string[]>> = {
  root: ["open-absolute", "open-relative", "open-by-openat2", "stat-by-path", "list-directory"],
  "pid-ns": ["kill-all"],
  "net-ns": ["connect-inet", "connect-abstract", "send-descriptor"],
  "ipc-ns": ["attach-segment"],
  capabilities: ["mount-tmpfs", "unmount", "change-root", "set-host-name", "take-capabilities"],
};

describe("the lists of system calls", () => {
  const lists = seccompLists();
  const of = (kind: string): string[] =>
    lists.calls.filter((call) => call.kinds.includes(kind)).map((call) => call.name);

  it.each(KINDS)("%s: at most 40", (kind) => {
    expect(of(kind).length).toBe(lists.counts[kind]);
    expect(of(kind).length).toBeGreaterThan(10);
    expect(of(kind).length).toBeLessThanOrEqual(40);
    expect(new Set(of(kind)).size).toBe(of(kind).length);
  });

  it("what the control thread may do its setup may do, since filters add up", () => {
    for (const entry of [...lists.calls, ...lists.requests]) {
      if (entry.kinds.includes("control")) expect(entry.kinds, entry.name).toContain("setup");
    }
  });

  it("no list makes threads, processes, sockets of the network, or opens files", () => {
    const names = lists.calls.map((call) => call.name);
    for (const never of [
      "clone",
      "clone3",
      "fork",
      "vfork",
      "execve",
      "open",
      "openat",
      "openat2",
      "socket",
    ]) {
      expect(names).not.toContain(never);
    }
    for (const never of ["connect", "bind", "kill", "ptrace", "mremap", "unshare", "setns", "mount"]) {
      expect(names).not.toContain(never);
    }
  });

  it("are those of docs/reference/jail.md", () => {
    const text = readFileSync(join(packageRoot(), "docs/reference/jail.md"), "utf8");
    expect(text).toContain(systemCallsTable(lists));
    expect(text).toContain(requestsTable(lists));
  });
});

suite("the jail", { needs: ["jail"] }, () => {
  let directory: string;
  /** A copy that every user may run. */
  let copy: string;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "v3m-jail-"));
    chmodSync(directory, 0o755);
    copy = join(directory, "jail-test");
    copyFileSync(JAIL_TEST, copy);
    chmodSync(copy, 0o755);
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  const attempts = async (args: readonly string[], prefix: readonly string[] = []): Promise<Attempt[]> => {
    const run = await enterJail([...prefix, copy, ...args]);
    expect(run.records.filter(isFailure)).toEqual([]);
    expect(run.status).toBe(0);
    return run.records.filter(isAttempt);
  };
  const out = (list: readonly Attempt[]): string[] =>
    list.filter((attempt) => attempt.outcome === "out").map((attempt) => attempt.attempt);

  it.each(KINDS)("%s: every attempt fails and names what stopped it", async (kind) => {
    const list = await attempts([kind]);
    expect(list.length).toBeGreaterThan(60);
    expect(out(list)).toEqual([]);
    for (const attempt of list) {
      expect(attempt.by, attempt.attempt).not.toBe("");
      expect(attempt.detail, attempt.attempt).not.toBe("");
    }
    // Seccomp stops nearly all; what it cannot see, such as a ring's operations, others do.
    const others = list.filter((attempt) => attempt.by !== "seccomp");
    expect(others.length).toBeLessThanOrEqual(6);
  });

  it.each(["call-as-i386", "call-as-x32"])("%s ends the process", async (name) => {
    const run = await enterJail([copy, "--attempt", name, "io"]);
    expect(run.status).toBe(128 + 31); // SIGSYS
    expect(run.records.filter(isAttempt)).toEqual([]);
  });

  it("without seccomp the other parts hold by themselves", async () => {
    const list = await attempts(["--without", "seccomp", "vcpu"]);
    const inside = list.filter((attempt) => attempt.layer === "seccomp");
    const ways = list.filter((attempt) => attempt.layer !== "seccomp");
    expect(ways.length).toBeGreaterThan(50);
    expect(out(ways)).toEqual([]);
    for (const attempt of ways)
      expect([attempt.attempt, attempt.by]).toEqual([attempt.attempt, attempt.layer]);
    // These leave nobody's jail, but only seccomp forbids them.
    expect(out(inside)).toContain("fork");
  });

  it.each(Object.keys(GETS_OUT))("told to go without %s, it does", async (part) => {
    const list = await attempts(["--without", `${part},seccomp`, "vcpu"]);
    expect(out(list)).toEqual(expect.arrayContaining([...(GETS_OUT[part] ?? [])]));
    // Each part has a work of its own: with it, the same attempts are stopped.
    expect(out(await attempts(["--without", part, "vcpu"]))).toEqual([]);
  });

  it("is left by SIGTERM and SIGKILL from outside, though it is process 1", async () => {
    for (const [signal, status] of [
      ["SIGTERM", 128 + 15],
      ["SIGKILL", 128 + 9],
    ] as const) {
      const run = await enterJail([copy, "--attempt", "hold", "io"], (pid) => process.kill(pid, signal));
      expect(run.status, signal).toBe(status);
    }
  });

  it("leads a session of its own, knows no environment, and is not who started it", async () => {
    const { records } = await enterJail([copy, "--attempt", "none", "control"]);
    const self = records.find((record) => "in" in record);
    expect(self).toMatchObject({ pid: 1, ppid: 0, sid: 1, descriptors: 1024, environment: false });
    if (process.geteuid?.() === 0) expect(self).toMatchObject({ uid: 65534, gid: 65534 });
  });

  it("sets limits, or leaves them as they were", async () => {
    const lower = ["sh", "-c", 'ulimit -S -n 512 && exec "$0" "$@"', copy];
    for (const [without, descriptors] of [
      ["rlimits", 512],
      ["", 1024],
    ] as const) {
      const { records } = await enterJail([...lower, "--without", without, "--attempt", "none", "io"]);
      expect(records.find((record) => "in" in record)).toMatchObject({ descriptors });
    }
  });

  it("does not know parts that there are not", async () => {
    const run = await enterJail([copy, "--without", "root,moat", "io"]);
    expect(run.records.find(isFailure)?.error).toContain("'moat' is no part of the jail");
  });

  suite("for a user without privileges", { needs: ["root"] }, () => {
    it.each(KINDS)("%s: every attempt fails", async (kind) => {
      const list = await attempts([kind], STRANGER);
      expect(list.length).toBeGreaterThan(60);
      expect(out(list)).toEqual([]);
    });

    it("without seccomp the other parts hold", async () => {
      const list = await attempts(["--without", "seccomp", "disk"], STRANGER);
      expect(out(list.filter((attempt) => attempt.layer !== "seccomp"))).toEqual([]);
    });

    it("refuses where a user namespace is gone without, for want of rights", async () => {
      const run = await enterJail([...STRANGER, copy, "--without", "user-ns", "io"]);
      expect(run.status).toBe(2);
      expect(run.records.find(isFailure)).toMatchObject({
        status: "VMMHPC_E_PERMISSION",
        part: "net-ns",
        errno: 1,
      });
    });
  });

  it.each([
    ["user", "user-ns"],
    ["mnt", "root"],
    ["pid", "pid-ns"],
    ["net", "net-ns"],
    ["ipc", "ipc-ns"],
    ["uts", "uts-ns"],
    ["cgroup", "cgroup-ns"],
  ])("refuses where user.max_%s_namespaces is 0, and goes without %s when told", async (limit, part) => {
    const limited = [...LIMITED, `echo 0 > /proc/sys/user/max_${limit}_namespaces && exec "$0" "$@"`, copy];
    const refused = await enterJail([...limited, "--attempt", "none", "io"]);
    expect(refused.status).toBe(2);
    const failure = refused.records.find(isFailure);
    expect(failure).toMatchObject({ status: "VMMHPC_E_LIMIT", part, errno: 28 });
    expect(failure?.error).toContain(`or go without ${part}`);
    const gone = await enterJail([...limited, "--without", part, "--attempt", "none", "io"]);
    expect(gone.records.filter(isFailure)).toEqual([]);
    expect(gone.status).toBe(0);
  });

  it("refuses seccomp without no-new-privs", async () => {
    const run = await enterJail([copy, "--without", "no-new-privs", "io"]);
    expect(run.status).toBe(2);
    expect(run.records.find(isFailure)).toMatchObject({ status: "VMMHPC_E_INVALID" });
  });
});
