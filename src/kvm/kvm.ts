// SPDX-License-Identifier: Apache-2.0
/** /dev/kvm itself: what the host can do, and the way to VMs. */
import { hintFor, KvmError } from "../errors.js";
import { raw, rawError } from "../ffi/raw.js";
import { viewOf } from "../ffi/struct.js";
import { API_VERSION, Cap, type CapName } from "./constants.js";
import { decodeCpuid, readCpuid } from "./cpuid.js";
import { Handle } from "./handle.js";
import { System } from "./ioctl.js";
import type { CpuidEntry } from "./structs.js";
import { Vm } from "./vm.js";

export class Kvm implements Disposable {
  readonly path: string;
  readonly #handle: Handle;

  private constructor(path: string, handle: Handle) {
    this.path = path;
    this.#handle = handle;
  }

  /**
   * Open /dev/kvm.
   * @throws KvmError E_NO_KVM (absent, or not KVM), E_PERMISSION, E_UNSUPPORTED (another API version)
   */
  static open(path = "/dev/kvm"): Kvm {
    const fd = raw.open(path);
    if (fd < 0) {
      throw rawError(fd, `opening ${path}`);
    }
    const kvm = new Kvm(path, Handle.own(fd, path));
    const version = raw.ioctlValue(fd, System.GET_API_VERSION, 0);
    if (version !== API_VERSION) {
      kvm.close();
      const code = version < 0 ? "E_NO_KVM" : "E_UNSUPPORTED";
      const what = version < 0 ? "is not KVM" : `speaks version ${version} of the KVM interface`;
      throw new KvmError(code, `${path} ${what}`, { hint: hintFor(code), value: BigInt(version) });
    }
    return kvm;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  get closed(): boolean {
    return this.#handle.closed;
  }

  /** 12, always. */
  get apiVersion(): number {
    return this.#handle.ioctlValue(System.GET_API_VERSION, "KVM_GET_API_VERSION");
  }

  /** Bytes of a vCPU's kvm_run mapping. */
  get vcpuMmapSize(): number {
    return this.#handle.ioctlValue(System.GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE");
  }

  /** Value of a capability, by name or number; 0 means no. */
  checkExtension(cap: CapName | number): number {
    const number = typeof cap === "number" ? cap : Cap[cap];
    return this.#handle.ioctlValue(System.CHECK_EXTENSION, "KVM_CHECK_EXTENSION", number);
  }

  /** Every capability that this toolkit knows, by name. */
  extensions(): Record<CapName, number> {
    const names = Object.keys(Cap) as CapName[];
    return Object.fromEntries(names.map((name) => [name, this.checkExtension(name)])) as Record<
      CapName,
      number
    >;
  }

  /** The CPUID leaves that the host can give a guest. */
  supportedCpuid(): CpuidEntry[] {
    return this.#cpuid(System.GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID");
  }

  /** Those that KVM can emulate beyond the host's. */
  emulatedCpuid(): CpuidEntry[] {
    return this.#cpuid(System.GET_EMULATED_CPUID, "KVM_GET_EMULATED_CPUID");
  }

  #cpuid(request: number, what: string): CpuidEntry[] {
    return readCpuid((buffer) => this.#handle.ioctl(request, what, buffer), decodeCpuid);
  }

  /** Indices of the MSRs that can be saved and restored. */
  msrIndices(): number[] {
    return this.#msrs(System.GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST");
  }

  /** Indices of the MSRs that describe features. */
  msrFeatureIndices(): number[] {
    return this.#msrs(System.GET_MSR_FEATURE_INDEX_LIST, "KVM_GET_MSR_FEATURE_INDEX_LIST");
  }

  #msrs(request: number, what: string): number[] {
    const buffer = new Uint8Array(4 + 4 * 4096);
    const view = viewOf(buffer);
    view.setUint32(0, 4096, true);
    this.#handle.ioctl(request, what, buffer);
    return Array.from({ length: view.getUint32(0, true) }, (_, i) => view.getUint32(4 + 4 * i, true));
  }

  /** A VM without memory or vCPUs. It lives on when this object is closed. */
  createVm(): Vm {
    return Vm.create(this.#handle, this.vcpuMmapSize);
  }

  close(): void {
    this.#handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
