// SPDX-License-Identifier: Apache-2.0
/** Network interfaces of a definition: addresses checked, and what was not given derived. */
import { isIPv4 } from "node:net";
import { interfaceProblem, MAC_HELP, macProblem, natRange, overlap, parseCidr } from "./address.js";
import { deriveMac, deriveRange, deriveTap } from "./derive.js";
import type { Problems } from "./problems.js";
import type { DefinitionInput } from "./schema.js";
import type { NatRange, PortForward, VmNic } from "./types.js";

type NicInput = NonNullable<DefinitionInput["nics"]>[number];
type Input<T extends NicInput["type"]> = Extract<NicInput, { type: T }>;

export interface NicContext {
  readonly uuid: string;
  /** Ranges that other VMs on this host have. */
  readonly takenRanges: readonly NatRange[];
  readonly problems: Problems;
}

const INTERFACE_HINT = "ip -br link shows the interfaces of this host";

class NicResolver {
  readonly #context: NicContext;
  readonly #index: number;
  readonly #id: string;
  readonly #taken: NatRange[];

  constructor(context: NicContext, index: number, taken: NatRange[]) {
    this.#context = context;
    this.#index = index;
    this.#id = `nic${index + 1}`;
    this.#taken = taken;
  }

  #problem(key: string, message: string, hint?: string): void {
    this.#context.problems.add(["nics", this.#index, key], message, hint);
  }

  #interface(key: string, name: string): string {
    const problem = interfaceProblem(name);
    if (problem !== undefined) this.#problem(key, `${JSON.stringify(name)} is ${problem}`, INTERFACE_HINT);
    return name;
  }

  #common(nic: NicInput): { id: string; mac: string; mtu?: number } {
    const mac = nic.mac?.toLowerCase() ?? deriveMac(this.#context.uuid, this.#id);
    const problem = macProblem(mac);
    if (problem !== undefined) this.#problem("mac", `${JSON.stringify(nic.mac)}: ${problem}`, MAC_HELP);
    return { id: this.#id, mac, ...(nic.mtu === undefined ? {} : { mtu: nic.mtu }) };
  }

  #tap(nic: Exclude<NicInput, { type: "user" }>) {
    const tap = nic.tap === undefined ? undefined : this.#interface("tap", nic.tap);
    return {
      ...this.#common(nic),
      tap: tap ?? deriveTap(this.#context.uuid, this.#id, this.#index),
      vhost: nic.vhost ?? false,
    };
  }

  #address(text: string): string {
    const cidr = parseCidr(text, 24);
    if (cidr === undefined || cidr.prefix === 0) {
      this.#problem(
        "address",
        `${JSON.stringify(text)} is not an IPv4 address`,
        "give one such as 192.0.2.1/24",
      );
      return text;
    }
    return `${cidr.address}/${cidr.prefix}`;
  }

  #range(nic: Input<"TUN/TAP+NAT">): NatRange {
    const NONE: NatRange = { network: "0.0.0.0", prefix: 30, host: "0.0.0.1", guest: "0.0.0.2" };
    if (nic.network === undefined) {
      const range = deriveRange(this.#context.uuid, this.#id, this.#taken);
      if (range === undefined)
        this.#problem("type", "no free network is left in 10.64.0.0/10", "give network");
      return range ?? NONE;
    }
    const cidr = parseCidr(nic.network, 24);
    const range = cidr === undefined ? undefined : natRange(cidr);
    if (range === undefined) {
      const hint = "give one such as 10.77.0.0/24, its prefix from 8 to 30";
      this.#problem("network", `${JSON.stringify(nic.network)} is not an IPv4 network`, hint);
      return NONE;
    }
    const other = this.#taken.find((one) => overlap(one, range));
    if (other !== undefined) {
      const text = `${other.network}/${other.prefix}`;
      this.#problem(
        "network",
        `${nic.network} overlaps ${text}, which another interface has`,
        "give another",
      );
    }
    return range;
  }

  #forward(text: string, index: number): PortForward {
    const [protocol, ...rest] = text.split(":");
    const address = rest[0]?.includes(".") === true ? rest.shift() : undefined;
    const [host = Number.NaN, guest = host] = rest.map(Number);
    const bad = [host, guest].some((port) => port < 1 || port > 65535);
    if (bad || (address !== undefined && !isIPv4(address))) {
      const at = ["nics", this.#index, "forward", index];
      this.#context.problems.add(at, `${JSON.stringify(text)}: no such address or port`, "give tcp:2222:22");
    }
    return { protocol: protocol === "udp" ? "udp" : "tcp", address: address ?? "127.0.0.1", host, guest };
  }

  resolve(nic: NicInput): VmNic {
    switch (nic.type) {
      case "TUN/TAP": {
        const address = nic.address === undefined ? {} : { address: this.#address(nic.address) };
        return { type: nic.type, ...this.#tap(nic), ...address };
      }
      case "TUN/TAP+NAT": {
        const range = this.#range(nic);
        this.#taken.push(range);
        return { type: nic.type, ...this.#tap(nic), range };
      }
      case "BRIDGED_TAP":
        return { type: nic.type, ...this.#tap(nic), bridge: this.#interface("bridge", nic.bridge) };
      case "VLAN": {
        const parent = this.#interface("parent", nic.parent);
        return { type: nic.type, ...this.#tap(nic), parent, vlan: nic.vlan };
      }
      case "user":
        return {
          type: nic.type,
          ...this.#common(nic),
          forward: (nic.forward ?? []).map((text, i) => this.#forward(text, i)),
        };
    }
  }
}

/** Two interfaces of one VM must not have the same address, nor the same tap. */
function distinct(nics: readonly VmNic[], problems: Problems): void {
  for (const key of ["mac", "tap"] as const) {
    const seen = new Map<string, string>();
    nics.forEach((nic, index) => {
      const value = key in nic ? (nic as unknown as Record<string, string>)[key] : undefined;
      if (value === undefined) return;
      const other = seen.get(value);
      if (other !== undefined)
        problems.add(["nics", index, key], `${value} is that of ${other} too`, "give another");
      seen.set(value, nic.id);
    });
  }
}

export function resolveNics(nics: readonly NicInput[], context: NicContext): VmNic[] {
  const taken = [...context.takenRanges];
  const resolved = nics.map((nic, index) => new NicResolver(context, index, taken).resolve(nic));
  distinct(resolved, context.problems);
  return resolved;
}
