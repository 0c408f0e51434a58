// SPDX-License-Identifier: Apache-2.0
// A complete hypervisor: 64-bit guest code, RAM, port I/O both ways, a memory-mapped device, every exit
// handled. After `make build`: node dist/examples/tiny-hypervisor.js
import { argv, stdout } from "node:process";
import { fileURLToPath } from "node:url";
import { getValue, Kvm, setupLongMode, setValue } from "../src/kvm/index.js";

const ENTRY = 0x10000;
const MESSAGE = ENTRY + 0x40;
const DEVICE = 0xd0000000n; // reads give a number, a write is the guest's answer
const code = `
  be 40 00 01 00 ;       mov  esi, MESSAGE
  ba f8 03 00 00 ;       mov  edx, 0x3f8
  ac             ; next: lodsb
  84 c0          ;       test al, al
  74 03          ;       jz   done
  ee             ;       out  dx, al
  eb f8          ;       jmp  next
  e4 60          ; done: in   al, 0x60
  ee             ;       out  dx, al
  b8 00 00 00 d0 ;       mov  eax, DEVICE
  48 8b 18       ;       mov  rbx, [rax]
  48 ff c3       ;       inc  rbx
  48 89 18       ;       mov  [rax], rbx
  f4             ;       hlt`;

/** Run the guest; give it `print` as its console; return what it wrote to the device. */
export function tinyHypervisor(print: (text: string) => void): bigint {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  try {
    const ram = vm.addMemory({ gpa: 0, size: 1 << 20 });
    ram.bytes.set(Buffer.from(code.replace(/;.*|\s/g, ""), "hex"), ENTRY);
    ram.bytes.set(Buffer.from("Hello from a guest, run by TypeScript\0"), MESSAGE);
    const vcpu = vm.createVcpu(0);
    vcpu.setCpuid(kvm.supportedCpuid());
    setupLongMode(vm, vcpu, { entry: ENTRY });
    let answer = 0n;
    for (;;) {
      const exit = vcpu.run();
      if (exit.reason === "io" && exit.direction === "out") print(String.fromCharCode(exit.data.getUint8(0)));
      else if (exit.reason === "io") setValue(exit.data, 0x21);
      else if (exit.reason === "mmio" && exit.address !== DEVICE) setValue(exit.data, -1);
      else if (exit.reason === "mmio" && exit.direction === "read") setValue(exit.data, 41);
      else if (exit.reason === "mmio") answer = getValue(exit.data);
      else if (exit.reason === "hlt") return answer;
      else throw new Error(`unexpected exit ${exit.reason}, rip 0x${vcpu.getRegs().rip.toString(16)}`);
    }
  } finally {
    vm.close();
    kvm.close();
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  console.log(`\nanswer: ${tinyHypervisor((text) => stdout.write(text))}`);
}
