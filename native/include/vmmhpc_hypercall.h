/* SPDX-License-Identifier: Apache-2.0 */
/*
 * V3M's hypercall gate, for guests and for modules (docs/reference/modules.md).
 *
 * KVM answers VMCALL and VMMCALL by itself, and a host without virtualization hardware hangs on
 * them. So a hypercall is a 32-bit write that leaves the guest once, with its number in EAX:
 *
 *     EAX             VMMHPC_HYPERCALL(number); must be the register that is written
 *     DX              VMMHPC_HYPERCALL_PORT         OUT DX, EAX; or, where ports are not for it,
 *     [memory]        VMMHPC_HYPERCALL_GPA          MOV [address], EAX
 *     RDI, RSI, RCX, RBX, R8, R9                    six arguments (32-bit guests: the first four)
 *     RAX             the result; all other registers stay
 *
 * Works in any mode and at any privilege that may write the port or the page. A machine without the
 * gate ignores the write, and RAX stays what it was: probe first.
 */
#ifndef VMMHPC_HYPERCALL_H
#define VMMHPC_HYPERCALL_H

#include <stdint.h>

#define VMMHPC_HYPERCALL_PORT 0xe10u
#define VMMHPC_HYPERCALL_GPA 0xfef00000u /* one page; the call is a write to its first 4 bytes */

/** What is in EAX. A write of anything else is ignored, and changes no register. */
#define VMMHPC_HYPERCALL_SIGNATURE 0x56330000u /* "V3" */
#define VMMHPC_HYPERCALL(number) (VMMHPC_HYPERCALL_SIGNATURE | (number))

/** Numbers: the machine's own below, those of modules from here on. */
#define VMMHPC_HYPERCALL_FIRST 0x100u
#define VMMHPC_HYPERCALL_LAST 0xffffu

/** Number 0: is this V3M? The result is VMMHPC_HYPERCALL_HERE | version (1). */
#define VMMHPC_HYPERCALL_PROBE 0u
#define VMMHPC_HYPERCALL_HERE 0x56334d00000000ull /* "V3M" */

/** Results from -4095 to -1 are errors. The gate's own: */
#define VMMHPC_HYPERCALL_E_UNKNOWN (-38) /* no module has this number (now) */
#define VMMHPC_HYPERCALL_E_FAILED (-5)   /* the module failed in it, and is being unloaded */

#if defined(__x86_64__)
/** A hypercall by the port: ring 0, or where the port is allowed. */
static inline int64_t vmmhpc_hypercall_port(uint32_t number, uint64_t a0, uint64_t a1, uint64_t a2)
{
    uint64_t rax = VMMHPC_HYPERCALL(number);
    __asm__ volatile("outl %%eax, %%dx"
                     : "+a"(rax)
                     : "d"(VMMHPC_HYPERCALL_PORT), "D"(a0), "S"(a1), "c"(a2)
                     : "memory");
    return (int64_t)rax;
}

/** The same by the page, wherever the caller has it mapped. */
static inline int64_t vmmhpc_hypercall_page(volatile void *page, uint32_t number, uint64_t a0,
                                            uint64_t a1, uint64_t a2)
{
    uint64_t rax = VMMHPC_HYPERCALL(number);
    __asm__ volatile("movl %%eax, (%1)"
                     : "+a"(rax)
                     : "d"(page), "D"(a0), "S"(a1), "c"(a2)
                     : "memory");
    return (int64_t)rax;
}
#endif

#endif /* VMMHPC_HYPERCALL_H */
