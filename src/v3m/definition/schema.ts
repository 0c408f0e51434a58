// SPDX-License-Identifier: Apache-2.0
/**
 * A VM definition as people write it. This is the one source of its shape: the checks are made from it, the type
 * `DefinitionInput`, and the published JSON Schema (docs/reference/vm-definition.schema.json). What a shape
 * cannot say (addresses, paths, sums) is in resolve.ts.
 */
import { z } from "zod";
import { KNOWN_TYPES } from "../../vmm/backend.js";
import { CPU_LIST_PATTERN } from "./cpu-list.js";
import { NAME_HELP, NAME_PATTERN } from "./name.js";
import { IDENTIFIER, JAIL_PARTS, UNEXITED } from "./types.js";
import { SIZE_HELP, SIZE_PATTERN, TIME_HELP, TIME_PATTERN } from "./units.js";

const text = (pattern: string, error: string) => z.string().regex(new RegExp(pattern), { error });

const size = () => z.union([text(SIZE_PATTERN, SIZE_HELP), z.int().positive()], { error: SIZE_HELP });
const sizeOrNone = () =>
  z.union([text(SIZE_PATTERN, SIZE_HELP), z.int().nonnegative()], { error: SIZE_HELP });
const time = () => z.union([text(TIME_PATTERN, TIME_HELP), z.number().nonnegative()], { error: TIME_HELP });
/** A NUL would end a path early in C, and so would it a command line. */
const noNul = (what: string) => text("^[^\\u0000]*$", `${what} holds a NUL character`);
const path = () => text("^[^\\u0000]+$", "give the path of a file").describe("relative to the definition");
const identifier = () => text(IDENTIFIER.pattern, IDENTIFIER.help);

const cpu = () => z.int().min(0).max(9999);
const cpuList = (what: string) =>
  z.union([text(CPU_LIST_PATTERN, `${what} such as 2,3 or 0-3`), cpu(), z.array(cpu())], {
    error: `${what} such as 2,3 or 0-3`,
  });
const topology = () =>
  z.strictObject({
    sockets: z.int().min(1).optional(),
    coresPerSocket: z.int().min(1).optional(),
    threadsPerCore: z.int().min(1).optional(),
  });
const hostNode = () => z.int().min(0).max(1023);
const PRIORITY_HELP = "a priority of 1 to 99";
const priority = () => z.int().min(1, PRIORITY_HELP).max(99, PRIORITY_HELP);

const performance = z.strictObject({
  pin: cpuList("host CPUs").optional().describe("as the VM's pin"),
  topology: topology().optional().describe("as the VM's topology"),
  hugePages: z.enum(["2M", "1G"]).optional().describe("RAM of such pages, reserved on the host"),
  prefault: z.boolean().optional().describe("as memory.prefault"),
  hostNode: hostNode().optional().describe("host NUMA node of RAM: as memory.numaNode"),
  ioPin: cpuList("host CPUs").optional().describe("host CPUs of the threads that serve devices"),
  realtime: z
    .union([priority(), z.strictObject({ vcpus: priority().optional(), io: priority().optional() })], {
      error: "a priority of 1 to 99 for vCPUs, or vcpus and io",
    })
    .optional()
    .describe("SCHED_FIFO priority of vCPUs, or of vcpus and io"),
  withoutExits: z
    .array(z.enum(UNEXITED))
    .optional()
    .describe("what does not leave the guest; each vCPU needs a host CPU of its own (pin)"),
  numa: z
    .array(
      z.strictObject({
        cpus: cpuList("vCPUs").describe("its vCPUs; each is in one node"),
        memory: size().describe("its RAM"),
        hostNode: hostNode().optional().describe("host NUMA node to take that from"),
        distances: z
          .array(z.int().min(10).max(255))
          .optional()
          .describe("to each node, 10 to itself; default 20 to the others"),
      }),
    )
    .min(1)
    .max(64)
    .optional()
    .describe("NUMA nodes that the guest sees"),
  gang: identifier().optional().describe("VMs of the same gang start, stop, pause and resume together"),
  cacheCores: z
    .int()
    .min(1)
    .optional()
    .describe("neighbouring cores that share a last-level cache: all of a socket, or a power of two"),
});

const memory = z.union(
  [
    size(),
    z.strictObject({
      size: size().optional().describe("default 128M"),
      backing: z
        .enum(["anon", "thp", "memfd", "huge-2M", "huge-1G"])
        .optional()
        .describe("pages behind guest RAM; default thp (transparent huge pages)"),
      prefault: z.boolean().optional().describe("touch all of it before the start; default false"),
      numaNode: hostNode().optional().describe("host NUMA node to take it from"),
    }),
  ],
  { error: `${SIZE_HELP}, or size, backing, prefault, numaNode` },
);

const boot = z.union(
  [
    z.enum(["disk", "cdrom"]),
    z.strictObject({
      kernel: path().describe("bzImage, vmlinux, PVH ELF, multiboot or flat image"),
      kind: z
        .enum(["auto", "bzimage", "linux", "pvh", "multiboot", "flat16", "flat64"])
        .optional()
        .describe("what the kernel file is; default auto"),
      initrd: path().optional(),
      cmdline: noNul("the command line").optional().describe("kernel command line; default empty"),
      loadAddress: z
        .union([text("^(0x[0-9a-fA-F]{1,13}|[0-9]{1,15})$", "a number such as 0x100000"), z.int().min(0)], {
          error: "a number such as 0x100000",
        })
        .optional()
        .describe("flat images: guest-physical address of the first byte and of the entry"),
      unpack: z
        .boolean()
        .optional()
        .describe("unpack a bzImage on the host, where the back end can; default true"),
    }),
    z.strictObject({
      disk: z.strictObject({
        cmdline: noNul("the command line")
          .optional()
          .describe("appended, where the back end takes the kernel out of the disk"),
      }),
    }),
  ],
  { error: "give disk, cdrom, or what to boot: kernel, initrd, cmdline" },
);

const disk = z.union(
  [
    path(),
    z.strictObject({
      id: identifier().optional().describe("default disk0, disk1, …"),
      path: path().optional().describe("image file, or block device"),
      image: text(NAME_PATTERN, NAME_HELP)
        .optional()
        .describe("instead of path: name of an image of the store (v2m image list)"),
      format: z.enum(["raw", "qcow2"]).optional().describe("default raw"),
      size: size().optional().describe("the image is made with this size where it does not exist"),
      readOnly: z.boolean().optional().describe("default false"),
      overlay: path()
        .optional()
        .describe("a file that takes all writes; temporary: forgotten when the machine stops"),
      direct: z.boolean().optional().describe("past the host's page cache; default false"),
      serial: text("^[\\x20-\\x7e]{1,20}$", "1 to 20 printable ASCII characters").optional(),
    }),
  ],
  { error: "give the path of an image, or path or image, format, size, readOnly, overlay, direct, serial" },
);

const anyNic = {
  mac: z.string().optional().describe("default: derived from the VM's UUID"),
  mtu: z.int().min(68).max(65535).optional(),
};
const tapNic = {
  ...anyNic,
  tap: z.string().optional().describe("name of the host's tap device; default: derived from the VM's UUID"),
  vhost: z.boolean().optional().describe("let the host's vhost-net move the data; default false"),
};

const nic = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("TUN/TAP").describe("a tap device of the host's"),
    ...tapNic,
    address: z.string().optional().describe("of the host's end, with its prefix length: 192.0.2.1/24"),
  }),
  z.strictObject({
    type: z
      .literal("TUN/TAP+NAT")
      .describe("a tap device whose network the host translates to its own address"),
    ...tapNic,
    network: z
      .string()
      .optional()
      .describe("IPv4 network of 4 addresses or more, 10.77.0.0/24; default: a free one of 10.64.0.0/10"),
  }),
  z.strictObject({
    type: z.literal("BRIDGED_TAP").describe("a tap device in a bridge of the host's"),
    ...tapNic,
    bridge: z.string().describe("the bridge, which must exist"),
  }),
  z.strictObject({
    type: z.literal("VLAN").describe("a tap device in an 802.1Q VLAN of an interface of the host's"),
    ...tapNic,
    parent: z.string().describe("the interface, which must exist"),
    vlan: z.int().min(1).max(4094),
  }),
  z.strictObject({
    type: z.literal("user").describe("the user's own network, without privileges"),
    ...anyNic,
    forward: z
      .array(
        text(
          "^(tcp|udp):([0-9.]+:)?[0-9]{1,5}(:[0-9]{1,5})?$",
          "give protocol, host's port and guest's port: tcp:2222:22, or tcp:0.0.0.0:8080:80",
        ),
      )
      .optional()
      .describe("ports of this host (at 127.0.0.1, or the address given) that lead to the guest"),
  }),
]);

const pmem = z.union([
  path(),
  z.strictObject({
    path: path().describe("a file of a multiple of 2 MiB"),
    readOnly: z.boolean().optional().describe("many VMs may share the file; default false"),
  }),
]);

const shm = z.strictObject({
  channel: identifier().describe("the same name in all VMs of the channel"),
  peer: z.int().min(0).max(63).describe("this VM's id in it"),
  peers: z.int().min(2).max(64).optional().describe("the same in all its VMs; default 2"),
  size: size().optional().describe("of the area that each peer writes, the same in all its VMs; default 1M"),
  common: sizeOrNone()
    .optional()
    .describe("of what all peers write, the same in all its VMs; default 0: nothing"),
  visibleTo: z
    .array(z.int().min(0).max(63))
    .max(64)
    .optional()
    .describe("ids of those that may read its area and ring its doorbells; default: all"),
});

const vfio = z.strictObject({
  device: z
    .string()
    .regex(
      /^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]$/,
      "the address of a PCI function, as 0000:00:04.0",
    )
    .describe("address of a PCI function of the host's that is bound to vfio-pci, as 0000:00:04.0"),
});

const module = z.union([
  path(),
  z.strictObject({
    name: identifier().optional().describe("default: the file's name without .so"),
    path: path().describe("a shared object"),
    argument: noNul("the argument").optional().describe("handed to the module when it is loaded"),
    atStart: z.boolean().optional().describe("load it when the machine starts; default true"),
  }),
]);

export const definitionSchema = z
  .strictObject({
    $schema: z.string().optional().describe("ignored; for editors"),
    version: z.literal(1).optional().describe("version of this form"),
    name: text(NAME_PATTERN, NAME_HELP).describe(NAME_HELP),
    type: z
      .string()
      .optional()
      .describe(`back end: ${KNOWN_TYPES.join(", ")}; default VMM-HPC`),
    option: noNul("the option").optional().describe("a variant that the back end knows"),
    description: z.string().optional(),
    uuid: text(
      "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
      "a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    )
      .optional()
      .describe("default: a random one, which the VM keeps"),
    cpus: z.int().min(1).max(65535).optional().describe("vCPUs; default 1"),
    topology: topology()
      .optional()
      .describe("shown to the guest; the product is cpus, and what is not given follows from it"),
    pin: cpuList("host CPUs").optional().describe("host CPUs of the vCPUs' threads, taken in turn"),
    performance: performance.optional().describe("where and how it runs; applied or refused, never ignored"),
    memory: memory.optional().describe("RAM; default 128M"),
    boot: boot.optional().describe("default: the first disk, or the CD-ROM where there is no disk"),
    disks: z.array(disk).max(64).optional(),
    cdrom: path().optional().describe("ISO image, or drive"),
    nics: z.array(nic).max(32).optional(),
    pmem: z.array(pmem).max(32).optional(),
    shm: z.array(shm).max(8).optional().describe("shared memory with other VMs"),
    vfio: z.array(vfio).max(8).optional().describe("devices of the host's, handed on"),
    console: z
      .strictObject({
        scrollback: size().optional().describe("output kept for those who attach later; default 256K"),
        log: path().optional().describe("a file that gets all output too"),
      })
      .optional(),
    rng: z.boolean().optional().describe("a source of entropy; default true"),
    balloon: z.boolean().optional().describe("a memory balloon; default false"),
    vsock: z
      .int()
      .min(3)
      .max(0xffff_fffe)
      .optional()
      .describe("context id of sockets between host and guest, unique on the host"),
    generationId: text("^(random|[0-9a-fA-F]{32})$", "random, or 32 hexadecimal digits")
      .optional()
      .describe("VM generation ID; random: a new one at each start"),
    onReset: z
      .enum(["reboot", "stop"])
      .optional()
      .describe("what the guest's own reset does; default reboot"),
    stopTimeout: time()
      .optional()
      .describe("how long stop waits for the guest to power off before it uses force; default 30s"),
    kvm: path().optional().describe("instead of /dev/kvm"),
    jail: z
      .strictObject({
        without: z
          .array(z.enum(JAIL_PARTS))
          .optional()
          .describe("parts of the jail to go without, where this host cannot set them up"),
      })
      .optional(),
    modules: z.array(module).max(32).optional().describe("adaptation modules"),
    labels: z
      .record(text("^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$", "letters, digits and ._/-"), z.string().max(1024))
      .optional()
      .describe("your own notes; ignored by back ends"),
  })
  .meta({ title: "V3M VM definition" });

/** What people write, checked for its shape. */
export type DefinitionInput = z.input<typeof definitionSchema>;

/** The published JSON Schema. */
export function definitionJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(definitionSchema, { io: "input", target: "draft-2020-12" }) as Record<
    string,
    unknown
  >;
}
