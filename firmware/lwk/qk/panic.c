/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the machine: as asked for, or because the QK has failed. */
#include "qk.h"

/* SLP_TYP S5 and SLP_EN of ACPI's sleep control (6.4, 4.8.3.7), then QEMU's PM1a_CNT with SLP_TYP
 * 0, then a triple fault. */
_Noreturn void power_off(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};

    outb(VH_SLEEP_CONTROL_PORT, VH_SLEEP_TYPE_S5 << 2 | VH_SLEEP_ENABLE);
    outw(0x604, 0x2000);
    __asm__ volatile("lidt %0; int3" ::"m"(none));
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* In the order of struct yod_report. */
void report_registers(const struct frame *f, uint64_t to[18])
{
    const uint64_t registers[18] = {f->rax, f->rbx, f->rcx, f->rdx, f->rsi, f->rdi,
                                    f->rbp, f->rsp, f->r8,  f->r9,  f->r10, f->r11,
                                    f->r12, f->r13, f->r14, f->r15, f->rip, f->rflags};
    memcpy(to, registers, sizeof(registers));
}

/* For yod, where the PCT would have left its report. */
static void fill_report(const struct frame *f, const char *text)
{
    struct yod_queue *q = (void *)(LWK_PCT_RAM + machine.queue);
    struct yod_report *r = &q->report;

    if (!machine.yod || machine.queue == 0) {
        return;
    }
    write_cr(3, pct_cr3);
    write_cr(4, read_cr(4) & ~(uint64_t)CR4_SMAP);
    memset(r, 0, sizeof(*r));
    r->end = YOD_END_PANIC;
    r->vector = UINT32_MAX;
    for (uint32_t i = 0; i < sizeof(r->text) - 1 && text[i] != 0; i++) {
        r->text[i] = text[i];
    }
    if (f != NULL) {
        report_registers(f, r->registers);
        r->vector = (uint32_t)f->vector;
        r->error_code = f->error;
        r->fault_address = read_cr(2);
    }
    outl(YOD_PORT + YOD_REG_DOORBELL, YOD_DOORBELL_REPORT);
}

_Noreturn void panic(const struct frame *f, const char *format, ...)
{
    static const char names[16][4] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static bool again;
    char text[256];
    va_list list;

    __asm__ volatile("cli");
    if (__atomic_test_and_set(&again, __ATOMIC_ACQ_REL)) {
        power_off(); /* the panic failed, or two CPUs at once */
    }
    va_start(list, format);
    format_text(text, sizeof(text), format, list);
    va_end(list);
    stop_others();
    print("\nlwk: panic: %s\n", text);
    if (f != NULL) {
        print("vector %lu error %#lx rip %#lx rflags %#lx cs %#lx cr2 %#lx cr3 %#lx\n", f->vector,
              f->error, f->rip, f->rflags, f->cs, read_cr(2), read_cr(3));
        uint64_t registers[18];
        report_registers(f, registers);
        for (uint32_t i = 0; i < 16; i++) {
            print("%s %#lx%s", names[i], registers[i], i % 4 == 3 ? "\n" : " ");
        }
    }
    fill_report(f, text);
    power_off();
}
