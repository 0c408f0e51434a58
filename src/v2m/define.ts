// SPDX-License-Identifier: Apache-2.0
/** `v2m define`, `validate`, `convert`, `schema`, `show`: definitions, from files and into them. */
import { dirname, resolve } from "node:path";
import { V3mError } from "../errors.js";
import { Exit, exitCodeOf } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { complain, say, sayJson, write } from "./output.js";
import { errorJson } from "./report.js";
import { UsageError } from "./values.js";

export interface DefineFlags extends FrontFlags {
  readonly replace?: boolean;
}

/** Do something with every file; what goes wrong with one does not keep the others. */
async function onFiles<T extends object>(
  files: readonly string[],
  json: boolean,
  work: (file: string) => Promise<T>,
  text: (result: T) => string,
): Promise<number> {
  const results: object[] = [];
  let code: number = Exit.OK;
  for (const file of files) {
    try {
      const result = await work(file);
      results.push({ file, ...result });
      if (!json) say(text(result));
    } catch (error) {
      if (!(error instanceof V3mError)) throw error;
      const problems = "problems" in error ? { problems: error.problems } : {};
      results.push({ file, error: errorJson(error), ...problems });
      if (!json) complain(error, false);
      if (code === Exit.OK) code = exitCodeOf(error);
    }
  }
  if (json) sayJson(results);
  return code;
}

export async function define(files: readonly string[], flags: DefineFlags): Promise<number> {
  const v3m = openFront(flags);
  using interrupt = new Interrupt();
  const options = { replace: flags.replace === true, signal: interrupt.signal };
  return await onFiles(
    files,
    flags.json === true,
    async (file) => {
      const { name, uuid, type } = await v3m.define(file, options);
      return { name, uuid, type };
    },
    ({ name }) => `${name}: defined`,
  );
}

export async function validate(files: readonly string[], flags: FrontFlags): Promise<number> {
  const v3m = openFront(flags);
  return await onFiles(
    files,
    flags.json === true,
    async (file) => {
      const { name, type } = await v3m.validate(file);
      return { name, type, path: file };
    },
    ({ name, type, path }) => `${path}: valid, VM ${name} of type ${type}`,
  );
}

export interface ConvertFlags extends FrontFlags {
  readonly output?: string;
  readonly to?: string;
}

/** The form that is wanted: what was said, what the output's name says, or the other one. */
function formOf(flags: ConvertFlags, from: "yaml" | "xml"): "yaml" | "json" | "xml" {
  const wanted = flags.to ?? /\.(ya?ml|json|xml)$/i.exec(flags.output ?? "")?.[1]?.toLowerCase();
  switch (wanted) {
    case undefined:
      return from === "xml" ? "yaml" : "xml";
    case "yml":
    case "yaml":
      return "yaml";
    case "json":
    case "xml":
      return wanted;
    default:
      throw new UsageError(`--to ${wanted}: unknown form`, "one of yaml, json, xml");
  }
}

/** @returns the text in the other form; nothing is written */
export async function converted(file: string, flags: ConvertFlags): Promise<string> {
  const { readDefinition, resolveSource } = await import("../v3m/definition/load.js");
  const { moveDefinition, toJson, toYaml } = await import("../v3m/definition/write.js");
  const source = await readDefinition(file);
  const definition = resolveSource(source, { images: await openFront({}).imageLookup() });
  const target = flags.output === undefined ? source.directory : dirname(resolve(flags.output));
  const input = moveDefinition(source.input, source.directory, target);
  switch (formOf(flags, source.format)) {
    case "yaml":
      return toYaml(input);
    case "json":
      return toJson(input);
    case "xml": {
      const { writeProfile } = await import("../v3m/profile/index.js");
      return writeProfile(input, definition, file);
    }
  }
}

export async function convert(file: string, flags: ConvertFlags): Promise<number> {
  const text = await converted(file, flags);
  if (flags.output === undefined) {
    write(text);
    return Exit.OK;
  }
  const { writeFile } = await import("node:fs/promises");
  try {
    await writeFile(flags.output, text, { flag: "wx" });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === "EEXIST" ? "there is such a file already" : message;
    throw new V3mError("E_IO", `${flags.output}: ${why}`, {
      errno: code,
      hint: "give another name to -o",
      cause,
    });
  }
  if (flags.json === true) sayJson({ file, output: flags.output });
  return Exit.OK;
}

export async function schema(): Promise<number> {
  const { definitionJsonSchema } = await import("../v3m/definition/schema.js");
  sayJson(definitionJsonSchema());
  return Exit.OK;
}

export async function show(words: readonly string[], flags: FrontFlags): Promise<number> {
  const v3m = openFront(flags);
  const definitions = v3m.select(words).map((name) => v3m.definition(name));
  if (flags.json === true) {
    sayJson(definitions);
    return Exit.OK;
  }
  const { stringify } = await import("yaml");
  say(definitions.map((definition) => stringify(definition).trimEnd()).join("\n---\n"));
  return Exit.OK;
}
