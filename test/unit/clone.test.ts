// SPDX-License-Identifier: Apache-2.0
/** Definitions of clones: nothing in them that only one VM can have. */
import { describe, expect, it } from "vitest";
import { cloneDefinition, clonePath } from "../../src/v3m/clone.js";
import { overlap } from "../../src/v3m/definition/address.js";
import { definitionFrom, resolveSource } from "../../src/v3m/definition/load.js";
import type { DefinitionInput } from "../../src/v3m/definition/schema.js";
import type { NatRange, VmDefinition } from "../../src/v3m/definition/types.js";

const MINIMAL: DefinitionInput = { name: "first", type: "VMM-HPC", boot: { kernel: "/k" } };
const first = (more: Partial<DefinitionInput>) =>
  resolveSource(definitionFrom({ ...MINIMAL, ...more }, "/"), { types: ["VMM-HPC"] });

function clone(from: VmDefinition, name: string, taken: NatRange[] = []): VmDefinition {
  const uuid = `6b9e0c5e-0000-4000-8000-00000000000${name.length}`;
  return cloneDefinition(from, { name, uuid, directory: `/vms/${name}`, from: "/vms/first" }, taken);
}

describe("the definition of a clone", () => {
  it("has addresses, taps and networks of its own", () => {
    const from = first({
      nics: [
        { type: "TUN/TAP", mac: "52:54:00:00:00:01", tap: "given", address: "192.0.2.1/24" },
        { type: "TUN/TAP+NAT" },
        { type: "BRIDGED_TAP", bridge: "br0" },
        { type: "user", forward: ["tcp:2222:22"] },
      ],
    });
    const taken = from.nics.flatMap((nic) => ("range" in nic ? [nic.range] : []));
    const all = [from, clone(from, "a", taken), clone(from, "bb", taken)];
    for (const key of ["mac", "tap"]) {
      const values = all.flatMap(({ nics }) =>
        nics.flatMap((nic) => (key in nic ? [nic[key as "mac"]] : [])),
      );
      expect(new Set(values).size).toBe(values.length);
    }
    expect(taken).toHaveLength(3);
    const overlapping = taken.filter((one, i) => taken.slice(i + 1).some((other) => overlap(one, other)));
    expect(overlapping).toEqual([]);
    expect(all[1]?.nics[0]).not.toHaveProperty("address");
    expect(all[1]?.nics[2]).toMatchObject({ bridge: "br0" });
    expect(all[1]?.nics[3]).toMatchObject({ forward: [] });
  });

  it("has overlays of its own, over bases that stay, or go with it", () => {
    const from = first({
      disks: [
        "/written.img",
        { path: "/base.img", overlay: "/over" },
        { path: "/shared.img", readOnly: true },
      ],
    });
    const one = clone(from, "one");
    expect(one.disks.map(({ path, overlay }) => [path, overlay])).toEqual([
      [clonePath("/vms/one", "disk0"), clonePath("/vms/one", "disk0.overlay")],
      ["/base.img", clonePath("/vms/one", "disk1.overlay")],
      ["/shared.img", undefined],
    ]);
    const directories = { directory: "/vms/second", from: "/vms/one" };
    const second = cloneDefinition(one, { name: "second", uuid: one.uuid, ...directories }, []);
    expect(second.disks.map(({ path, overlay }) => [path, overlay])).toEqual([
      [clonePath("/vms/second", "disk0"), clonePath("/vms/second", "disk0.overlay")],
      ["/base.img", clonePath("/vms/second", "disk1.overlay")],
      ["/shared.img", undefined],
    ]);
  });

  it("has a generation ID where the first one has, and a log of its own", () => {
    const from = first({ generationId: "0123456789abcdef0123456789abcdef", console: { log: "/log" } });
    expect(clone(from, "a")).toMatchObject({ generationId: "random", console: { log: "/log.a" } });
    expect(clone(first({}), "a").generationId).toBeUndefined();
  });
});
