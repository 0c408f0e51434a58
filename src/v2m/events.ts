// SPDX-License-Identifier: Apache-2.0
/** `v2m events`: what happens to VMs, as it happens. */
import type { FrontEvent } from "../v3m/events.js";
import { Exit } from "./exit-codes.js";
import { type FrontFlags, Interrupt, openFront } from "./front.js";
import { formatTime, say, sayJsonLine } from "./output.js";

export interface EventFlags extends FrontFlags {
  readonly past?: boolean;
  readonly follow?: boolean;
}

function describe(event: FrontEvent): string {
  const { time, name, kind, state, detail } = event;
  const what = kind === "state" ? (state ?? kind) : kind;
  return `${formatTime(time)}  ${name}  ${what}${detail === undefined ? "" : `: ${detail}`}`;
}

export async function events(words: readonly string[], flags: EventFlags): Promise<number> {
  const v3m = openFront(flags);
  const names = words.length === 0 ? undefined : new Set(v3m.select(words));
  using interrupt = new Interrupt();
  const follow = flags.follow !== false;
  const found = v3m.events({
    ...(names === undefined ? {} : { matches: (name: string) => names.has(name) }),
    past: flags.past === true || !follow,
    follow,
    signal: interrupt.signal,
  });
  for await (const event of found) {
    if (flags.json === true) sayJsonLine(event);
    else say(describe(event));
  }
  return Exit.OK;
}
