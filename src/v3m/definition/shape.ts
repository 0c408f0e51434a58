// SPDX-License-Identifier: Apache-2.0
/** Checks a document against the schema; says what is wrong in words for people, with a suggestion. */
import type { z } from "zod";
import { didYouMean } from "../did-you-mean.js";
import type { Path } from "./document.js";
import type { Problems } from "./problems.js";
import { type DefinitionInput, definitionJsonSchema, definitionSchema } from "./schema.js";

type Issue = z.core.$ZodIssue;

/** What is used here of a JSON Schema. */
interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly const?: unknown;
}

function branches(schema: Schema): readonly Schema[] {
  const inner = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  return inner.length > 0 ? inner.flatMap(branches) : [schema];
}

function step(schema: Schema, part: string | number): readonly Schema[] {
  const found = typeof part === "number" ? schema.items : schema.properties?.[part];
  return found === undefined ? [] : branches(found);
}

/** Whether a value may be one of this branch, as far as its constants tell (`type` of a network interface). */
function fits(schema: Schema, value: unknown): boolean {
  return Object.entries(schema.properties ?? {}).every(
    ([key, property]) =>
      property.const === undefined ||
      (value as Record<string, unknown> | null)?.[key] === undefined ||
      (value as Record<string, unknown>)[key] === property.const,
  );
}

function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, part) => (value as Record<string | number, unknown>)?.[part], root);
}

/** A document, and the JSON Schema that it is to follow. */
interface Root {
  readonly value: unknown;
  readonly schema: () => Schema;
}

/** The keys that the mapping at a path may have. */
function knownKeys(path: Path, root: Root): string[] {
  let schemas = branches(root.schema());
  for (const part of path) {
    schemas = schemas.flatMap((schema) => step(schema, part));
  }
  const value = valueAt(root.value, path);
  const matching = schemas.filter((schema) => fits(schema, value));
  return [...new Set(matching.flatMap((schema) => Object.keys(schema.properties ?? {})))];
}

function describe(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a mapping" : JSON.stringify(value);
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a mapping (key: value)",
  array: "a list",
  record: "a mapping (key: value)",
};

const choice = (values: readonly unknown[]) => `one of ${values.map(String).join(", ")}`;

/** Whether the value is of another kind than this issue's schema wants, so that there is nothing inside to look at. */
function isOtherKind(issue: Issue): boolean {
  if (issue.path.length > 0) return false;
  return issue.code === "invalid_union"
    ? issue.errors.length > 0 && issue.errors.every((inner) => inner.some(isOtherKind))
    : issue.code === "invalid_type" || issue.code === "invalid_value";
}

/** The branch of a union that the value was most likely meant for: the one that finds the least wrong inside it. */
function likeliest(all: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  const inside = all.filter((issues) => !issues.some(isOtherKind));
  return inside.toSorted((a, b) => a.length - b.length)[0];
}

function pathOf(issue: Issue, at: Path): Path {
  return [...at, ...issue.path.filter((part) => typeof part !== "symbol")];
}

function unknownKeys(keys: readonly string[], path: Path, root: Root, problems: Problems): void {
  const known = knownKeys(path, root);
  for (const key of keys) {
    const meant = didYouMean(key, known);
    const hint = meant === undefined ? `known here: ${known.join(", ")}` : `did you mean ${meant}?`;
    problems.add([...path, key], "unknown key", hint);
  }
}

function report(issue: Issue, at: Path, root: Root, problems: Problems): void {
  const path = pathOf(issue, at);
  const value = valueAt(root.value, path);
  const is = value === undefined ? "is missing" : `${describe(value)} is not valid here`;
  switch (issue.code) {
    case "unrecognized_keys":
      unknownKeys(issue.keys, path, root, problems);
      return;
    case "invalid_type": {
      const expected = EXPECTED[issue.expected] ?? issue.expected;
      const quote =
        issue.expected === "string" && typeof value === "number" ? `: write it as "${value}"` : "";
      problems.add(path, is, `give ${expected}${quote}`);
      return;
    }
    case "invalid_value": {
      const meant = typeof value === "string" ? didYouMean(value, issue.values.map(String)) : undefined;
      problems.add(path, is, meant === undefined ? choice(issue.values) : `did you mean ${meant}?`);
      return;
    }
    case "invalid_union": {
      const branch = likeliest(issue.errors);
      if (branch !== undefined) {
        for (const inner of branch) report(inner, path, root, problems);
        return;
      }
      const options = (issue as { readonly options?: readonly unknown[] }).options;
      if (options === undefined) {
        problems.add(path, is, issue.message);
        return;
      }
      const meant = typeof value === "string" ? didYouMean(value, options.map(String)) : undefined;
      problems.add(path, is, meant === undefined ? choice(options) : `did you mean ${meant}?`);
      return;
    }
    case "invalid_format":
    case "invalid_key":
      problems.add(
        path,
        issue.code === "invalid_key" ? "not a valid key" : is,
        issue.code === "invalid_key" ? issue.issues[0]?.message : issue.message,
      );
      return;
    default:
      problems.add(path, is, issue.message);
  }
}

/**
 * Check a value against any schema.
 * @param jsonSchema the same as JSON Schema, for suggestions
 * @returns the value, or undefined where problems were added
 */
export function checkAgainst<T>(
  schema: z.ZodType<unknown, T>,
  jsonSchema: () => object,
  value: unknown,
  problems: Problems,
): T | undefined {
  const result = schema.safeParse(value);
  if (result.success) return value as T;
  const root: Root = { value, schema: () => jsonSchema() as Schema };
  for (const issue of result.error.issues) report(issue, [], root, problems);
  return undefined;
}

/** @returns the document's value, or undefined where problems were added */
export function checkShape(value: unknown, problems: Problems): DefinitionInput | undefined {
  return checkAgainst<DefinitionInput>(definitionSchema, definitionJsonSchema, value, problems);
}
