// SPDX-License-Identifier: Apache-2.0
/**
 * Gangs: VMs whose vCPUs start and stop together (docs/decisions/0025-gangs-wait-at-a-gate.md). A verb on one of them is
 * done on all; each gets ready by itself, then waits at a gate until all are, and none goes through where one has failed.
 */
import { V3mError } from "../errors.js";
import type { OperationOptions } from "../vmm/backend.js";
import { TRANSITIONS } from "./states.js";
import type { Store } from "./store/store.js";
import type { VmInfo } from "./v3m.js";

/** The verbs that a gang does as one. */
export type GangVerb = "start" | "stop" | "pause" | "resume";

/** Lets those who wait go on once as many are there as are expected; or fails for all of them. */
export class Gate {
  readonly #expected: number;
  #arrived = 0;
  readonly #open: Promise<void>;
  #release: () => void = () => {};
  #refuse: (error: Error) => void = () => {};

  constructor(expected: number) {
    this.#expected = expected;
    this.#open = new Promise((resolve, reject) => {
      this.#release = resolve;
      this.#refuse = reject;
    });
    this.#open.catch(() => {}); // nobody may be waiting
  }

  /** One more is ready. @throws what another one failed with */
  pass(signal?: AbortSignal): Promise<void> {
    if (++this.#arrived === this.#expected) this.#release();
    if (signal === undefined) return this.#open;
    const aborted = new Promise<never>((_, reject) => {
      const abort = () => reject(signal.reason as Error);
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort, { once: true });
    });
    return Promise.race([this.#open, aborted]);
  }

  fail(error: Error): void {
    this.#refuse(error);
  }
}

/** For those that wait when another one cannot go on. */
function notTogether(gang: string, verb: GangVerb, member: string, cause: unknown): V3mError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new V3mError("E_VM_STATE", `${verb} of gang ${gang}: ${member} cannot: ${why}`, {
    hint: `all of a gang ${verb} together, or none: v2m status ${member}`,
    cause,
  });
}

/** The VMs that say they belong to a gang. One that cannot be read belongs to none. */
export function gangMembers(store: Store, gang: string): string[] {
  return store.scan().names.filter((name) => gangOf(store, name) === gang);
}

export function gangOf(store: Store, name: string): string | undefined {
  try {
    return store.definition(name).performance?.gang;
  } catch {
    return undefined;
  }
}

export interface GangWork {
  readonly store: Store;
  readonly waitMs: number;
  /** What the members are now. */
  readonly list: (names: readonly string[]) => Promise<readonly VmInfo[]>;
  /** The verb on one of them; a start waits at `options.gate`. */
  readonly act: (name: string, options: OperationOptions) => Promise<void>;
  /** End a member that was started although another one was not. */
  readonly undo: (name: string) => Promise<void>;
}

/**
 * A verb on the gang of a VM: on it, and on all members whose state allows the verb. The others are passed over: those
 * that run already, those that do not run.
 * @throws the first error that a member met by itself; then none has started
 */
export async function together(
  name: string,
  gang: string,
  verb: GangVerb,
  work: GangWork,
  options: OperationOptions,
): Promise<void> {
  const { store, waitMs } = work;
  await store.withGang(gang, { waitMs, signal: options.signal }, async () => {
    const from: readonly string[] = TRANSITIONS[verb].from;
    const able = (await work.list(gangMembers(store, gang)))
      .filter((info) => info.name === name || from.includes(info.state))
      .map((info) => info.name);
    await pass(able, gang, verb, work, options);
  });
}

async function pass(
  members: readonly string[],
  gang: string,
  verb: GangVerb,
  work: GangWork,
  options: OperationOptions,
): Promise<void> {
  const gate = new Gate(members.length);
  const done: string[] = [];
  let first: unknown;
  await Promise.all(
    members.map(async (member) => {
      // A back end that knows no gate is ready when it is done.
      let waited = false;
      const atGate = () => {
        waited = true;
        return gate.pass(options.signal);
      };
      try {
        await work.act(member, { ...options, gate: atGate });
        done.push(member);
        if (!waited) await gate.pass(options.signal);
      } catch (error) {
        first ??= error;
        gate.fail(notTogether(gang, verb, member, error));
      }
    }),
  );
  if (first === undefined) return;
  if (verb === "start") await Promise.all(done.map((member) => work.undo(member)));
  throw first;
}
