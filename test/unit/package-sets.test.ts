// SPDX-License-Identifier: Apache-2.0
/** Package sets as people write them: what is read, what is joined, and what is refused. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DefinitionError } from "../../src/v3m/errors.js";
import { loadPackageSet, shippedSets } from "../../src/v3m/packages/load.js";
import { setupScript } from "../../src/v3m/packages/setup-script.js";
import { messageOf, v2m } from "../support/v2m.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "v3m-sets-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

async function problemsOf(file: string): Promise<string> {
  const error = await loadPackageSet(file).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(DefinitionError);
  return (error as DefinitionError).message;
}

describe("the sets that V3M ships with", () => {
  it("are right, and build on each other", async () => {
    expect(shippedSets()).toEqual(["compute", "login", "minimal"]);
    const [compute, login, minimal] = await Promise.all(shippedSets().map((name) => loadPackageSet(name)));
    expect(minimal).toMatchObject({
      name: "minimal",
      size: 2 ** 30,
      users: [{ name: "root", password: "" }],
    });
    expect(minimal?.packages).toContain("linux-image-cloud-amd64");
    expect(compute?.packages).toEqual(expect.arrayContaining([...(minimal?.packages ?? []), "openmpi-bin"]));
    expect(login?.packages).toEqual(expect.arrayContaining([...(compute?.packages ?? []), "gcc"]));
    const hostname = login?.files.filter(({ path }) => path === "/etc/hostname");
    expect(hostname?.map(({ content }) => content.toString())).toEqual(["login\n"]);
    // Host keys that a package makes would be everybody's.
    expect(compute?.scripts.join("\n")).toContain("rm -f /etc/ssh/ssh_host_");
  });
});

describe("a set", () => {
  it("joins what it includes: each once, later ones win, lists are sorted", async () => {
    mkdirSync(join(directory, "files"));
    write("files/data", "from a file");
    write(
      "base.yaml",
      "name: base\npackages: [zsh, bash]\nscripts: [one]\nfiles:\n - {path: /a, content: old}\n - {path: /z, source: files/data}\nusers: [{name: hpc, uid: 1}]\nsize: 3G\n",
    );
    write("left.yaml", "name: left\ninclude: [base.yaml]\npackages: [make]\n");
    const top = write(
      "top.yaml",
      'name: top\ninclude: [left.yaml, ./base.yaml]\npackages: [bash, awk]\nscripts: [two]\nfiles:\n - {path: /a, content: new, mode: "600", owner: hpc}\nusers: [{name: hpc, uid: 2}]\nsuite: bookworm\nrepositories: [deb copy:/r ./]\n',
    );
    const set = await loadPackageSet("top.yaml", directory);
    expect(set).toMatchObject({
      name: "top",
      suite: "bookworm",
      repositories: ["deb copy:/r ./"],
      packages: ["awk", "bash", "make", "zsh"],
      scripts: ["one", "two"],
      users: [{ name: "hpc", uid: 2 }],
      size: 3 * 2 ** 30,
    });
    expect(set.files).toMatchObject([
      { path: "/a", content: Buffer.from("new"), mode: 0o600, owner: "hpc" },
      { path: "/z", content: Buffer.from("from a file"), mode: 0o644, owner: "root:root" },
    ]);
    expect(set.inputs).toMatchObject([
      { name: `set ${join(directory, "base.yaml")}`, digest: expect.stringMatching(/^sha256:/) },
      { name: `set ${join(directory, "left.yaml")}` },
      { name: `set ${top}` },
      { name: "file /a", bytes: 3 },
      { name: "file /z", bytes: 11 },
    ]);
  });

  it("that goes round in a circle is refused, with the way", async () => {
    write("a.yaml", "name: a\ninclude: [b.yaml]\n");
    write("b.yaml", "name: b\ninclude: [c.yaml]\n");
    write("c.yaml", "name: c\ninclude:\n - minimal\n - a.yaml\n");
    const message = await problemsOf(join(directory, "a.yaml"));
    expect(message).toMatch(/c\.yaml:4:4: include\[1\]: the sets go round in a circle: /);
    expect(message).toMatch(/a\.yaml includes .*b\.yaml includes .*c\.yaml includes .*a\.yaml/);
    write("self.yaml", "name: self\ninclude: [self.yaml]\n");
    expect(await problemsOf(join(directory, "self.yaml"))).toMatch(/circle/);
  });

  it.each<[what: string, text: string, message: RegExp]>([
    ["an unknown key", "name: a\npackage: [x]\n", /2:1: package: unknown key \(did you mean packages\?\)/],
    ["no name", "packages: [x]\n", /name: is missing/],
    ["an option as package", "name: a\npackages: [--force]\n", /packages\[0\]/],
    ["two packages in one word", "name: a\npackages: ['a,b']\n", /packages\[0\]/],
    ["a path with ..", "name: a\nfiles: [{path: /etc/../x, content: y}]\n", /files\[0\]\.path/],
    ["a relative path", "name: a\nfiles: [{path: etc/x, content: y}]\n", /files\[0\]\.path/],
    [
      "a file with two contents",
      "name: a\nfiles: [{path: /x, content: y, link: z}]\n",
      /files\[0\]: give one of/,
    ],
    ["a file with none", "name: a\nfiles: [{path: /x}]\n", /files\[0\]: give one of/],
    ["a mode as number", "name: a\nfiles: [{path: /x, content: y, mode: 644}]\n", /files\[0\]\.mode/],
    ["a user with a shell's words", "name: a\nusers: [{name: 'a; rm'}]\n", /users\[0\]\.name/],
    ["a password in clear", "name: a\nusers: [{name: a, password: secret}]\n", /users\[0\]\.password/],
    ["a line that is no repository", "name: a\nrepositories: [http://x]\n", /repositories\[0\]/],
    ["YAML that is none", "name: [\n", /2:1/],
  ])("with %s is refused", async (_what, text, message) => {
    expect(await problemsOf(write("set.yaml", text))).toMatch(message);
  });

  it("that wants two releases is refused", async () => {
    write("old.yaml", "name: old\nsuite: bookworm\n");
    expect(await problemsOf(write("new.yaml", "name: new\ninclude: [old.yaml]\nsuite: trixie\n"))).toMatch(
      /3:1: suite: the sets want several releases: bookworm, trixie/,
    );
  });

  it("says on the command line what is wrong", async () => {
    const create = (set: string) => v2m("image", "create", "x", "--with-oscar", set);
    const missing = await create(join(directory, "nowhere.yaml"));
    expect(missing.code).toBe(5);
    expect(messageOf(missing).hint).toContain("compute, login, minimal");
    const wrong = await create(write("wrong.yaml", "name: a\npackage: [x]\n"));
    expect(wrong.code).toBe(2);
    expect(messageOf(wrong).hint).toContain("package-sets.md");
  });
});

describe("what is done in the new system", () => {
  it("quotes what the set says", async () => {
    const file = write(
      "set.yaml",
      JSON.stringify({
        name: "a",
        files: [
          { path: "/etc/it's $(here)", content: "x" },
          { path: "/l", link: "a 'b' $c" },
        ],
        users: [{ name: "hpc", password: "$6$salt$hash", sshKeys: ["ssh-ed25519 AAAA it's me"] }],
        services: { enable: ["a.service"], mask: ["b@c.timer"] },
      }),
    );
    const script = setupScript(await loadPackageSet(file));
    expect(script).toContain(`'/etc/it'\\''s $(here)'`);
    expect(script).toContain(`ln -sfn 'a '\\''b'\\'' $c' '/l'`);
    expect(script).toContain(`usermod -p '$6$salt$hash' hpc`);
    expect(script).toContain(`'ssh-ed25519 AAAA it'\\''s me'`);
    expect(script).toContain("systemctl -q enable 'a.service'");
    expect(script).toContain("systemctl -q mask 'b@c.timer'");
  });
});
