// SPDX-License-Identifier: Apache-2.0
/** A package set as people write it: what is to be on a disk. docs/reference/package-sets.md explains each part. */
import { z } from "zod";
import { NAME_HELP, NAME_PATTERN } from "../definition/name.js";
import { SIZE_HELP, SIZE_PATTERN } from "../definition/units.js";

const text = (pattern: string, error: string) => z.string().regex(new RegExp(pattern), { error });
const noNul = (what: string) => text("^[^\\u0000]*$", `${what} holds a NUL character`);
const absolute = () =>
  text("^(/(?!\\.\\.?(/|$))[^/\\u0000]+)+$", "an absolute path without . and .., such as /etc/motd");
const account = () => text("^[a-z_][a-z0-9_-]{0,31}$", "a name such as hpc: small letters, digits, _ and -");
const unit = () => text("^[A-Za-z0-9:_.@\\\\-]{1,255}$", "the name of a systemd unit, such as ssh.service");

const file = z.strictObject({
  path: absolute().describe("in the image"),
  content: z.string().optional().describe("the file's text"),
  source: text("^[^\\u0000]+$", "give the path of a file").optional().describe("a file, relative to the set"),
  link: noNul("the target").optional().describe("the file is a symbolic link to this"),
  directory: z.literal(true).optional().describe("it is a directory"),
  mode: text("^0?[0-7]{3,4}$", 'octal, in quotes: "0644"')
    .optional()
    .describe("default 0644, of directories 0755"),
  owner: text("^[a-z0-9_-]{1,32}(:[a-z0-9_-]{1,32})?$", "user, or user:group")
    .optional()
    .describe("default root:root"),
});

const user = z.strictObject({
  name: account().describe("one that is there already, such as root, is changed"),
  uid: z.int().min(1).max(60_000).optional().describe("default: the next free one from 1000"),
  home: absolute().optional().describe("default /home/NAME"),
  shell: absolute().optional().describe("default /bin/bash"),
  groups: z.array(account()).optional().describe("further groups, made where they are not there"),
  password: text("^(\\$[^:\\n]+)?$", "a hash as crypt(3) makes it, or empty")
    .optional()
    .describe("crypt(3) hash; empty: none is asked for at the console; default: nobody can log in with one"),
  sshKeys: z.array(text("^[^\\n\\u0000]+$", "one line of authorized_keys")).optional(),
});

export const packageSetSchema = z
  .strictObject({
    $schema: z.string().optional().describe("ignored; for editors"),
    version: z.literal(1).optional().describe("version of this form"),
    name: text(NAME_PATTERN, NAME_HELP).describe(NAME_HELP),
    description: z.string().optional(),
    include: z
      .array(text("^[^\\u0000]+$", "the name of a set, or the path of one"))
      .max(32)
      .optional()
      .describe(
        "sets that this one adds to: names of those that V3M ships with, or paths relative to this one",
      ),
    suite: text("^[a-z][a-z0-9.-]{0,63}$", "a release of Debian's, such as bookworm")
      .optional()
      .describe("default: this host's release"),
    repositories: z
      .array(
        text("^deb (\\[[^\\]\\n]*\\] )?\\S+ \\S+( \\S+)*$", "a line of sources.list that begins with deb"),
      )
      .optional()
      .describe("default: those that this host's apt has for the release"),
    packages: z
      .array(text("^[a-z0-9][a-z0-9+.-]*(=[A-Za-z0-9.+:~-]+)?$", "a package, or package=version"))
      .max(2000)
      .optional(),
    leaveOut: z
      .array(text("^/[^\\n\\u0000]+$", "a pattern of paths, such as /usr/share/man/*"))
      .optional()
      .describe("files of packages that are not unpacked"),
    files: z.array(file).max(1000).optional(),
    users: z.array(user).max(1000).optional(),
    services: z
      .strictObject({
        enable: z.array(unit()).optional(),
        disable: z.array(unit()).optional(),
        mask: z.array(unit()).optional(),
      })
      .optional()
      .describe("units of systemd"),
    scripts: z
      .array(noNul("the script"))
      .max(100)
      .optional()
      .describe("for sh -e, run in the image as root, after all else"),
    size: text(SIZE_PATTERN, SIZE_HELP).optional().describe("of the disk; default 1G"),
  })
  .meta({ title: "V3M package set" });

export type PackageSetInput = z.input<typeof packageSetSchema>;

export function packageSetJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(packageSetSchema, { io: "input", target: "draft-2020-12" }) as Record<
    string,
    unknown
  >;
}
