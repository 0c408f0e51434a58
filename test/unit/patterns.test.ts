// SPDX-License-Identifier: Apache-2.0
/** Words that name several VMs, and suggestions for words that name none. */
import { describe, expect, it } from "vitest";
import { didYouMean } from "../../src/v3m/did-you-mean.js";
import { expandRanges, selectNames } from "../../src/v3m/patterns.js";

const all = ["vm0", "vm1", "vm2", "vm10", "node01", "node02", "node10", "db.main", "a"];

describe("words for VMs", () => {
  it.each<[words: string[], names: string[]]>([
    [["vm1"], ["vm1"]],
    [["vm[0-2]"], ["vm0", "vm1", "vm2"]],
    [["vm[2,0]"], ["vm2", "vm0"]],
    [["vm[0-1,10]"], ["vm0", "vm1", "vm10"]],
    [["node[01-02,10]"], ["node01", "node02", "node10"]],
    [["node[1-2]*"], []],
    [["node1*"], ["node10"]],
    [["vm*"], ["vm0", "vm1", "vm2", "vm10"]],
    [["vm?"], ["vm0", "vm1", "vm2"]],
    [["*.main"], ["db.main"]],
    [["*"], all],
    [
      ["vm1", "vm*", "vm[1-2]"],
      ["vm1", "vm0", "vm2", "vm10"],
    ],
    [["node[0,1][1-2,0]"], []],
  ])("%j", (words, names) => {
    if (names.length === 0)
      expect(() => selectNames(words, all)).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
    else expect(selectNames(words, all)).toEqual(names);
  });

  it("have ranges with leading zeros, and several of them", () => {
    expect(expandRanges("n[08-11]")).toEqual(["n08", "n09", "n10", "n11"]);
    expect(expandRanges("r[1-2]n[1-2]x")).toEqual(["r1n1x", "r1n2x", "r2n1x", "r2n2x"]);
    expect(expandRanges("plain")).toEqual(["plain"]);
  });

  it.each([
    "vm[",
    "vm]",
    "vm[a-b]",
    "vm[]",
    "vm[3-1]",
    "vm[1-",
    "vm[[1]]",
    "vm[0-99999999]",
    "a[0-999]b[0-999]",
  ])("are refused: %s", (word) => {
    expect(() => selectNames([word], all)).toThrow(
      expect.objectContaining({ code: "E_USAGE", hint: expect.stringContaining("vm[0-7,9]") }),
    );
  });

  it("name VMs that there are: others are told, with a suggestion", () => {
    expect(() => selectNames(["wm1"], all)).toThrow(
      expect.objectContaining({ code: "E_NOT_FOUND", hint: "did you mean vm1?" }),
    );
    expect(() => selectNames(["x*"], all)).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
    expect(() => selectNames(["vm1", "nothing-of-the-kind"], all)).toThrow(/nothing-of-the-kind/);
    expect(() => selectNames(["../etc"], all)).toThrow(expect.objectContaining({ code: "E_NOT_FOUND" }));
    expect(selectNames(["db.main"], ["db.main", "dbxmain"])).toEqual(["db.main"]);
    expect(selectNames(["db.*"], ["db.main", "dbxmain"])).toEqual(["db.main"]);
  });
});

describe("a suggestion", () => {
  it.each([
    ["memroy", "memory"],
    ["cpu", "cpus"],
    ["read_only", "readOnly"],
    ["READONLY", "readOnly"],
    ["qwertyuiop", undefined],
    ["", undefined],
  ])("%s: %s", (word, meant) => {
    expect(didYouMean(word, ["memory", "cpus", "readOnly", "disks"])).toBe(meant);
  });
});
