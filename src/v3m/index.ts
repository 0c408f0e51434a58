// SPDX-License-Identifier: Apache-2.0
/** The V3M front end. So far: the type of a back end; definitions, store and back ends follow. */
export type * from "../vmm/backend.js";
