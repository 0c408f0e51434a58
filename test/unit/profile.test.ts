// SPDX-License-Identifier: Apache-2.0
/** The XML profile of 2007: its grammar in full, good and bad, and what it becomes today. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { parseDefinition, resolveSource } from "../../src/v3m/definition/load.js";
import { writeProfile } from "../../src/v3m/profile/index.js";
import { complaints, DIRECTORY, load } from "../support/definitions.js";

const MIB = 2 ** 20;

/** A profile whose parts can be replaced. */
function profile(parts: Partial<Record<string, string>> = {}): string {
  const all = {
    head: '<?xml version="1.0"?>',
    name: "<name>old</name>",
    type: "<type>Qemu</type>",
    cpu: "",
    memory: "",
    image: '<image size="500">old.img</image>',
    virtual_disks: "",
    cdrom: "",
    nic1: "",
    nic2: "",
    ...parts,
  };
  const { head, ...elements } = all;
  return `${head}\n<profile>\n${Object.values(elements).join("\n")}\n</profile>\n`;
}

const nic = (type: string, mac = "00:02:03:04:05:06", n = 1) => `<nic${n}>${type}<mac>${mac}</mac></nic${n}>`;

describe("a profile", () => {
  it("of the fewest elements", async () => {
    expect(await load(profile())).toMatchObject({
      name: "old",
      type: "Qemu",
      cpus: 1,
      memory: { bytes: 128 * MIB },
      boot: { from: "disk", cmdline: "" },
      disks: [{ id: "disk0", path: "/base/old.img", format: "raw", size: 500 * MIB, readOnly: false }],
      nics: [],
    });
  });

  it("of all elements", async () => {
    const vm = await load(`<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!-- a comment -->
<!DOCTYPE profile SYSTEM "http://www.example.org/v3m/v3m_profile.dtd">
<profile>
  <name> all </name>
  <type option="hvm">XenHVM</type>
  <cpu>4</cpu>
  <memory>1024</memory>
  <image size="2000">file:///home/a%20b/root.img</image>
  <virtual_disks>
    <virtual_disk id="hdb">data.img</virtual_disk>
    <virtual_disk id="hdc"><![CDATA[/tmp/a&b.img]]></virtual_disk>
  </virtual_disks>
  <cdrom>/dev/cdrom</cdrom>
  <nic1><type option="br1">BRIDGED_TAP</type><mac>00:02:03:04:05:06</mac></nic1>
  <nic2><type option="eth0.12">VLAN</type><mac>00:02:03:04:05:AA</mac></nic2>
</profile>`);
    expect(vm).toMatchObject({
      name: "all",
      type: "XenHVM",
      option: "hvm",
      cpus: 4,
      memory: { bytes: 1024 * MIB },
      disks: [
        { id: "disk0", path: "/home/a b/root.img", size: 2000 * MIB },
        { id: "hdb", path: "/base/data.img" },
        { id: "hdc", path: "/tmp/a&b.img" },
      ],
      cdrom: "/dev/cdrom",
      nics: [
        { id: "nic1", type: "BRIDGED_TAP", bridge: "br1", mac: "00:02:03:04:05:06" },
        { id: "nic2", type: "VLAN", parent: "eth0", vlan: 12, mac: "00:02:03:04:05:aa" },
      ],
    });
    expect(vm.disks[1]).not.toHaveProperty("size");
  });

  const nics: [type: string, today: object][] = [
    ["<type>TUN/TAP</type>", { type: "TUN/TAP" }],
    ['<type option="192.0.2.1">TUN/TAP</type>', { type: "TUN/TAP", address: "192.0.2.1/24" }],
    ['<type option="192.0.2.1/28">TUN/TAP</type>', { type: "TUN/TAP", address: "192.0.2.1/28" }],
    ['<type option="tap5">TUN/TAP</type>', { type: "TUN/TAP", tap: "tap5" }],
    ["<type>TUN/TAP+NAT</type>", { type: "TUN/TAP+NAT", range: { prefix: 30 } }],
    [
      '<type option="10.9.0.0/16">TUN/TAP+NAT</type>',
      {
        type: "TUN/TAP+NAT",
        range: { network: "10.9.0.0", prefix: 16, host: "10.9.0.1", guest: "10.9.0.2" },
      },
    ],
    ["<type>BRIDGED_TAP</type>", { type: "BRIDGED_TAP", bridge: "br0" }],
    ['<type option="xenbr0">BRIDGED_TAP</type>', { type: "BRIDGED_TAP", bridge: "xenbr0" }],
    ['<type option="bond0.4094">VLAN</type>', { type: "VLAN", parent: "bond0", vlan: 4094 }],
    ['<type option="eth0.5.7">VLAN</type>', { type: "VLAN", parent: "eth0.5", vlan: 7 }],
  ];
  it.each(nics)("with interface %s", async (type, today) => {
    expect((await load(profile({ nic1: nic(type) }))).nics).toMatchObject([today]);
    expect((await load(profile({ nic2: nic(type, "02:00:00:00:00:01", 2) }))).nics).toMatchObject([today]);
  });

  it.each([
    ["a path", "/a/b.img", "/a/b.img"],
    ["a relative path", "../b.img", "/b.img"],
    ["a file URL", "file:///a/b.img", "/a/b.img"],
    ["a file URL of this host", "file://localhost/a/b.img", "/a/b.img"],
    ["a file URL in capitals", "FILE:///a/b.img", "/a/b.img"],
    ["a path with a per cent sign", "/a/100%25.img", "/a/100%25.img"],
    ["a path with an ampersand", "/a/&amp;&#x41;.img", "/a/&A.img"],
  ])("with an image as %s", async (_what, written, path) => {
    expect((await load(profile({ image: `<image>${written}</image>` }))).disks).toEqual([
      { id: "disk0", path, format: "raw", readOnly: false, direct: false },
    ]);
  });

  it("in the encoding that it says", async () => {
    const text = profile({ head: "", name: "<name>old</name>", image: "<image>/ä.img</image>" }).trim();
    const declare = (encoding: string) => `<?xml version="1.0" encoding="${encoding}"?>${text}`;
    const utf16 = (encoding: string) => {
      const bytes = Buffer.from(`\ufeff${declare(encoding)}`, "utf16le");
      return encoding === "UTF-16BE" ? bytes.swap16() : bytes;
    };
    const texts = [
      Buffer.from(text),
      Buffer.from(`\ufeff${declare("UTF-8")}`),
      Buffer.from(declare("ISO-8859-1"), "latin1"),
      utf16("UTF-16LE"),
      utf16("UTF-16BE"),
    ];
    for (const bytes of texts) expect((await load(bytes)).disks[0]?.path).toBe("/ä.img");
  });
});

describe("a bad profile", () => {
  const bad: [what: string, text: string, complaint: RegExp][] = [
    [
      "another root",
      "<profil><name>a</name></profil>",
      /1:1 : the root element is profil \(it must be profile\)/,
    ],
    [
      "an unknown element",
      profile({ cpu: "<cpus>1</cpus>" }),
      /5:1 profile\/cpus: unknown element \(did you mean cpu\?\)/,
    ],
    [
      "another order",
      profile({ cpu: "<memory>1</memory><cpu>1</cpu>" }),
      /5:19 profile\/cpu: stands after memory/,
    ],
    ["an element twice", profile({ cpu: "<cpu>1</cpu>\n<cpu>1</cpu>" }), /6:1 profile\/cpu: stands twice/],
    ["no name", profile({ name: "" }), /2:1 profile: element name is missing/],
    ["no image", profile({ image: "" }), /2:1 profile: element image is missing/],
    ["an empty name", profile({ name: "<name/>" }), /3:1 profile\/name: is empty/],
    [
      "an unknown attribute",
      profile({ image: '<image sise="5">a</image>' }),
      /unknown attribute "sise" \(known here: size\)/,
    ],
    [
      "an attribute of the root",
      profile().replace("<profile>", '<profile version="1">'),
      /unknown attribute "version"/,
    ],
    [
      "an id that is missing",
      profile({ virtual_disks: "<virtual_disks><virtual_disk>a</virtual_disk></virtual_disks>" }),
      /attribute id is missing/,
    ],
    ["no virtual disk", profile({ virtual_disks: "<virtual_disks/>" }), /element virtual_disk is missing/],
    [
      "two disks of one id",
      profile({
        virtual_disks:
          '<virtual_disks><virtual_disk id="a">a</virtual_disk><virtual_disk id="a">b</virtual_disk></virtual_disks>',
      }),
      /disks\[2\]\.id: "a" stands twice/,
    ],
    ["text between elements", profile({ cpu: "hello" }), /profile: no text belongs here: hello/],
    [
      "an element in a leaf",
      profile({ name: "<name><b>x</b></name>" }),
      /profile\/name\/b: no element belongs here/,
    ],
    [
      "an interface without its MAC",
      profile({ nic1: "<nic1><type>TUN/TAP</type></nic1>" }),
      /element mac is missing/,
    ],
    [
      "MAC and type in another order",
      profile({ nic1: "<nic1><mac>00:02:03:04:05:06</mac><type>TUN/TAP</type></nic1>" }),
      /stands after mac/,
    ],
    [
      "memory in words",
      profile({ memory: "<memory>lots</memory>" }),
      /profile\/memory: "lots" is not a number/,
    ],
    [
      "memory with a unit",
      profile({ memory: "<memory>512M</memory>" }),
      /profile\/memory: "512M" is not a number/,
    ],
    ["no memory", profile({ memory: "<memory>0</memory>" }), /profile\/memory: "0"/],
    ["negative vCPUs", profile({ cpu: "<cpu>-1</cpu>" }), /profile\/cpu: "-1"/],
    ["an image of no size", profile({ image: '<image size="0">a</image>' }), /profile\/image: "0"/],
    [
      "an image on the web",
      profile({ image: "<image>http://example.org/a.img</image>" }),
      /http:\/\/ is not supported/,
    ],
    [
      "an image of another host",
      profile({ image: "<image>file://example.org/a.img</image>" }),
      /on another host/,
    ],
    ["a type of nobody", profile({ type: "<type>Qmeu</type>" }), /4:1 type: "Qmeu" .*did you mean Qemu/],
    [
      "an interface of an unknown type",
      profile({ nic1: nic("<type>TAP</type>") }),
      /nics\[0\]\.type: "TAP" is not valid/,
    ],
    [
      "a VLAN of no interface",
      profile({ nic1: nic('<type option="12">VLAN</type>') }),
      /profile\/nic1\/type: option "12" is no VLAN/,
    ],
    [
      "a VLAN without an option",
      profile({ nic1: nic("<type>VLAN</type>") }),
      /profile\/nic1\/type: option is missing/,
    ],
    ["VLAN 4095", profile({ nic1: nic('<type option="eth0.4095">VLAN</type>') }), /nics\[0\]\.vlan: 4095/],
    [
      "a MAC that begins with 01",
      profile({ nic1: nic("<type>TUN/TAP</type>", "01:02:03:04:05:06") }),
      /nics\[0\]\.mac: .*multicast/,
    ],
    [
      "a MAC that begins with 33",
      profile({ nic1: nic("<type>TUN/TAP</type>", "33:02:03:04:05:06") }),
      /nics\[0\]\.mac: .*multicast/,
    ],
    [
      "the MAC of all",
      profile({ nic1: nic("<type>TUN/TAP</type>", "ff:ff:ff:FF:FF:FF") }),
      /nics\[0\]\.mac: .*broadcast/,
    ],
    ["half a MAC", profile({ nic1: nic("<type>TUN/TAP</type>", "00:02:03") }), /nics\[0\]\.mac: .*six bytes/],
    ["an end that is missing", profile().replace("</profile>", ""), /unclosed tag: profile/],
    [
      "two roots",
      `${profile()}<profile/>`,
      /must be only one|single root|documents may contain only one root/i,
    ],
    [
      "an unknown encoding",
      '<?xml version="1.0" encoding="EBCDIC"?><profile/>',
      /the encoding "ebcdic" is not known/,
    ],
    ["text that is not in its encoding", profile().replace("old.img", "\udc80"), /./],
  ];
  it.each(bad)("with %s", async (_what, text, complaint) => {
    const types = ["VMM-HPC", "Qemu", "Kvm"];
    if (text.includes("\udc80")) {
      const bytes = Buffer.from(profile().replace("old.img", "\xff"), "latin1");
      expect((await complaints(bytes)).join()).toMatch(/not text in UTF-8/);
    } else expect((await complaints(text, { types })).join("\n")).toMatch(complaint);
  });

  it("is told all that is wrong in it", async () => {
    const text = profile({
      cpu: "<cpu>x</cpu>",
      memory: "<memory>y</memory>",
      image: "<image>http://a/b</image>",
    });
    expect(await complaints(text)).toHaveLength(3);
  });
});

describe("nothing outside of a profile", () => {
  it("is fetched: not its document type, not an entity, not a style sheet", async () => {
    let requests = 0;
    const server = createServer((_request, response) => {
      requests++;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
    try {
      const doctype = `<!DOCTYPE profile PUBLIC "-//V3M" "${url}.dtd">`;
      const sheet = `<?xml-stylesheet href="${url}.xsl"?>`;
      expect((await load(profile({ head: `${sheet}${doctype}` }))).name).toBe("old");
      const entity = `<!DOCTYPE profile [<!ENTITY x SYSTEM "${url}">]>`;
      expect((await complaints(profile({ head: entity, name: "<name>&x;</name>" }))).join()).toMatch(
        /entities is refused/,
      );
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
    expect(requests).toBe(0);
  });

  it("is expanded", async () => {
    const levels = Array.from({ length: 20 }, (_, i) => `<!ENTITY e${i + 1} "&e${i};&e${i};&e${i};">`);
    const bomb = `<!DOCTYPE profile [<!ENTITY e0 "ha">${levels.join("")}]>`;
    expect((await complaints(profile({ head: bomb, name: "<name>&e20;</name>" }))).join()).toMatch(
      /entities is refused/,
    );
    expect((await complaints(profile({ name: "<name>&nbsp;</name>" }))).join()).toMatch(/undefined entity/);
    const file = '<!DOCTYPE profile [<!ENTITY x SYSTEM "file:///etc/passwd">]>';
    expect((await complaints(profile({ head: file, name: "<name>&x;</name>" }))).join()).toMatch(
      /entities is refused/,
    );
    const parameter = '<!DOCTYPE profile [<!ENTITY % x "y"> %x;]>';
    expect((await complaints(profile({ head: parameter }))).join()).toMatch(/entities is refused/);
  });

  it("a document type without entities is none of our business", async () => {
    const subset = "<!DOCTYPE profile [<!ELEMENT profile ANY>]>";
    expect((await load(profile({ head: subset }))).name).toBe("old");
  });

  it("nests deeply", async () => {
    expect((await complaints("<a>".repeat(100_000))).join()).toMatch(/nested too deeply/);
  });
});

describe("a definition as a profile", () => {
  const write = async (text: string) => {
    const source = await parseDefinition(Buffer.from(text), "vm.yaml", DIRECTORY);
    return writeProfile(source.input, resolveSource(source), "vm.yaml");
  };

  it("is the profile that it was", async () => {
    const texts = [
      profile(),
      profile({
        type: '<type option="a&lt;b">Kvm</type>',
        cpu: "<cpu>2</cpu>",
        memory: "<memory>300</memory>",
        image: "<image>/a&amp;b.img</image>",
        virtual_disks: '<virtual_disks><virtual_disk id="hdb">b.img</virtual_disk></virtual_disks>',
        cdrom: "<cdrom>c.iso</cdrom>",
        nic1: nic('<type option="10.1.0.0/24">TUN/TAP+NAT</type>'),
        nic2: nic('<type option="eth0.3">VLAN</type>', "02:00:00:00:00:01", 2),
      }),
      profile({
        nic1: nic('<type option="tap5">TUN/TAP</type>'),
        nic2: nic("<type>BRIDGED_TAP</type>", "02:00:00:00:00:02", 2),
      }),
    ];
    const uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    for (const text of texts)
      expect(await load(await write(text), { uuid })).toEqual(await load(text, { uuid }));
  });

  it("is refused with all that a profile cannot say", async () => {
    const text = `
name: a
boot: { kernel: k }
memory: { size: 1500K, backing: memfd }
disks: [{ path: a, readOnly: true }, { path: b, size: 1M }]
nics: [{ type: user }, { type: BRIDGED_TAP, bridge: b, mtu: 1500 }, { type: TUN/TAP }]
vsock: 3
labels: { a: b }
`;
    const error = await write(text).catch((cause: unknown) => cause as { problems: { path: string }[] });
    const paths = (error as { problems: { path: string }[] }).problems.map((problem) => problem.path);
    expect(paths).toEqual([
      "memory",
      "memory.backing",
      "boot",
      "disks[0].readOnly",
      "disks[1].size",
      "nics",
      "nics[0].type",
      "nics[1].mtu",
      "vsock",
      "labels",
    ]);
  });
});
