/* SPDX-License-Identifier: Apache-2.0 */
/* What the CPUs have, and their tables: GDT, TSS, IDT, system call registers. */
#include "qk.h"

struct features features;

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, reserved;
};
static struct gate idt[VECTORS];

extern uint8_t vector_stubs[], syscall_entry[];
extern struct smap_site {
    uint8_t *at;
    uint8_t bytes[8];
} smap_sites[], smap_sites_end[];

static uint32_t kvm_features(void)
{
    struct cpuid r = cpuid(0x40000000, 0);

    if (memcmp(&r.b, "KVMKVMKVM\0\0\0", 12) != 0) {
        return 0;
    }
    return cpuid(0x40000001, 0).a;
}

/* As much of the extended state as fits struct thread: x87 SSE | AVX | AVX-512. Without compaction
 * and supervisor state, as signal frames want it (SDM 1, 13.4). */
static void find_xsave(void)
{
    static const uint64_t sets[] = {0xe7, 0x7, 0x3};
    struct cpuid r = cpuid(0xd, 0);
    uint64_t offered = (uint64_t)r.d << 32 | r.a;

    features.fpu_bytes = 512;
    for (uint32_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        uint32_t bytes = 576;
        if ((offered & sets[i]) != sets[i]) {
            continue;
        }
        for (uint32_t bit = 2; bit < 8; bit++) {
            struct cpuid part = (sets[i] >> bit & 1) != 0 ? cpuid(0xd, bit) : (struct cpuid){0};
            bytes = part.a + part.b > bytes ? part.a + part.b : bytes;
        }
        if (bytes <= FPU_MAX) {
            features.xsave = true;
            features.xcr0 = sets[i];
            features.fpu_bytes = bytes;
            features.xsaveopt = (cpuid(0xd, 1).a & 1) != 0;
            features.cr4 |= CR4_OSXSAVE;
            return;
        }
    }
}

void features_init(void)
{
    uint32_t max = cpuid(0, 0).a;
    struct cpuid one = cpuid(1, 0);
    struct cpuid seven = max >= 7 ? cpuid(7, 0) : (struct cpuid){0};
    struct cpuid extended = cpuid(0x80000001, 0);

    features.nx = (extended.d >> 20 & 1) != 0;
    features.page_1g = (extended.d >> 26 & 1) != 0;
    features.x2apic = (one.c >> 21 & 1) != 0;
    features.tsc_deadline = (one.c >> 24 & 1) != 0;
    features.hypervisor = (one.c >> 31 & 1) != 0;
    features.kvm = features.hypervisor ? kvm_features() : 0;
    features.fsgsbase = (seven.b & 1) != 0;
    features.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    features.cr4 |= (one.d >> 7 & 1) != 0 ? CR4_MCE : 0;
    features.cr4 |= features.fsgsbase ? CR4_FSGSBASE : 0;
    features.cr4 |= (seven.b >> 7 & 1) != 0 ? CR4_SMEP : 0;
    features.cr4 |= (seven.c >> 2 & 1) != 0 ? CR4_UMIP : 0;
    features.fpu_bytes = 512;
    if ((one.c >> 26 & 1) != 0 && max >= 0xd) {
        find_xsave();
    }
    if ((seven.b >> 20 & 1) != 0) {
        features.cr4 |= CR4_SMAP;
        /* The text is writable as long as the boot page tables are in use. */
        for (struct smap_site *s = smap_sites; s < smap_sites_end; s++) {
            memcpy(s->at, s->bytes, 3);
        }
    }
    if (features.nx) {
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE); /* before tables with NX are loaded */
    }
}

/* IST 1 to 3: these three strike anywhere, also where the stack is the program's. */
static uint8_t ist_of(uint32_t vector)
{
    return vector == VEC_NMI ? 1 : vector == VEC_DF ? 2 : vector == VEC_MC ? 3 : 0;
}

void idt_init(void)
{
    for (uint32_t i = 0; i < VECTORS; i++) {
        uint64_t at = (uint64_t)vector_stubs + i * 8;
        bool user = i == VEC_BP || i == VEC_OF; /* INT3 and INTO; any other INT n is #GP */
        idt[i] = (struct gate){.offset_low = (uint16_t)at,
                               .selector = SEL_KERNEL_CS,
                               .ist = ist_of(i),
                               .type = user ? 0xee : 0x8e, /* interrupt gate, DPL 3 or 0 */
                               .offset_mid = (uint16_t)(at >> 16),
                               .offset_high = (uint32_t)(at >> 32)};
    }
}

static void load_tables(struct cpu *c)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr = {sizeof(c->gdt) - 1, (uint64_t)c->gdt},
                              idtr = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t tss = (uint64_t)&c->tss;

    c->gdt[SEL_KERNEL_CS / 8] = 0x00af9b000000ffff;
    c->gdt[SEL_KERNEL_DS / 8] = 0x00cf93000000ffff;
    c->gdt[SEL_USER_DS / 8] = 0x00cff3000000ffff;
    c->gdt[SEL_USER_CS / 8] = 0x00affb000000ffff;
    c->gdt[SEL_TSS / 8] =
        (sizeof(c->tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
    c->gdt[SEL_TSS / 8 + 1] = tss >> 32;
    __asm__ volatile("lgdt %0; lidt %1" ::"m"(gdtr), "m"(idtr));
    __asm__ volatile(
        "push %0; lea 1f(%%rip), %%rax; push %%rax; lretq; 1: mov %1, %%ss" ::"i"(SEL_KERNEL_CS),
        "r"(SEL_KERNEL_DS)
        : "rax", "memory");
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; lldt %w0" ::"r"(0));
    c->tss.io_map = sizeof(c->tss); /* none: no port for user mode */
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
}

/* By the boot CPU for each: what it takes from the pool. */
void cpu_prepare(struct cpu *c)
{
    c->self = c;
    c->number = (uint32_t)(c - cpus);
    c->stack = map_stack(c->number, 0, 2);
    for (uint32_t ist = 1; ist <= 3; ist++) {
        c->tss.ist[ist - 1] = map_stack(c->number, ist, 1);
    }
    list_init(&c->queue);
    list_init(&c->sleepers);
    c->armed = c->slice = NEVER;
    c->calls = direct(page_alloc(false));
}

/* On the CPU itself. */
void cpu_init(struct cpu *c)
{
    load_tables(c);
    wrmsr(MSR_GS_BASE, (uint64_t)c);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0);
    write_cr(0, CR0_SET);
    write_cr(4, features.cr4);
    c->cr3 = read_cr(3);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (uint64_t)SEL_SYSRET << 48 | (uint64_t)SEL_KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
    wrmsr(MSR_CSTAR, (uint64_t)syscall_entry); /* not reachable: there is no 32-bit code segment */
    wrmsr(MSR_SFMASK, FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_RF);
    fpu_init_cpu();
}
