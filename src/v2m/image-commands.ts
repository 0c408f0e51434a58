// SPDX-License-Identifier: Apache-2.0
/** The verbs on images, on the command line. What does the work is loaded when it is asked for. */
import { type Command, Option } from "commander";
import { SOURCE_KINDS } from "../images/source-kinds.js";
import { common, type Finish, type Spec, verb } from "./command.js";

const EXIT_HELP = `
Exit codes: 0 done; 2 wrong option or name; 4 a program is missing, or it cannot be done with this image;
5 a file cannot be read or written, or is damaged; 8 no such image; 9 there is one of that name;
10 a machine or another command is using it; 11 verify found damage.
`;

/** A verb within `image`. */
function inner(image: Command, spec: Spec): Command {
  return common(verb(image, { ...spec, help: (spec.help ?? "") + EXIT_HELP }));
}

const force = (command: Command): Command =>
  command.option("--force", "replace an image (or file) of that name");

/** Add the verbs to the program. @param finish is told the exit code */
export function addImageCommands(program: Command, finish: Finish): void {
  const image = verb(program, {
    name: "image",
    description: "Disk images by name: make, import, clone, check them.",
    help: "\nA definition names them: disks: [{ image: debian, overlay: temporary }]. Every verb takes --json.\n",
    examples: ["v2m image import debian debian.qcow2", "v2m image clone debian node1", "v2m image list"],
    operands: "images",
  });
  addMaking(image, finish);
  addCopying(image, finish);
  addLooking(image, finish);
}

function addMaking(image: Command, finish: Finish): void {
  const create = inner(image, {
    name: "create",
    description: "Make a disk image: empty, or with a system in it.",
    help: `
An empty image is written to by VMs; one with a system is sealed: clone it, or put an overlay over it.
An installation from a CD-ROM has to need nobody: it is over when its machine powers off or reboots.
SET is the name of a set that V3M ships with (minimal, login, compute), or the path of one.
`,
    examples: [
      "v2m image create scratch --size 10G",
      "v2m image create compute --with-oscar compute",
      "v2m image create mine --with-oscar ./mine.yaml --size 8G",
      "v2m image create debian --from-cdrom install.iso --machine vm.yaml --size 10G",
      "v2m image create --output disk.qcow2 --size 10G --format qcow2 --type Qemu",
    ],
  });
  force(
    create
      .argument("[name]", "of the image")
      .option("--size <size>", "512M, 10G; a plain number is MiB (a set has a size of its own)")
      .addOption(new Option("--format <format>", "of the image").choices(["raw", "qcow2"]).default("raw"))
      .option("--with-oscar <set>", "install a set of packages")
      .option("--from-cdrom <iso>", "install from a CD-ROM, in the machine of --machine")
      .option("--machine <file>", "definition of the machine in which the installation runs")
      .option("--output <file>", "a file outside of the store, instead of a name; must not exist")
      .option("--type <type>", "back end that makes it (default: the machine's, else VMM-HPC)"),
  ).action(async (name: string | undefined, flags) => {
    const module = await import("./image.js");
    finish(await module.create(name, flags));
  });

  const imported = inner(image, {
    name: "import",
    description: "Take in an image: raw, qcow2, or an OCI image layout (a directory, or an archive of one).",
    help: "\nqcow2 needs qemu-img, OCI umoci (and skopeo for archives). The image is sealed.\n",
    examples: [
      "v2m image import debian debian-12.qcow2",
      "v2m image import tools ./layout --reference v1 --size 2G",
    ],
  });
  force(
    imported
      .argument("<name>", "of the image")
      .argument("<source>", "file, block device or directory")
      .addOption(new Option("--from <kind>", "default: by what it looks like").choices(SOURCE_KINDS))
      .option("--reference <tag>", "OCI: which image of the layout (default: the only one, else latest)")
      .option("--size <size>", "OCI: of the disk (default: half as much again as the files need)"),
  ).action(async (name: string, source: string, flags) => {
    const module = await import("./image.js");
    finish(await module.importImage(name, source, flags));
  });
}

function addCopying(image: Command, finish: Finish): void {
  const clone = inner(image, {
    name: "clone",
    description: "A disk of a VM's own, with the content of another image.",
    help: `
overlay (VMM-HPC) and qcow2 (Qemu, Kvm) keep only what differs from the source, which must be sealed; copy is on its
own. Blocks are shared where the file system can.
`,
    examples: ["v2m image clone debian node1", "v2m image clone debian node2 --as qcow2"],
  });
  force(
    clone
      .argument("<source>", "image")
      .argument("<name>", "of the clone")
      .addOption(
        new Option("--as <kind>", "default: overlay of a sealed image, copy of others").choices([
          "overlay",
          "qcow2",
          "copy",
        ]),
      ),
  ).action(async (source: string, name: string, flags) => {
    const module = await import("./image.js");
    finish(await module.clone(source, name, flags));
  });

  const convert = inner(image, {
    name: "convert",
    description: "All of an image in one piece: sealed and raw, or qcow2.",
    examples: ["v2m image convert node1 golden", "v2m image convert golden --output golden.qcow2 --to qcow2"],
  });
  force(
    convert
      .argument("<source>", "image")
      .argument("[name]", "of the new image")
      .addOption(new Option("--to <format>", "of the new image").choices(["raw", "qcow2"]).default("raw"))
      .option("--output <file>", "a file outside of the store, instead of a name"),
  ).action(async (source: string, name: string | undefined, flags) => {
    const module = await import("./image.js");
    finish(await module.convert(source, name, flags));
  });

  const resize = inner(image, {
    name: "resize",
    description: "Make a disk larger: raw and qcow2 images that VMs write to.",
    examples: ["v2m image resize scratch 20G"],
  });
  resize
    .argument("<name>", "image")
    .argument("<size>", "512M, 10G; a plain number is MiB")
    .option("--force", "also smaller: what is behind the new end is lost")
    .action(async (name: string, size: string, flags) => {
      const module = await import("./image.js");
      finish(await module.resize(name, size, flags));
    });
}

function addLooking(image: Command, finish: Finish): void {
  const list = inner(image, {
    name: "list",
    description: "List images.",
    examples: ["v2m image list", "v2m image list --json | jq -r '.[].name'"],
  });
  list.option("--names", "only the names").action(async (flags) => {
    const module = await import("./image.js");
    finish(await module.list(flags));
  });

  const show = inner(image, {
    name: "show",
    description: "What images are made of, layer by layer, and where that comes from.",
    examples: ["v2m image show debian", "v2m image show debian --json | jq '.[].layers[].provenance'"],
  });
  show.argument("<name...>", "images").action(async (names: string[], flags) => {
    const module = await import("./image.js");
    finish(await module.show(names, flags));
  });

  const verify = inner(image, {
    name: "verify",
    description: "Compare the content of images with their digests, and check overlays and qcow2 images.",
    examples: ["v2m image verify", "v2m image verify debian --json"],
  });
  verify.argument("[name...]", "images (default: all)").action(async (names: string[], flags) => {
    const module = await import("./image.js");
    finish(await module.verify(names, flags));
  });

  const remove = inner(image, {
    name: "delete",
    description: "Delete images. What others stand on is kept until they go too.",
    examples: ["v2m image delete node1 node2"],
  });
  remove
    .argument("<name...>", "images")
    .option("--force", "also those that VMs are defined with; their disks stay until then")
    .action(async (names: string[], flags) => {
      const module = await import("./image.js");
      finish(await module.remove(names, flags));
    });

  const gc = inner(image, {
    name: "gc",
    description: "Remove what no image and no VM needs, and what killed commands have left.",
    examples: ["v2m image gc"],
  });
  gc.action(async (flags) => {
    const module = await import("./image.js");
    finish(await module.collect(flags));
  });
}
