/** The Intel machine: emulated by Bochs, with VMX and EPT, on any host. */
import type { TestbedMachine } from "../testbed.js";
import { IntelMachine } from "./machine.js";

export const machine: TestbedMachine = new IntelMachine();
