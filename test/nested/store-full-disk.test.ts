// SPDX-License-Identifier: Apache-2.0
/** A full disk below the store of VMs. Here, and not among the unit tests, since it takes root to have a small one. */
import { expect, it } from "vitest";
import { suite } from "../support/capabilities.js";
import { SmallDisk, TestVms } from "../support/vms.js";

suite("a full disk", { needs: ["root"] }, () => {
  it("is told, and everything stays as it was", async () => {
    await using vms = new TestVms();
    using disk = new SmallDisk("256k");
    const v3m = vms.front({ state: disk.directory });
    const before = await v3m.define(vms.definition("a"));
    disk.fill();
    const full = { code: "E_IO", errno: "ENOSPC", hint: expect.stringContaining("nothing was changed") };
    await expect(v3m.define(vms.definition("b"))).rejects.toMatchObject(full);
    await expect(v3m.define(vms.definition("a", { cpus: 4 }), { replace: true })).rejects.toMatchObject(full);
    await expect(v3m.start("a")).rejects.toMatchObject(full);
    await expect(v3m.undefine("a")).rejects.toMatchObject(full);
    expect(await v3m.list()).toMatchObject([{ name: "a", state: "defined", cpus: 1 }]);
    expect(v3m.definition("a")).toEqual(before);
    disk.empty();
    await v3m.define(vms.definition("b"));
    await v3m.start("a");
    disk.fill();
    await expect(v3m.pause("a")).rejects.toMatchObject(full);
    expect(await v3m.status("a")).toMatchObject({ state: "running" });
    disk.empty();
    await v3m.pause("a");
    await v3m.stop("a", { force: true });
    await v3m.undefine("a");
    expect(v3m.names()).toEqual(["b"]);
    expect(v3m.store.scan().litter).toBe(false);
  });
});
