/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM's guest debugging does on this host, found by trying: a VM of a few instructions in
 * 64-bit mode. KVM offers KVM_SET_GUEST_DEBUG in nested machines whose emulated CPU does not do
 * what it needs, and does not know.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "debug.h"
#include "layout.h"
#include "machine.h"

#define PROBE_BYTES 0x10000u
#define TABLES 0x1000u /* PML4, PDPT, PD */
#define IDT 0x4000u
#define HANDLER 0x5000u
#define CODE 0x6000u
#define DATA 0x7000u
#define STACK 0x9000u
#define GDT 0xa000u

struct probe {
    int vm;
    int vcpu;
    struct kvm_run *run;
    size_t run_bytes;
    uint8_t *memory;
};

static void put64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof(value));
}

/* NOP; MOV [DATA], AL; NOP; INT3; HLT. Exceptions lead to HLT. */
static const uint8_t code[] = {0x90, 0x88, 0x04, 0x25, 0x00, 0x70, 0x00, 0x00, 0x90, 0xcc, 0xf4};
#define STORE (CODE + 1)
#define AFTER_STORE (CODE + 8)
#define INT3 (CODE + 9)

static void fill(uint8_t *memory)
{
    put64(memory + TABLES, (TABLES + 0x1000) | 3);
    put64(memory + TABLES + 0x1000, (TABLES + 0x2000) | 3);
    put64(memory + TABLES + 0x2000, 0x83); /* the first 2 MiB, in one page */
    put64(memory + GDT + 8, 0x00af9b000000ffff);
    put64(memory + GDT + 16, 0x00cf93000000ffff);
    for (uint32_t i = 0; i < 32; i++) { /* interrupt gates: selector 8, present */
        put64(memory + IDT + (size_t)16 * i, 0x00008e0000080000ull | HANDLER);
    }
    memory[HANDLER] = 0xf4;
    memcpy(memory + CODE, code, sizeof(code));
}

static bool build(struct probe *probe, int kvm)
{
    uint64_t identity = VH_IDENTITY_MAP_GPA;
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    probe->run_bytes = bytes > 0 ? (size_t)bytes : 0;
    probe->vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (probe->vm < 0 || bytes <= 0) {
        return false;
    }
    (void)ioctl(probe->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    (void)ioctl(probe->vm, KVM_SET_TSS_ADDR, VH_TSS_GPA);
    probe->memory =
        mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (probe->memory == MAP_FAILED) {
        probe->memory = NULL;
        return false;
    }
    fill(probe->memory);
    struct kvm_userspace_memory_region region = {
        .memory_size = PROBE_BYTES, .userspace_addr = (uint64_t)(uintptr_t)probe->memory};
    if (ioctl(probe->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        return false;
    }
    probe->vcpu = ioctl(probe->vm, KVM_CREATE_VCPU, 0);
    if (probe->vcpu < 0) {
        return false;
    }
    probe->run = mmap(NULL, probe->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, probe->vcpu, 0);
    if (probe->run == MAP_FAILED) {
        probe->run = NULL;
    }
    return probe->run != NULL;
}

static void destroy(struct probe *probe)
{
    if (probe->run != NULL) {
        (void)munmap(probe->run, probe->run_bytes);
    }
    if (probe->vcpu >= 0) {
        (void)close(probe->vcpu);
    }
    if (probe->vm >= 0) {
        (void)close(probe->vm);
    }
    if (probe->memory != NULL) {
        (void)munmap(probe->memory, PROBE_BYTES);
    }
}

static bool enter(const struct probe *probe, uint64_t rip)
{
    struct kvm_sregs s;
    if (ioctl(probe->vcpu, KVM_GET_SREGS, &s) != 0) {
        return false;
    }
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cs = data;
    s.cs.selector = 8;
    s.cs.type = 0xb;
    s.cs.db = 0;
    s.cs.l = 1;
    s.tr = (struct kvm_segment){.limit = 0x67, .selector = 24, .type = 0xb, .present = 1};
    s.gdt.base = GDT;
    s.gdt.limit = 23;
    s.idt.base = IDT;
    s.idt.limit = 32 * 16 - 1;
    s.cr0 = 0x80000031; /* PG, NE, ET, PE */
    s.cr3 = TABLES;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x500; /* LME, LMA */
    struct kvm_regs regs = {.rip = rip, .rsp = STACK, .rflags = 2};
    return ioctl(probe->vcpu, KVM_SET_SREGS, &s) == 0 &&
           ioctl(probe->vcpu, KVM_SET_REGS, &regs) == 0;
}

/* Does a run from rip stop at `where`, by exception number `exception`? */
static bool stops(const struct probe *probe, const struct kvm_guest_debug *debug, uint64_t rip,
                  uint64_t where, uint32_t exception)
{
    return enter(probe, rip) && ioctl(probe->vcpu, KVM_SET_GUEST_DEBUG, debug) == 0 &&
           ioctl(probe->vcpu, KVM_RUN, 0) == 0 && probe->run->exit_reason == KVM_EXIT_DEBUG &&
           probe->run->debug.arch.exception == exception && probe->run->debug.arch.pc == where;
}

/* The step that did not lead to `where`: does it, when it is tried again? */
static bool goes_on(const struct probe *probe, const struct kvm_guest_debug *debug, uint64_t from,
                    uint64_t where)
{
    for (uint32_t i = 0; i < VH_FALSE_STEPS_MAX && probe->run->exit_reason == KVM_EXIT_DEBUG &&
                         probe->run->debug.arch.pc == from;
         i++) {
        if (ioctl(probe->vcpu, KVM_SET_GUEST_DEBUG, debug) != 0 ||
            ioctl(probe->vcpu, KVM_RUN, 0) != 0) {
            return false;
        }
    }
    return probe->run->exit_reason == KVM_EXIT_DEBUG && probe->run->debug.arch.pc == where;
}

static uint32_t try_all(const struct probe *probe)
{
    uint32_t features = 0;
    struct kvm_guest_debug step = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
    struct kvm_guest_debug int3 = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};
    struct kvm_guest_debug hard = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
    /* First of all: with a new vCPU false steps are many. */
    if (stops(probe, &step, CODE, STORE, 1)) {
        features |= VMMHPC_DEBUG_STEP;
    } else if (goes_on(probe, &step, CODE, STORE)) {
        features |= VMMHPC_DEBUG_STEP | VH_DEBUG_FALSE_STEPS;
    }
    if (stops(probe, &int3, INT3, INT3, 3)) {
        features |= VMMHPC_DEBUG_INT3;
    }
    hard.arch.debugreg[0] = STORE;
    hard.arch.debugreg[7] = 0x602; /* DR0: execution */
    bool executes = stops(probe, &hard, CODE, STORE, 1);
    hard.arch.debugreg[0] = DATA;
    hard.arch.debugreg[7] = 0x10602; /* DR0: writes of a byte */
    if (executes && stops(probe, &hard, CODE, AFTER_STORE, 1)) {
        features |= VMMHPC_DEBUG_HARDWARE;
    }
    return features;
}

uint32_t vh_debug_probe(int kvm_fd)
{
    struct probe probe = {.vm = -1, .vcpu = -1};
    uint32_t features = 0;
    if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG) > 0 && build(&probe, kvm_fd)) {
        features = try_all(&probe);
    }
    destroy(&probe);
    /* Since Linux 5.14; older headers lack the name. */
    int offered = ioctl(kvm_fd, KVM_CHECK_EXTENSION, 195 /* KVM_CAP_SET_GUEST_DEBUG2 */);
    if (offered > 0 && ((uint32_t)offered & 0x00100000u /* KVM_GUESTDBG_BLOCKIRQ */) != 0) {
        features |= VMMHPC_DEBUG_BLOCKIRQ;
    }
    return features;
}
