// SPDX-License-Identifier: Apache-2.0
/** What a CD-ROM would boot: its boot loader's configuration, and the files that it names. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { grubChoice, isolinuxChoice } from "../../src/v3m/installation/boot-configuration.js";
import { installerBoot } from "../../src/v3m/installation/iso.js";

describe("ISOLINUX boots", () => {
  it.each<[what: string, text: string, kernel: string | undefined, more?: object]>([
    ["what DEFAULT names", "default b\nlabel a\n kernel ka\nlabel b\n kernel kb\n", "kb"],
    [
      "the menu's default, where DEFAULT names a menu",
      "default vesamenu.c32\nlabel a\n kernel ka\nlabel b\n menu default\n kernel kb\n",
      "kb",
    ],
    [
      "else the first that is a kernel",
      "label hd\n localboot 0x80\nlabel m\n kernel menu.c32\nlabel a\n linux ka\n",
      "ka",
    ],
    [
      "with the initrd of its command line",
      "label a\n kernel /install/vmlinuz\n append vga=788 initrd=/install/initrd.gz,/more.gz --- quiet\n",
      "/install/vmlinuz",
      { initrds: ["/install/initrd.gz", "/more.gz"], cmdline: "vga=788 --- quiet" },
    ],
    ["with its INITRD", "LABEL a\n  LINUX k\n  INITRD i\n  APPEND -\n", "k", { initrds: ["i"], cmdline: "" }],
    ["nothing, where there is nothing", "prompt 0\ntimeout 0\n", undefined],
  ])("%s", (_what, text, kernel, more = {}) => {
    const choice = isolinuxChoice(text);
    if (kernel === undefined) expect(choice).toBeUndefined();
    else expect(choice).toMatchObject({ kernel, ...more });
  });
});

describe("GRUB boots", () => {
  const MENU = `set timeout=5
if loadfont $prefix/font.pf2 ; then set gfxmode=800x600; fi
menuentry --hotkey=g 'Graphical install' {
    set background_color=black
    linux    /install.amd/vmlinuz vga=788 --- quiet
    initrd   /install.amd/gtk/initrd.gz
}
submenu 'More' {
  menuentry "Expert" {
      linux /install.amd/vmlinuz priority=low "two words"
      initrd /install.amd/initrd.gz /firmware.cpio
  }
}
menuentry 'From $somewhere' {
  linux ($root)/vmlinuz
}
`;
  it("the first entry", () => {
    expect(grubChoice(MENU.replace("--hotkey=g ", ""))).toEqual({
      label: "Graphical install",
      kernel: "/install.amd/vmlinuz",
      initrds: ["/install.amd/gtk/initrd.gz"],
      cmdline: "vga=788 --- quiet",
    });
  });

  it.each(["set default=1\n", 'set default="1"\n', "set default='Expert'\n"])("what %j names", (line) => {
    expect(grubChoice(line + MENU)).toMatchObject({
      label: "Expert",
      initrds: ["/install.amd/initrd.gz", "/firmware.cpio"],
      cmdline: "priority=low two words",
    });
  });

  it("nothing that it would have to run its configuration for", () => {
    expect(grubChoice("menuentry a {\n linux ($root)/vmlinuz\n}\n")).toBeUndefined();
    expect(grubChoice("configfile /x\n")).toBeUndefined();
  });
});

describe("the installer of an ISO image", () => {
  let work: string;
  beforeEach(() => {
    work = mkdtempSync(join(tmpdir(), "v3m-iso-"));
  });
  afterEach(() => rmSync(work, { recursive: true }));

  function iso(files: Readonly<Record<string, string>>): string {
    const content = join(work, "content");
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(content, path)), { recursive: true });
      writeFileSync(join(content, path), text);
    }
    const path = join(work, "cd.iso");
    execFileSync("xorriso", ["-as", "mkisofs", "-quiet", "-R", "-J", "-o", path, content], {
      stdio: "ignore",
    });
    return path;
  }

  it("is found through ISOLINUX and what its configuration includes, on the serial console", async () => {
    const path = iso({
      "isolinux/isolinux.cfg": "default menu.c32\ninclude Menu.cfg\n",
      "isolinux/menu.cfg": "include sub/entries.cfg\n",
      "isolinux/sub/entries.cfg": "label install\n menu default\n kernel ../k\n",
      "isolinux/text.cfg": "label other\n kernel vmlinuz\n",
      "boot/grub/grub.cfg": "menuentry x {\nlinux /other\n}\n",
    });
    // It names a file that is not there.
    await expect(installerBoot(path, work)).rejects.toMatchObject({
      code: "E_BAD_IMAGE",
      hint: expect.stringContaining("Qemu"),
    });
    const good = iso({
      "isolinux/isolinux.cfg": "default a\ninclude entries.cfg\n",
      "isolinux/entries.cfg": "label a\n kernel vmlinuz\n append initrd=/one,two.gz quiet\n",
      "isolinux/vmlinuz": "the kernel",
      "isolinux/two.gz": "two",
      one: "one..",
    });
    const boot = await installerBoot(good, work);
    expect(boot.cmdline).toBe("console=ttyS0 quiet");
    expect(readFileSync(boot.kernel, "utf8")).toBe("the kernel");
    expect(readFileSync(boot.initrd ?? "", "utf8")).toBe("one..\0\0\0two\0");
  });

  it("is found through GRUB", async () => {
    const path = iso({
      "boot/grub/grub.cfg": "menuentry x {\nlinux /live/vmlinuz console=hvc0\ninitrd /live/initrd\n}\n",
      "live/vmlinuz": "kernel",
      "live/initrd": "initrd",
    });
    const boot = await installerBoot(path, work);
    expect(boot).toMatchObject({ from: "kernel", cmdline: "console=hvc0" });
    expect(readFileSync(boot.initrd ?? "", "utf8")).toBe("initrd");
  });

  it("is refused where there is none, or no ISO image", async () => {
    await expect(installerBoot(iso({ readme: "x" }), work)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    writeFileSync(join(work, "no.iso"), Buffer.alloc(100_000, 7));
    await expect(installerBoot(join(work, "no.iso"), work)).rejects.toMatchObject({ code: "E_BAD_IMAGE" });
    await expect(installerBoot(join(work, "nowhere"), work)).rejects.toMatchObject({ code: "E_IO" });
  });
});
