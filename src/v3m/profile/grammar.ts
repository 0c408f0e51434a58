// SPDX-License-Identifier: Apache-2.0
/** The grammar of the 2007 profile: which elements, in which order, with which attributes. */
import { didYouMean } from "../did-you-mean.js";
import { DefinitionError, type Problem } from "../errors.js";
import { type Element, parseXml } from "./tree.js";

interface Rule {
  /** Name, and how often it may stand: `once`, `maybe`, `any`. */
  readonly children?: readonly (readonly [name: string, times: "once" | "maybe" | "some"])[];
  readonly attributes?: readonly string[];
  /** Attributes that must be there. */
  readonly required?: readonly string[];
}

const NIC: Rule = {
  children: [
    ["type", "once"],
    ["mac", "once"],
  ],
};

/** Elements by their path. Those without children hold text. */
const RULES: Readonly<Record<string, Rule>> = {
  profile: {
    children: [
      ["name", "once"],
      ["type", "once"],
      ["cpu", "maybe"],
      ["memory", "maybe"],
      ["image", "once"],
      ["virtual_disks", "maybe"],
      ["cdrom", "maybe"],
      ["nic1", "maybe"],
      ["nic2", "maybe"],
    ],
  },
  "profile/name": {},
  "profile/type": { attributes: ["option"] },
  "profile/cpu": {},
  "profile/memory": {},
  "profile/image": { attributes: ["size"] },
  "profile/virtual_disks": { children: [["virtual_disk", "some"]] },
  "profile/virtual_disks/virtual_disk": { attributes: ["id"], required: ["id"] },
  "profile/cdrom": {},
  "profile/nic1": NIC,
  "profile/nic1/type": { attributes: ["option"] },
  "profile/nic1/mac": {},
  "profile/nic2": NIC,
  "profile/nic2/type": { attributes: ["option"] },
  "profile/nic2/mac": {},
};

class Checker {
  readonly problems: Problem[] = [];

  #add(element: Element, path: string, message: string, hint?: string): void {
    const { line, column } = element;
    this.problems.push({ message, path, line, column, ...(hint === undefined ? {} : { hint }) });
  }

  check(element: Element, path: string): void {
    const rule = RULES[path] ?? {};
    this.#attributes(element, path, rule);
    if (rule.children === undefined) this.#leaf(element, path);
    else this.#inner(element, path, rule.children);
  }

  #attributes(element: Element, path: string, rule: Rule): void {
    const known = rule.attributes ?? [];
    for (const name of element.attributes.keys()) {
      if (!known.includes(name)) {
        const hint = known.length === 0 ? "it has none" : `known here: ${known.join(", ")}`;
        this.#add(element, path, `unknown attribute ${JSON.stringify(name)}`, hint);
      }
    }
    for (const name of rule.required ?? []) {
      if (!element.attributes.has(name)) this.#add(element, path, `attribute ${name} is missing`);
    }
  }

  #leaf(element: Element, path: string): void {
    for (const child of element.children)
      this.#add(child, `${path}/${child.name}`, "no element belongs here");
    if (element.text === "" && element.children.length === 0) {
      this.#add(element, path, "is empty", "leave the element away, or give it a value");
    }
  }

  #inner(element: Element, path: string, children: NonNullable<Rule["children"]>): void {
    if (element.text !== "") this.#add(element, path, `no text belongs here: ${element.text.slice(0, 40)}`);
    const names = children.map(([name]) => name);
    let reached = 0;
    const seen = new Set<string>();
    for (const child of element.children) {
      const at = names.indexOf(child.name);
      const inner = `${path}/${child.name}`;
      if (at < 0) {
        const meant = didYouMean(child.name, names);
        const hint = meant === undefined ? `known here: ${names.join(", ")}` : `did you mean ${meant}?`;
        this.#add(child, inner, "unknown element", hint);
        continue;
      }
      if (seen.has(child.name) && children[at]?.[1] !== "some") this.#add(child, inner, "stands twice");
      else if (at < reached) {
        this.#add(child, inner, `stands after ${names[reached]}`, `the order is ${names.join(", ")}`);
      }
      reached = Math.max(reached, at);
      seen.add(child.name);
      this.check(child, inner);
    }
    for (const [name, times] of children) {
      if (times !== "maybe" && !seen.has(name)) this.#add(element, path, `element ${name} is missing`);
    }
  }
}

/** Read a profile. @throws DefinitionError with all that the grammar does not allow */
export function readProfile(text: string, source: string): Element {
  const root = parseXml(text, source);
  const { line, column } = root;
  if (root.name !== "profile") {
    const message = `the root element is ${root.name}`;
    throw new DefinitionError(source, [{ message, path: "", line, column, hint: "it must be profile" }]);
  }
  const checker = new Checker();
  checker.check(root, "profile");
  if (checker.problems.length > 0) throw new DefinitionError(source, checker.problems);
  return root;
}
