// SPDX-License-Identifier: Apache-2.0
/** Events of VMs as a program sees them, whichever process causes them. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FrontEvent, V3m } from "../../src/v3m/index.js";
import { TestVms } from "../support/vms.js";

let vms: TestVms;
let v3m: V3m;

beforeEach(() => {
  vms = new TestVms();
  v3m = vms.front();
});
afterEach(async () => await vms[Symbol.asyncDispose]());

const word = ({ name, kind, state, detail }: FrontEvent) =>
  `${name} ${kind === "state" ? state : kind}${kind === "definition" ? ` ${detail}` : ""}`;

/** Collects events until one is wanted. */
class Follower {
  readonly #abort = new AbortController();
  readonly #events: AsyncGenerator<FrontEvent>;
  readonly seen: string[] = [];

  constructor(options: Parameters<V3m["events"]>[0] = {}) {
    this.#events = vms.front().events({ ...options, signal: this.#abort.signal });
  }

  async until(last: string): Promise<string[]> {
    while (this.seen.at(-1) !== last) {
      const { value, done } = await this.#events.next();
      if (done === true) throw new Error(`the events ended before ${last}: ${this.seen}`);
      this.seen.push(word(value));
    }
    return this.seen;
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#events.next();
  }
}

describe("events", () => {
  it("come from other processes, of VMs that were not there, and end when nobody wants them", async () => {
    const follower = new Follower();
    const first = follower.until("a definition defined");
    await vms.v2m("define", vms.file("a"));
    await first;
    expect((await vms.v2m("start", "a")).code).toBe(0);
    expect((await vms.v2m("pause", "a")).code).toBe(0);
    await follower.until("a paused");
    await v3m.resume("a");
    await v3m.reset("a");
    await v3m.stop("a");
    await v3m.undefine("a");
    expect(await follower.until("a definition removed")).toEqual([
      "a definition defined",
      "a starting",
      "a running",
      "a paused",
      "a running",
      "a reset",
      "a stopping",
      "a stopped",
      "a definition removed",
    ]);
    await follower.end();
  });

  it("tell of a machine that ends by itself, with no command at all", async () => {
    await v3m.define(vms.definition("a"));
    await v3m.start("a");
    const follower = new Follower();
    const crashed = follower.until("a crashed");
    const console = await v3m.console("a");
    console.write("fail\n");
    expect(await crashed).toEqual(["a crashed"]);
    console.destroy();
    await follower.end();
  });

  it("that are kept can be read later, oldest first", async () => {
    for (const name of ["a", "b"]) await v3m.define(vms.definition(name));
    await v3m.start("a");
    const read = async (options: Parameters<V3m["events"]>[0]) => {
      const found: FrontEvent[] = [];
      for await (const event of v3m.events({ follow: false, past: true, ...options })) found.push(event);
      return found;
    };
    const all = await read({});
    expect(all.map(word)).toEqual([
      "a definition defined",
      "b definition defined",
      "a starting",
      "a running",
    ]);
    expect(all.map((event) => event.sequence)).toEqual([1, 1, 2, 3]);
    expect((await read({ matches: (name) => name === "b" })).map(word)).toEqual(["b definition defined"]);
    await expect(read({ matches: () => false })).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  });

  it("past ones come before those to come", async () => {
    await v3m.define(vms.definition("a"));
    const follower = new Follower({ past: true });
    await follower.until("a definition defined");
    await v3m.start("a");
    expect(await follower.until("a running")).toEqual(["a definition defined", "a starting", "a running"]);
    await follower.end();
  });
});
