// SPDX-License-Identifier: Apache-2.0
/** Run by v3m-supervise after a machine's end; see sweepNetwork(). */
import { sweepNetwork } from "./index.js";

await sweepNetwork();
