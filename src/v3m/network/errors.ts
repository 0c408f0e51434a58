// SPDX-License-Identifier: Apache-2.0
import { type ErrorDetails, V3mError } from "../../errors.js";

/** A network interface of a VM's could not be made on the host, or removed from it. */
export class NetworkError extends V3mError {}

/** Without CAP_NET_ADMIN. */
export function denied(what: string, details: ErrorDetails = {}): NetworkError {
  return new NetworkError("E_PERMISSION", `${what}: not permitted`, {
    hint: "this needs root or CAP_NET_ADMIN; a NIC of type user needs neither, nor a tap device that root made for you: sudo ip tuntap add dev NAME mode tap user $USER",
    ...details,
  });
}
