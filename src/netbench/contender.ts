// SPDX-License-Identifier: Apache-2.0
/** Who is measured: a path between guests, or a floor. */
import type { FloorName, PathName, TestName } from "./names.js";
import type { Request } from "./plan.js";
import type { Sample } from "./program.js";

/** What one measurement gave. */
export interface Outcome {
  /** Of each pair. */
  readonly samples: readonly Sample[];
  /** What guests caused meanwhile, of all pairs; null where there are none. */
  readonly exits: number | null;
  /** Interrupts that went into guests; null where KVM does not count them. */
  readonly interrupts: number | null;
  /** CPU time of this host's, of both sides of all pairs. */
  readonly cpuNs: number;
}

export interface Contender {
  readonly id: PathName | FloorName;
  readonly kind: "path" | "floor";
  readonly tests: readonly TestName[];
  /** What measures, with its version; V3M's own program where it is not given. */
  readonly program?: string;
  /** The command lines that measure, for who wants to repeat it. */
  commands(request: Request): readonly string[];
  /** Why it cannot do this, or undefined. */
  refusal(request: Pick<Request, "pairs" | "wait">): string | undefined;
  /** @throws V3mError; the contender is of no use then */
  run(request: Request): Promise<Outcome>;
}

/** A path, or what stands in its way. */
export type Offer = { readonly contender: Contender } | { readonly id: PathName; readonly skipped: string };
