// SPDX-License-Identifier: Apache-2.0
/** VM definitions: what they become, and what is said where they are wrong. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/package-root.js";
import { featuresOf } from "../../src/v3m/definition/features.js";
import { definitionJsonSchema } from "../../src/v3m/definition/schema.js";
import { formatMs, formatSize, parseBytes, parseMs } from "../../src/v3m/definition/units.js";
import { moveDefinition, toJson, toYaml } from "../../src/v3m/definition/write.js";
import { complaints, load } from "../support/definitions.js";

const MIB = 2 ** 20;
const UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

describe("a definition", () => {
  it("says no more than a name and what to boot", async () => {
    expect(await load("name: a\nboot: { kernel: vmlinuz }\n", { uuid: UUID })).toEqual({
      version: 1,
      name: "a",
      type: "VMM-HPC",
      uuid: UUID,
      cpus: 1,
      pin: [],
      memory: { bytes: 128 * MIB, backing: "thp", prefault: false },
      boot: { from: "kernel", kernel: "/base/vmlinuz", kind: "auto", cmdline: "", unpack: true },
      disks: [],
      nics: [],
      pmem: [],
      shm: [],
      vfio: [],
      console: { scrollback: 256 * 1024 },
      rng: true,
      balloon: false,
      onReset: "reboot",
      stopTimeoutMs: 30_000,
      jail: { without: [] },
      modules: [],
      labels: {},
    });
  });

  it("says all that it can, in JSON", async () => {
    const text = JSON.stringify({
      $schema: "./vm-definition.schema.json",
      version: 1,
      name: "node-1.a_b",
      type: "Kvm",
      option: "q35",
      description: "two\nlines",
      uuid: UUID.toUpperCase(),
      cpus: 8,
      topology: { sockets: 2, threadsPerCore: 2 },
      pin: "0-2,7",
      memory: { size: "1.5G", backing: "huge-2M", prefault: true, numaNode: 1 },
      boot: {
        kernel: "../k.bin",
        kind: "flat64",
        initrd: "/i",
        cmdline: "a b",
        loadAddress: "0x100000",
        unpack: false,
      },
      disks: [
        "root.img",
        { id: "data", path: "/d", format: "qcow2", size: "10G", overlay: "temporary", serial: "S 1" },
      ],
      cdrom: "cd.iso",
      nics: [
        { type: "TUN/TAP", address: "192.0.2.1/24", tap: "tap9", vhost: true },
        { type: "TUN/TAP+NAT", network: "10.77.0.9/24", mac: "52:54:00:AB:cd:0F" },
        { type: "BRIDGED_TAP", bridge: "br0", mtu: 9000 },
        { type: "VLAN", parent: "eth0", vlan: 4094 },
        { type: "user", forward: ["tcp:2222:22", "udp:53", "tcp:0.0.0.0:8080:80"] },
      ],
      pmem: ["p.img", { path: "q.img", readOnly: true }],
      shm: [
        { channel: "ring", peer: 1, peers: 4, size: "2M", visibleTo: [0, 2] },
        { channel: "x", peer: 0, common: "64K" },
        { channel: "y", peer: 0, common: 0 },
      ],
      console: { scrollback: "1M", log: "out.log" },
      rng: false,
      balloon: true,
      vsock: 42,
      generationId: "random",
      onReset: "stop",
      stopTimeout: "1.5m",
      kvm: "/dev/kvm2",
      jail: { without: ["seccomp", "seccomp"] },
      modules: ["mod/adder.so", { name: "x", path: "/m.so", argument: "1", atStart: false }],
      labels: { "team/owner": "me" },
    });
    const vm = await load(text);
    expect(vm).toMatchObject({
      name: "node-1.a_b",
      type: "Kvm",
      option: "q35",
      uuid: UUID,
      topology: { sockets: 2, coresPerSocket: 2, threadsPerCore: 2 },
      pin: [0, 1, 2, 7],
      memory: { bytes: 1536 * MIB, backing: "huge-2M", prefault: true, numaNode: 1 },
      boot: {
        from: "kernel",
        kernel: "/k.bin",
        kind: "flat64",
        initrd: "/i",
        loadAddress: 0x100000,
        unpack: false,
      },
      disks: [
        { id: "disk0", path: "/base/root.img", format: "raw", readOnly: false, direct: false },
        { id: "data", path: "/d", format: "qcow2", size: 10 * 2 ** 30, overlay: "temporary", serial: "S 1" },
      ],
      cdrom: "/base/cd.iso",
      shm: [
        { channel: "ring", peer: 1, peers: 4, size: 2 * MIB, common: 0, visibleTo: [0, 2] },
        { channel: "x", peer: 0, peers: 2, size: MIB, common: 65536, visibleTo: "all" },
        { channel: "y", peer: 0, peers: 2, size: MIB, common: 0, visibleTo: "all" },
      ],
      vfio: [],
      console: { scrollback: MIB, log: "/base/out.log" },
      stopTimeoutMs: 90_000,
      jail: { without: ["seccomp"] },
      modules: [
        { name: "adder", path: "/base/mod/adder.so", atStart: true },
        { name: "x", path: "/m.so", argument: "1", atStart: false },
      ],
    });
    expect(vm.nics).toMatchObject([
      { type: "TUN/TAP", id: "nic1", tap: "tap9", vhost: true, address: "192.0.2.1/24" },
      {
        type: "TUN/TAP+NAT",
        mac: "52:54:00:ab:cd:0f",
        range: { network: "10.77.0.0", prefix: 24, host: "10.77.0.1", guest: "10.77.0.2" },
      },
      { type: "BRIDGED_TAP", bridge: "br0", mtu: 9000 },
      { type: "VLAN", parent: "eth0", vlan: 4094 },
      {
        type: "user",
        forward: [
          { protocol: "tcp", address: "127.0.0.1", host: 2222, guest: 22 },
          { protocol: "udp", address: "127.0.0.1", host: 53, guest: 53 },
          { protocol: "tcp", address: "0.0.0.0", host: 8080, guest: 80 },
        ],
      },
    ]);
    expect(featuresOf(vm)).toEqual([
      "boot:kernel",
      "topology",
      "pin",
      "hugepages",
      "disks",
      "disk:qcow2",
      "disk:overlay",
      "cdrom",
      "nic:TUN/TAP",
      "nic:TUN/TAP+NAT",
      "nic:BRIDGED_TAP",
      "nic:VLAN",
      "nic:user",
      "nic:vhost",
      "pmem",
      "shm",
      "balloon",
      "vsock",
      "generation-id",
      "modules",
    ]);
  });

  it("has devices of the host's, each once, and no balloon beside them", async () => {
    const vm = await load("name: a\nboot: { kernel: k }\nvfio: [{ device: '3B:00.1' }]\n");
    expect(vm.vfio).toEqual([{ device: "0000:3b:00.1" }]);
    expect(featuresOf(vm)).toContain("vfio");
    expect(
      await complaints(
        "name: a\nboot: { kernel: k }\nballoon: true\nvfio: [{ device: '3b:00.1' }, { device: '0000:3b:00.1' }]\n",
      ),
    ).toEqual([
      "4:1 vfio: not together with a balloon (leave out one of them)",
      '4:33 vfio[1].device: "0000:3b:00.1" stands twice (give another)',
    ]);
    expect(await complaints("name: a\nboot: { kernel: k }\nvfio: [{ device: eth0 }]\n")).toEqual([
      '3:10 vfio[0].device: "eth0" is not valid here (the address of a PCI function, as 0000:00:04.0)',
    ]);
  });

  it("cannot be changed by those who get it", async () => {
    const vm = await load("name: a\nboot: disk\ndisks: [d]\n");
    expect(() => Object.assign(vm.disks[0] ?? {}, { path: "/etc/passwd" })).toThrow(TypeError);
  });

  it("boots its first disk, or its CD-ROM, where it does not say", async () => {
    expect((await load("name: a\ndisks: [d]\ncdrom: c\n")).boot).toEqual({ from: "disk", cmdline: "" });
    expect((await load("name: a\ncdrom: c\n")).boot).toEqual({ from: "cdrom" });
    expect((await load("name: a\ndisks: [d]\nboot: { disk: { cmdline: quiet } }\n")).boot).toEqual({
      from: "disk",
      cmdline: "quiet",
    });
  });

  it("gives interfaces the same addresses and names again", async () => {
    const text = "name: a\nboot: { kernel: k }\nnics: [{ type: TUN/TAP+NAT }, { type: TUN/TAP }]\n";
    const [one, two] = [await load(text, { uuid: UUID }), await load(text, { uuid: UUID })];
    expect(one.nics).toEqual(two.nics);
    const [first, second] = one.nics;
    expect(first?.mac).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(first?.mac).not.toBe(second?.mac);
    expect((await load(text)).nics[0]?.mac).not.toBe(first?.mac);
    for (const nic of one.nics) expect("tap" in nic ? nic.tap : "").toMatch(/^v3m[0-9a-z]{1,12}$/);
  });

  it("gets a network that no other VM has", async () => {
    const text = "name: a\nboot: { kernel: k }\nnics: [{ type: TUN/TAP+NAT }]\n";
    const range = async (takenRanges = {}) => {
      const [nic] = (await load(text, { uuid: UUID, ...takenRanges })).nics;
      return nic?.type === "TUN/TAP+NAT" ? nic.range : undefined;
    };
    const first = await range();
    expect(first?.network).toMatch(/^10\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./);
    const second = await range({ takenRanges: [first] });
    expect(second?.network).not.toBe(first?.network);
  });

  it.each([
    ["512M", 512 * MIB],
    ["2G", 2 * 2 ** 30],
    ["1GiB", 2 ** 30],
    ["1.5g", 1536 * MIB],
    ["64", 64 * MIB],
    [64, 64 * MIB],
    ["65536K", 64 * MIB],
    ["4194304B", 4 * MIB],
    ["1TB", 2 ** 40],
  ])("has sizes such as %s", async (size, bytes) => {
    expect((await load(`name: a\nboot: { kernel: k }\nmemory: ${size}\n`)).memory.bytes).toBe(bytes);
  });
});

describe("sizes and times", () => {
  it("are read back as they are written", () => {
    for (const bytes of [1, 1000, 4096, 1536 * 1024, 512 * MIB, 3 * 2 ** 40, 2 ** 53 - 1]) {
      expect(parseBytes(formatSize(bytes))).toBe(bytes);
    }
    for (const ms of [1, 999, 1000, 90_000]) expect(parseMs(formatMs(ms))).toBe(ms);
    expect(parseMs("10m")).toBe(600_000);
    expect(parseMs(0)).toBe(0);
  });

  it.each(["", "M", "-1M", "1.M", "1e3", "0x10", "1P", "9999999T", "1 M", "٣M", "1.2345M"])(
    "are not %j",
    (text) => {
      expect(parseBytes(text)).toBeUndefined();
    },
  );
});

describe("a wrong definition", () => {
  it("is told all of it, with lines and suggestions", async () => {
    const text = [
      "nam: x", // 1
      "memory: 12Q",
      "boot:",
      "  kernl: x",
      "nics:", // 5
      "  - type: TUN",
      "  - type: VLAN",
      "    parent: 1",
      "    vlann: 1",
      "jail: { without: [secomp] }", // 10
    ].join("\n");
    expect(await complaints(text)).toEqual([
      "1:1 name: is missing (give text)",
      "1:1 nam: unknown key (did you mean name?)",
      '2:1 memory: "12Q" is not valid here (give a number with K, M, G or T, such as 512M; a plain number is MiB)',
      "3:1 boot.kernel: is missing (give text)",
      "4:3 boot.kernl: unknown key (did you mean kernel?)",
      '6:5 nics[0].type: "TUN" is not valid here (one of TUN/TAP, TUN/TAP+NAT, BRIDGED_TAP, VLAN, user)',
      "7:5 nics[1].vlan: is missing (give a number)",
      '8:5 nics[1].parent: 1 is not valid here (give text: write it as "1")',
      "9:5 nics[1].vlann: unknown key (did you mean vlan?)",
      '10:19 jail.without[0]: "secomp" is not valid here (did you mean seccomp?)',
    ]);
  });

  const bad: [what: string, text: string, complaint: RegExp][] = [
    ["nothing", "", /1:1 : nothing is not valid here/],
    ["a list", "[a]", /1:1 : a list is not valid here/],
    ["a key twice", "name: a\nname: b\n", /2:1 : Map keys must be unique/],
    ["two documents", "name: a\n---\nname: b\n", /multiple documents/],
    ["a tag", "name: !!js/function a\n", /1:7 : Unresolved tag/],
    ["broken YAML", "name: [a\n", /2:1 : /],
    ["a name for another directory", "name: ../a\ncdrom: c\n", /1:1 name: "\.\.\/a" is not valid/],
    ["a hidden name", "name: .a\ncdrom: c\n", /name: "\.a"/],
    ["a long name", `name: ${"x".repeat(64)}\ncdrom: c\n`, /name: /],
    ["a name that is a number", "name: 12\ncdrom: c\n", /write it as "12"/],
    ["no boot", "name: a\n", /boot: is missing, and there is no disk and no CD-ROM/],
    ["a boot from no disk", "name: a\nboot: disk\n", /2:1 boot: there is no disk/],
    ["a boot from no CD-ROM", "name: a\nboot: cdrom\ndisks: [d]\n", /2:1 boot: there is no CD-ROM/],
    ["an unknown version", "version: 2\nname: a\ncdrom: c\n", /version: 2 is not valid here/],
    ["0 vCPUs", "name: a\ncdrom: c\ncpus: 0\n", /3:1 cpus: 0/],
    ["half a vCPU", "name: a\ncdrom: c\ncpus: 1.5\n", /cpus: 1\.5/],
    [
      "a topology of other vCPUs",
      "name: a\ncdrom: c\ncpus: 6\ntopology: { threadsPerCore: 4 }\n",
      /is 4, but cpus is 6/,
    ],
    ["little memory", "name: a\ncdrom: c\nmemory: 64K\n", /less than 1 MiB/],
    ["odd memory", "name: a\ncdrom: c\nmemory: 1048577B\n", /not a multiple of 4 KiB/],
    ["memory of no size", "name: a\ncdrom: c\nmemory: { backing: hug }\n", /memory\.backing: "hug"/],
    ["a pin that runs backwards", "name: a\ncdrom: c\npin: 3-1\n", /pin: 3-1 runs backwards/],
    ["a NUL", 'name: a\ncdrom: "c\\0d"\n', /cdrom: /],
    [
      "a load address without a flat image",
      "name: a\nboot: { kernel: k, loadAddress: 1 }\n",
      /boot\.loadAddress: only flat/,
    ],
    [
      "a disk twice",
      "name: a\ndisks: [{ id: x, path: a }, { id: x, path: b }]\n",
      /2:31 disks\[1\]\.id: "x" stands twice/,
    ],
    [
      "an overlay on what is only read",
      "name: a\ndisks: [{ path: d, readOnly: true, overlay: o }]\n",
      /overlay takes writes/,
    ],
    [
      "an odd disk",
      "name: a\ndisks: [{ path: d, size: 1000B }]\n",
      /disks\[0\]\.size: 1000B is not a multiple of 512/,
    ],
    [
      "an odd common section",
      "name: a\ncdrom: c\nshm: [{ channel: c, peer: 0, common: 100B }]\n",
      /shm\[0\]\.common: 100B is not a multiple of 4 KiB/,
    ],
    [
      "a large common section",
      "name: a\ncdrom: c\nshm: [{ channel: c, peer: 0, common: 2G }]\n",
      /shm\[0\]\.common: more than 1 GiB/,
    ],
    ["a serial number in Greek", "name: a\ndisks: [{ path: d, serial: αβγ }]\n", /disks\[0\]\.serial/],
    ["a vsock of the host", "name: a\ncdrom: c\nvsock: 2\n", /vsock: 2/],
    ["a time in words", "name: a\ncdrom: c\nstopTimeout: soon\n", /stopTimeout: "soon"/],
    ["a long time", "name: a\ncdrom: c\nstopTimeout: 99999h\n", /stopTimeout: 99999h is not a time/],
    [
      "modules of one name",
      "name: a\ncdrom: c\nmodules: [a/x.so, b/x.so]\n",
      /modules\[1\]\.name: "x" stands twice/,
    ],
    ["a label in words", 'name: a\ncdrom: c\nlabels: { "a b": c }\n', /labels\["a b"\]: not a valid key/],
  ];
  it.each(bad)("%s", async (_what, text, complaint) => {
    expect((await complaints(text)).join("\n")).toMatch(complaint);
  });

  const nics: [what: string, nic: string, complaint: RegExp][] = [
    ["beginning with 01", "{ type: TUN/TAP, mac: 01:00:5e:00:00:01 }", /nics\[0\]\.mac: .*multicast/],
    ["beginning with 33", '{ type: user, mac: "33:33:00:00:00:01" }', /nics\[0\]\.mac: .*multicast/],
    ["of all", '{ type: user, mac: "FF:ff:FF:ff:FF:ff" }', /nics\[0\]\.mac: .*broadcast/],
    ["of zeros", '{ type: user, mac: "00:00:00:00:00:00" }', /nics\[0\]\.mac: .*zeros/],
    ["that is short", '{ type: user, mac: "52:54:00" }', /nics\[0\]\.mac: .*six bytes/],
    ["in other digits", '{ type: user, mac: "52:54:00:00:00:0g" }', /nics\[0\]\.mac: .*six bytes/],
  ];
  it.each(nics)("MAC %s", async (_what, nic, complaint) => {
    expect((await complaints(`name: a\ncdrom: c\nnics: [${nic}]\n`)).join("\n")).toMatch(complaint);
  });

  const more: [what: string, nic: string, complaint: RegExp][] = [
    ["a tap with a slash", "{ type: TUN/TAP, tap: a/b }", /nics\[0\]\.tap: "a\/b" is not the name/],
    ["a tap that is long", "{ type: TUN/TAP, tap: sixteen-bytes-xx }", /nics\[0\]\.tap/],
    ["an address that is none", "{ type: TUN/TAP, address: 300.0.0.1 }", /nics\[0\]\.address/],
    ["a network of one", "{ type: TUN/TAP+NAT, network: 10.0.0.1/32 }", /nics\[0\]\.network/],
    ["a bridge of nobody", "{ type: BRIDGED_TAP }", /nics\[0\]\.bridge: is missing/],
    ["VLAN 0", "{ type: VLAN, parent: eth0, vlan: 0 }", /nics\[0\]\.vlan: 0/],
    ["VLAN 4095", "{ type: VLAN, parent: eth0, vlan: 4095 }", /nics\[0\]\.vlan: 4095/],
    ["a bridge for the user's network", "{ type: user, bridge: br0 }", /nics\[0\]\.bridge: unknown key/],
    ["port 0", '{ type: user, forward: ["tcp:0"] }', /nics\[0\]\.forward\[0\]/],
    ["port 65536", '{ type: user, forward: ["tcp:22:65536"] }', /nics\[0\]\.forward\[0\]/],
    ["a port of no host", '{ type: user, forward: ["tcp:1.2.3:22"] }', /nics\[0\]\.forward\[0\]/],
    ["an MTU below IP's", "{ type: user, mtu: 67 }", /nics\[0\]\.mtu: 67/],
    [
      "one tap twice",
      "{ type: TUN/TAP, tap: t }, { type: TUN/TAP, tap: t }",
      /nics\[1\]\.tap: t is that of nic1 too/,
    ],
    [
      "one network twice",
      "{ type: TUN/TAP+NAT, network: 10.0.0.0/24 }, { type: TUN/TAP+NAT, network: 10.0.0.128/25 }",
      /nics\[1\]\.network: .* overlaps 10\.0\.0\.0\/24/,
    ],
  ];
  it.each(more)("an interface with %s", async (_what, nic, complaint) => {
    expect((await complaints(`name: a\ncdrom: c\nnics: [${nic}]\n`)).join("\n")).toMatch(complaint);
  });

  it("of a type that is not registered", async () => {
    const types = ["VMM-HPC", "Qemu"];
    expect(await complaints("name: a\ntype: qmeu\ncdrom: c\n", { types })).toEqual([
      '2:1 type: "qmeu" is not the name of a back end (did you mean Qemu?)',
    ]);
  });

  it("that grows by aliases is refused before it does", async () => {
    const level = (key: string, of: string) => `${key}: &${key} [${Array(9).fill(`*${of}`).join(",")}]`;
    const text = [
      "a: &a [x, x, x]",
      ..."bcdefghi".split("").map((key, i) => level(key, "abcdefghi"[i] ?? "")),
    ];
    expect((await complaints(text.join("\n"))).join()).toMatch(/[Aa]lias/);
  });

  it("that is not text, or too large for one, is refused", async () => {
    expect((await complaints(Uint8Array.of(0x6e, 0xff, 0xfe, 0x41))).join()).toMatch(/not text in UTF-8/);
    expect((await complaints("name: a\0b\n")).join()).toMatch(/NUL/);
  });
});

describe("the published JSON Schema", () => {
  it("is that of the code (npm run schema makes it)", () => {
    const file = join(packageRoot(), "docs/reference/vm-definition.schema.json");
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(
      JSON.parse(JSON.stringify(definitionJsonSchema())),
    );
  });

  it("describes every key", () => {
    const { properties } = definitionJsonSchema() as { properties: Record<string, unknown> };
    const text = readFileSync(join(packageRoot(), "docs/reference/definition.md"), "utf8");
    for (const key of Object.keys(properties)) expect(text).toContain(`\`${key}\``);
  });
});

describe("a definition in another directory", () => {
  const input = {
    name: "a",
    boot: { kernel: "k", initrd: "/i" },
    disks: ["d", { path: "e", overlay: "o" }, { path: "f", overlay: "temporary" }],
    console: { log: "log" },
    modules: ["m.so"],
  };

  it("names the same files", () => {
    expect(moveDefinition(input, "/base/a", "/base/b")).toEqual({
      name: "a",
      boot: { kernel: "../a/k", initrd: "/i" },
      disks: ["../a/d", { path: "../a/e", overlay: "../a/o" }, { path: "../a/f", overlay: "temporary" }],
      console: { log: "../a/log" },
      modules: ["../a/m.so"],
    });
    expect(moveDefinition(input, "/base", "/base/")).toBe(input);
  });

  it("is read back as it was written", async () => {
    const vm = await load(JSON.stringify(input), { uuid: UUID });
    expect(await load(toYaml(input), { uuid: UUID })).toEqual(vm);
    expect(await load(toJson(input), { uuid: UUID })).toEqual(vm);
  });
});
