// SPDX-License-Identifier: Apache-2.0
/** The host's side of the 2007 NIC types, without machines: what is made, and that it is undone. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import type { NatNic, VlanNic, VmNic } from "../../src/v3m/definition/types.js";
import { openTaps, releaseNetwork, sweepNetwork } from "../../src/v3m/network/index.js";
import { iptables, nftables } from "../../src/v3m/network/nat.js";
import { bridgeName } from "../../src/v3m/network/vlan.js";
import { suite } from "../support/capabilities.js";
import { NET, networkState, setUpNetwork, tearDownNetwork } from "../support/conformance/network.js";

const FORWARD = "/proc/sys/net/ipv4/ip_forward";

let runtime: string;
let before: string;

function prepare(vlan: boolean): void {
  runtime = mkdtempSync(join(tmpdir(), "v3m-net-"));
  process.env.V3M_RUNTIME_DIR = runtime;
  writeFileSync(FORWARD, "0");
  setUpNetwork(vlan);
  before = networkState();
}

async function undo(): Promise<void> {
  await sweepNetwork();
  tearDownNetwork();
  delete process.env.V3M_RUNTIME_DIR;
  rmSync(runtime, { recursive: true, force: true });
}

const base = (index: number) => ({
  id: `nic${index}`,
  mac: `52:54:00:c1:00:0${index}`,
  tap: `v3mtest${index}`,
  vhost: false,
});
const tapNic: VmNic = { type: "TUN/TAP", ...base(1), address: "192.0.2.1/24" };
const natNic: NatNic = {
  type: "TUN/TAP+NAT",
  ...base(2),
  range: { network: "10.77.0.0", prefix: 30, host: "10.77.0.1", guest: "10.77.0.2" },
};
const bridgedNic: VmNic = { type: "BRIDGED_TAP", ...base(3), bridge: NET.bridge };
const vlanNic = (index: number): VlanNic => ({
  type: "VLAN",
  ...base(index),
  parent: NET.parent,
  vlan: NET.vlan,
});

interface Shown {
  readonly ifname: string;
  readonly master?: string;
  readonly addr_info: { readonly local: string; readonly prefixlen: number }[];
}

function show(name: string): Shown | undefined {
  const { stdout } = spawnSync("ip", ["-j", "addr", "show", "dev", name], { encoding: "utf8" });
  return stdout === "" ? undefined : (JSON.parse(stdout) as Shown[])[0];
}

const addressesOf = (name: string) =>
  show(name)?.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
const forwarding = () => execFileSync("cat", [FORWARD], { encoding: "utf8" }).trim();
const rules = () => execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" });

suite("network of the host", { needs: ["private-net"] }, () => {
  beforeEach(() => prepare(false));
  afterEach(undo);

  it("TUN/TAP: a tap with the host's address, gone when it is closed", async () => {
    const taps = await openTaps([tapNic]);
    expect(taps.fds).toHaveLength(1);
    expect(addressesOf(tapNic.type === "TUN/TAP" ? tapNic.tap : "")).toContain("192.0.2.1/24");
    taps.close();
    expect(networkState()).toBe(before);
  });

  it("TUN/TAP+NAT: address, translation, forwarding; all of it undone", async () => {
    const taps = await openTaps([natNic]);
    expect(addressesOf(natNic.tap)).toContain("10.77.0.1/30");
    expect(rules()).toMatch(/ip saddr 10\.77\.0\.0\/30 oifname != "v3mtest2" masquerade/);
    expect(forwarding()).toBe("1");
    await releaseNetwork([natNic]); // of another VM with such a NIC: this one's stays
    expect(rules()).toContain("masquerade");
    expect(forwarding()).toBe("1");
    taps.close();
    await releaseNetwork([natNic]);
    expect(networkState()).toBe(before);
  });

  it("forwarding that was on before stays on", async () => {
    writeFileSync(FORWARD, "1");
    (await openTaps([natNic])).close();
    await releaseNetwork([natNic]);
    expect(forwarding()).toBe("1");
  });

  it("rules of others stay", async () => {
    execFileSync("nft", ["add", "table", "ip", "others"]);
    try {
      (await openTaps([natNic])).close();
      await releaseNetwork([natNic]);
      expect(rules()).toContain("table ip others");
      expect(rules()).not.toContain("v3m_");
    } finally {
      execFileSync("nft", ["delete", "table", "ip", "others"]);
    }
  });

  it("refuses a network for translation that the host has a route into", async () => {
    const range = { network: "198.51.100.128", prefix: 30, host: "198.51.100.129", guest: "198.51.100.130" };
    await expect(openTaps([{ ...natNic, range }])).rejects.toMatchObject({ code: "E_OVERLAP" });
    await releaseNetwork([natNic]);
    expect(networkState()).toBe(before);
  });

  it("BRIDGED_TAP: a port of the bridge", async () => {
    const taps = await openTaps([bridgedNic]);
    expect(show("v3mtest3")?.master).toBe(NET.bridge);
    expect(show("v3mtest3")?.addr_info).toEqual([]);
    taps.close();
    expect(networkState()).toBe(before);
  });

  it.each([
    ["there is no bridge nowhere", "nowhere"],
    [`${NET.parent} is no bridge`, NET.parent],
  ])("BRIDGED_TAP: %s", async (message, bridge) => {
    const opened = openTaps([tapNic, { type: "BRIDGED_TAP", ...base(3), bridge }]);
    await expect(opened).rejects.toMatchObject({ code: "E_NOT_FOUND", message, hint: expect.any(String) });
    expect(networkState()).toBe(before); // the first tap is gone too
  });

  it("a tap that another machine has is in use", async () => {
    const taps = await openTaps([bridgedNic]);
    await expect(openTaps([bridgedNic])).rejects.toMatchObject({ code: "E_BUSY" });
    expect(show("v3mtest3")?.master).toBe(NET.bridge);
    taps.close();
  });

  it("a tap that was there before is used, and stays", async () => {
    execFileSync("ip", ["tuntap", "add", "dev", "v3mtest1", "mode", "tap"]);
    try {
      const taps = await openTaps([tapNic]);
      expect(addressesOf("v3mtest1")).toContain("192.0.2.1/24");
      taps.close();
      expect(show("v3mtest1")).toBeDefined();
    } finally {
      execFileSync("ip", ["link", "delete", "v3mtest1"]);
    }
  });

  it("an interface of another kind is not taken", async () => {
    const nic: VmNic = { ...tapNic, tap: NET.parent } as VmNic;
    await expect(openTaps([nic])).rejects.toMatchObject({ code: "E_INVALID" });
  });

  it("after a kill -9 the taps are gone, and the next command removes the rest", async () => {
    const module = join(packageRoot(), "dist/src/v3m/network/index.js");
    const program = `const { openTaps } = await import(${JSON.stringify(module)});
      await openTaps(${JSON.stringify([tapNic, natNic, bridgedNic])}); console.log("open"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    expect(show(natNic.tap)).toBeDefined();
    const gone = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGKILL");
    await gone;
    expect(show(natNic.tap)).toBeUndefined();
    await sweepNetwork();
    expect(networkState()).toBe(before);
  });

  it("without the privilege it says which one, and what else there is", () => {
    const module = join(packageRoot(), "dist/src/v3m/network/index.js");
    const program = `const { openTaps } = await import(${JSON.stringify(module)});
      await openTaps(${JSON.stringify([tapNic])}).catch((e) => console.log(e.code, e.hint));`;
    const { stdout } = spawnSync(
      "setpriv",
      [
        "--bounding-set",
        "-net_admin",
        "--inh-caps",
        "-net_admin",
        process.execPath,
        "--input-type=module",
        "-e",
        program,
      ],
      { encoding: "utf8" },
    );
    expect(stdout).toMatch(/^E_PERMISSION .*CAP_NET_ADMIN.*type user/);
  });

  it.each([
    ["nftables", nftables],
    ["iptables", iptables],
  ] as const)("translation by %s: made, made again, listed, removed", async (_name, translator) => {
    await translator.add("v3mtest8", natNic.range);
    await translator.add("v3mtest8", natNic.range);
    await translator.add("v3mtest9", { ...natNic.range, network: "10.78.0.0" });
    expect((await translator.taps()).sort()).toEqual(["v3mtest8", "v3mtest9"]);
    await translator.remove("v3mtest8");
    await translator.remove("v3mtest8");
    expect(await translator.taps()).toEqual(["v3mtest9"]);
    await translator.remove("v3mtest9");
    expect(await translator.taps()).toEqual([]);
  });
});

suite("VLANs of the host", { needs: ["8021q"] }, () => {
  beforeEach(() => prepare(true));
  afterEach(undo);

  it("made for the first VM, removed after the last", async () => {
    const [first, second] = [vlanNic(4), vlanNic(5)];
    const one = await openTaps([first]);
    const two = await openTaps([second]);
    const bridge = bridgeName(first);
    expect([first, second].map(({ tap }) => show(tap)?.master)).toEqual([bridge, bridge]);
    expect(show(`${NET.parent}.${NET.vlan}`)?.master).toBe(bridge);
    one.close();
    await releaseNetwork([first]);
    expect(show(bridge)).toBeDefined();
    two.close();
    await releaseNetwork([second]);
    expect(networkState()).toBe(before);
  });

  it("one that the host's owner made is used, and stays", async () => {
    execFileSync("ip", [
      "link",
      "add",
      "link",
      NET.parent,
      "name",
      "own",
      "type",
      "vlan",
      "id",
      String(NET.vlan),
    ]);
    try {
      const taps = await openTaps([vlanNic(4)]);
      expect(show("own")?.master).toBe(bridgeName(vlanNic(4)));
      taps.close();
      await releaseNetwork([vlanNic(4)]);
      expect(show("own")?.master).toBeUndefined();
      execFileSync("ip", ["addr", "add", "203.0.115.1/24", "dev", "own"]);
      await expect(openTaps([vlanNic(4)])).rejects.toMatchObject({ code: "E_BUSY" });
      expect(addressesOf("own")).toEqual(["203.0.115.1/24"]);
      execFileSync("ip", ["addr", "flush", "dev", "own"]);
      execFileSync("ip", ["link", "set", "own", "master", NET.bridge]);
      const bridged = await openTaps([vlanNic(4)]);
      expect(show("v3mtest4")?.master).toBe(NET.bridge);
      bridged.close();
      await releaseNetwork([vlanNic(4)]);
      expect(show("own")?.master).toBe(NET.bridge);
    } finally {
      execFileSync("ip", ["link", "delete", "own"]);
    }
  });

  it("says where there is no such interface", async () => {
    const opened = openTaps([{ ...vlanNic(4), parent: "nowhere" }]);
    await expect(opened).rejects.toMatchObject({ code: "E_NOT_FOUND" });
    expect(networkState()).toBe(before);
  });
});
