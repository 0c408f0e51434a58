// SPDX-License-Identifier: Apache-2.0
/** What goes wrong in a back end. */
import { V3mError } from "../../errors.js";

/** The hypervisor, or the program that it is, could not do what it was asked for. */
export class HypervisorError extends V3mError {}
