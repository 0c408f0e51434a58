// SPDX-License-Identifier: Apache-2.0
/** Events of a machine in a monitor, as they come. */
import type { VmEvent, VmState } from "../../../vmm/backend.js";
import type { Machine, MachineState } from "../../../vmm/index.js";

const STATES: Readonly<Record<MachineState, VmState>> = {
  created: "starting",
  running: "running",
  paused: "paused",
  stopped: "stopped",
  crashed: "crashed",
};

/** Until the machine has ended. */
export async function* machineEvents(machine: Machine, signal?: AbortSignal): AsyncGenerator<VmEvent> {
  const end = new AbortController();
  const queue: VmEvent[] = [];
  let wake = () => {};
  const push = (event: Omit<VmEvent, "time">) => {
    queue.push({ ...event, time: new Date() });
    wake();
  };
  machine.on("state", (state) => {
    if (state === "running" || state === "paused") push({ name: state, kind: "state", state: STATES[state] });
  });
  machine.on("reset", (count) => push({ name: "reset", kind: "reset", detail: `reset ${count}` }));
  machine.on("moduleFailed", (error) =>
    push({ name: "module-failed", kind: "device", detail: error.message }),
  );
  machine.once("stop", (info) => {
    push({ name: "ended", kind: "state", state: STATES[info.state], detail: info.text });
    end.abort();
    wake();
  });
  signal?.addEventListener("abort", () => wake());
  for (;;) {
    signal?.throwIfAborted();
    const event = queue.shift();
    if (event !== undefined) {
      yield event;
    } else if (end.signal.aborted) {
      return;
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}
