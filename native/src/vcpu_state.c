/* SPDX-License-Identifier: Apache-2.0 */
/* Registers of the boot vCPU at its first instruction. Selectors follow the Linux 64-bit boot
 * protocol (code 0x10, data 0x18) and match the GDT that the loaders write at VH_GDT_GPA. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "layout.h"
#include "machine.h"

#define CR0_PE 0x1ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_PG 0x80000000ull
#define CR4_PAE 0x20ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define RFLAGS_FIXED 0x2ull

#define SEGMENT_CODE 0xb /* execute, read, accessed */
#define SEGMENT_DATA 0x3 /* read, write, accessed */
#define SEGMENT_TSS_BUSY 0xb
#define GDT_BYTES 0x30

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool long_mode)
{
    return (struct kvm_segment){
        .base = 0,
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1,
        .db = long_mode ? 0 : 1,
        .l = long_mode ? 1 : 0,
        .g = 1,
    };
}

static void protected_segments(struct kvm_sregs *sregs, bool long_mode)
{
    sregs->cs = flat(0x10, SEGMENT_CODE, long_mode);
    struct kvm_segment data = flat(0x18, SEGMENT_DATA, false);
    sregs->ds = data;
    sregs->es = data;
    sregs->fs = data;
    sregs->gs = data;
    sregs->ss = data;
    sregs->tr = (struct kvm_segment){
        .limit = 0x67, .selector = 0x20, .type = SEGMENT_TSS_BUSY, .present = 1};
    sregs->gdt.base = VH_GDT_GPA;
    sregs->gdt.limit = GDT_BYTES - 1;
    sregs->idt.base = 0;
    sregs->idt.limit = 0;
}

static void real_segments(struct kvm_sregs *sregs, uint16_t selector)
{
    struct kvm_segment *segments[] = {&sregs->cs, &sregs->ds, &sregs->es,
                                      &sregs->fs, &sregs->gs, &sregs->ss};
    for (size_t i = 0; i < VH_COUNT(segments); i++) {
        segments[i]->selector = i == 0 ? selector : 0;
        segments[i]->base = i == 0 ? (uint64_t)selector << 4 : 0;
    }
}

int32_t vh_vcpu_set_entry(struct vh_vcpu *vcpu, const struct vh_entry *entry,
                          struct vmmhpc_error *err)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {
        .rip = entry->rip,
        .rsp = entry->rsp,
        .rsi = entry->rsi,
        .rbx = entry->rbx,
        .rax = entry->rax,
        .rflags = RFLAGS_FIXED,
    };
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "KVM_GET_SREGS failed");
    }
    switch (entry->mode) {
    case VH_MODE_REAL16:
        /* The first 64 KiB are entered as 0000:ip, the rest by a paragraph-aligned segment. */
        real_segments(&sregs, entry->rip < 0x10000 ? 0 : (uint16_t)(entry->rip >> 4));
        regs.rip = entry->rip < 0x10000 ? entry->rip : entry->rip & 0xf;
        break;
    case VH_MODE_PROT32:
        protected_segments(&sregs, false);
        sregs.cr0 = CR0_PE | CR0_ET;
        break;
    case VH_MODE_LONG64:
        protected_segments(&sregs, true);
        sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
        sregs.cr3 = VH_PAGE_TABLES_GPA;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
        break;
    }
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "KVM_SET_SREGS failed");
    }
    if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) != 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "KVM_SET_REGS failed");
    }
    return VMMHPC_OK;
}
