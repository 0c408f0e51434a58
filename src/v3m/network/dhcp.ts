// SPDX-License-Identifier: Apache-2.0
/** What the DHCP server of v3m-supervise (native/supervise/dhcp.h) is to tell the guest of a NIC with translation. */
import type { VmNic } from "../definition/types.js";
import { nameServers } from "./name-servers.js";

/** `DEVICE,HOST,GUEST,PREFIX,MAC[,NAME SERVER]…`, one for each such NIC. */
export async function dhcpNetworks(nics: readonly VmNic[]): Promise<string[]> {
  const servers = await nameServers();
  return nics.flatMap((nic) => {
    if (nic.type !== "TUN/TAP+NAT") return [];
    const { host, guest, prefix } = nic.range;
    return [[nic.tap, host, guest, prefix, nic.mac, ...servers].join(",")];
  });
}
