import { expect, it } from "vitest";
import { Machine } from "../../src/vmm/index.js";
import { suite } from "../support/capabilities.js";
import { hex } from "../support/raw-guest.js";

suite("zz", { needs: ["kvm"] }, () => {
  for (const [name, code] of [
    ["sti spin", "fb eb fe"],
    ["cli spin", "fa eb fe"],
  ] as const) {
    it(name, async () => {
      await using m = await Machine.create({
        kernel: hex(code),
        kind: "flat64",
        loadAddress: 0x100000,
        memory: 4 << 20,
      });
      m.start();
      await new Promise((r) => setTimeout(r, 200));
      console.log("pausing");
      await m.pause();
      console.log("paused", m.stats().vcpus[0]?.runs);
      expect(m.state).toBe("paused");
    });
  }
});
