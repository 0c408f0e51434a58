// SPDX-License-Identifier: Apache-2.0
/** Package sets from files, with what they include, as one. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Digest, Input } from "../../images/types.js";
import { packageRoot } from "../../package-root.js";
import { type ParsedDocument, parseText } from "../definition/document.js";
import { NAME } from "../definition/name.js";
import { Problems } from "../definition/problems.js";
import { checkAgainst } from "../definition/shape.js";
import { decode } from "../definition/text.js";
import { parseBytes } from "../definition/units.js";
import { DefinitionError, StoreError } from "../errors.js";
import { type PackageSetInput, packageSetJsonSchema, packageSetSchema } from "./schema.js";

const HINT = "docs/reference/package-sets.md describes package sets";
const SET_MAX = 1 << 20;
const FILE_MAX = 256 << 20;
const DEFAULT_SIZE = 2 ** 30;
/** Partition table and alignment take two of these. */
export const MIB = 1 << 20;

export interface SetFile {
  readonly path: string;
  readonly kind: "file" | "link" | "directory";
  /** Of a file its bytes, of a link its target. */
  readonly content: Buffer;
  /** Permission bits. */
  readonly mode: number;
  readonly owner: string;
}

export type SetUser = NonNullable<PackageSetInput["users"]>[number];

/** A set with all that it includes, checked. */
export interface PackageSet {
  readonly name: string;
  readonly suite?: string;
  /** None: those of the host. */
  readonly repositories: readonly string[];
  /** Sorted. */
  readonly packages: readonly string[];
  readonly leaveOut: readonly string[];
  /** In the order in which they are made: by path, so that directories come before what is in them. */
  readonly files: readonly SetFile[];
  readonly users: readonly SetUser[];
  readonly services: {
    readonly enable: readonly string[];
    readonly disable: readonly string[];
    readonly mask: readonly string[];
  };
  readonly scripts: readonly string[];
  /** Bytes of the disk, a multiple of 1 MiB. */
  readonly size: number;
  /** The files that it was read from, and those that go into the image. */
  readonly inputs: readonly Input[];
}

const SETS = join(packageRoot(), "sets");

/** Names of the sets that V3M ships with. */
export function shippedSets(): string[] {
  return readdirSync(SETS)
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => name.slice(0, -5))
    .sort();
}

/** The file of a set: a shipped one by its name, any other by its path. */
function fileOf(word: string, directory: string): string {
  const shipped = join(SETS, `${word}.yaml`);
  return NAME.test(word) && !/\.(ya?ml|json)$/.test(word) && existsSync(shipped)
    ? shipped
    : resolve(directory, word);
}

async function readBounded(path: string, max: number, what: string): Promise<Buffer> {
  try {
    const { size } = await stat(path);
    if (size > max) throw new Error(`larger than ${max} bytes`);
    return await readFile(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : message;
    throw new StoreError("E_IO", `${path}: ${why}`, { errno: code, hint: what, cause });
  }
}

interface Part {
  readonly file: string;
  readonly input: PackageSetInput;
  readonly document: ParsedDocument;
  readonly digest: Digest;
  readonly bytes: number;
}

const digestOf = (data: Buffer): Digest => `sha256:${createHash("sha256").update(data).digest("hex")}`;

async function readPart(file: string): Promise<Part> {
  const data = await readBounded(
    file,
    SET_MAX,
    `give the path of a package set, or one of ${shippedSets().join(", ")}`,
  );
  const document = parseText(decode(data, file), file);
  const problems = new Problems(file, document, HINT);
  const input = checkAgainst<PackageSetInput>(
    packageSetSchema,
    packageSetJsonSchema,
    document.value,
    problems,
  );
  input?.files?.forEach((one, i) => {
    const given = (["content", "source", "link", "directory"] as const).filter(
      (key) => one[key] !== undefined,
    );
    if (given.length !== 1) problems.add(["files", i], "give one of content, source, link, directory");
  });
  problems.throwIfAny();
  return { file, input: input as PackageSetInput, document, digest: digestOf(data), bytes: data.length };
}

/** The set and what it includes, each once, what is included first. @throws DefinitionError for a circle */
async function collect(file: string, trail: readonly string[], found: Map<string, Part>): Promise<void> {
  if (found.has(file)) return;
  const part = await readPart(file);
  for (const [i, word] of (part.input.include ?? []).entries()) {
    const next = fileOf(word, dirname(file));
    const way = [...trail, file];
    if (way.includes(next)) {
      const circle = [...way.slice(way.indexOf(next)), next].join(" includes ");
      const position = part.document.locate(["include", i]);
      const problem = {
        path: `include[${i}]`,
        message: `the sets go round in a circle: ${circle}`,
        ...position,
      };
      throw new DefinitionError(file, [problem], HINT);
    }
    await collect(next, way, found);
  }
  found.set(file, part);
}

async function setFile(one: NonNullable<PackageSetInput["files"]>[number], from: string): Promise<SetFile> {
  const { path, content, source, link, directory, mode, owner } = one;
  const kind = link !== undefined ? "link" : directory === true ? "directory" : "file";
  const data =
    source === undefined
      ? Buffer.from(content ?? link ?? "")
      : await readBounded(resolve(dirname(from), source), FILE_MAX, `it is a file of ${from}`);
  const usual = kind === "directory" ? 0o755 : 0o644;
  return {
    path,
    kind,
    content: data,
    mode: mode === undefined ? usual : Number.parseInt(mode, 8),
    owner: owner ?? "root:root",
  };
}

/** Later values of a key win. */
function byKey<T>(items: readonly T[], key: (item: T) => string): T[] {
  return [...new Map(items.map((item) => [key(item), item])).values()];
}

const unique = (items: readonly (readonly string[] | undefined)[]) => [
  ...new Set(items.flatMap((item) => item ?? [])),
];

function suiteOf(parts: readonly Part[]): string | undefined {
  const [suite, ...others] = unique(
    parts.map(({ input }) => (input.suite === undefined ? [] : [input.suite])),
  );
  if (others.length === 0) return suite;
  const { file, document } = parts.at(-1) as Part;
  const message = `the sets want several releases: ${[suite, ...others].join(", ")}`;
  throw new DefinitionError(file, [{ path: "suite", message, ...document.locate(["suite"]) }], HINT);
}

/**
 * Read a set, with all that it includes. What later sets say of a file or a user replaces what earlier ones said;
 * lists are joined.
 * @param word name of a set that V3M ships with, or a path. @param directory where relative paths begin
 * @throws DefinitionError with lines, StoreError E_IO
 */
export async function loadPackageSet(word: string, directory = process.cwd()): Promise<PackageSet> {
  const found = new Map<string, Part>();
  await collect(fileOf(word, directory), [], found);
  const parts = [...found.values()];
  const inputs = parts.map(({ input }) => input);
  const files = await Promise.all(
    parts.flatMap(({ input, file }) => (input.files ?? []).map((one) => setFile(one, file))),
  );
  const sorted = byKey(files, ({ path }) => path).sort((a, b) => (a.path < b.path ? -1 : 1));
  const suite = suiteOf(parts);
  const sizes = inputs.map(({ size }) => (size === undefined ? 0 : (parseBytes(size) ?? 0)));
  const size = Math.max(...sizes) || DEFAULT_SIZE;
  return {
    name: inputs.at(-1)?.name ?? "",
    ...(suite === undefined ? {} : { suite }),
    repositories: unique(inputs.map(({ repositories }) => repositories)),
    packages: unique(inputs.map(({ packages }) => packages)).sort(),
    leaveOut: unique(inputs.map(({ leaveOut }) => leaveOut)),
    files: sorted,
    users: byKey(
      inputs.flatMap(({ users }) => users ?? []),
      ({ name }) => name,
    ),
    services: {
      enable: unique(inputs.map(({ services }) => services?.enable)),
      disable: unique(inputs.map(({ services }) => services?.disable)),
      mask: unique(inputs.map(({ services }) => services?.mask)),
    },
    scripts: inputs.flatMap(({ scripts }) => scripts ?? []),
    size: Math.ceil(size / MIB) * MIB,
    inputs: [
      ...parts.map(({ file, digest, bytes }) => ({ name: `set ${file}`, digest, bytes })),
      ...sorted
        .filter(({ kind }) => kind === "file")
        .map(({ path, content }) => ({
          name: `file ${path}`,
          digest: digestOf(content),
          bytes: content.length,
        })),
    ],
  };
}
