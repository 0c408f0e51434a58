/* SPDX-License-Identifier: Apache-2.0 */
/* How it ended: in struct yod_report for yod, and in words on the console where there is no yod. */
#include "mm.h"
#include "pct.h"

#define RBP 6u
#define RSP 7u
#define RIP 16u
#define SCAN_WORDS 1024u
#define LONGEST_CALL 7u
#define PAGE_FAULT 14u
#define STACK_STEP 65536u /* no function's frame is much larger */

static uint32_t not_provided[YOD_REPORT_CALLS];
static uint32_t not_provided_other;

void report_count(uint64_t call)
{
    if (call < YOD_REPORT_CALLS) {
        not_provided[call]++;
    } else {
        not_provided_other++;
    }
}

static bool is_code(uint64_t va)
{
    const struct area *area = area_at(&mm.areas, va);

    return area != NULL && (area->prot & PROT_EXEC) != 0;
}

/*
 * Whether a call instruction ends at va: CALL rel32, or CALL r/m64 with its possible lengths (Intel
 * SDM volume 2, CALL; opcode FF /2).
 */
static bool follows_call(uint64_t va)
{
    uint8_t before[LONGEST_CALL];

    if (!is_code(va) || !user_read(before, va - sizeof(before), sizeof(before))) {
        return false;
    }
    if (before[LONGEST_CALL - 5] == 0xe8) {
        return true;
    }
    for (uint32_t length = 2; length <= LONGEST_CALL; length++) {
        const uint8_t *at = &before[LONGEST_CALL - length];
        if (at[0] == 0xff && (at[1] >> 3 & 7) == 2) {
            return true;
        }
    }
    return false;
}

static void add(struct yod_report *report, uint64_t va)
{
    if (report->backtrace_count < YOD_REPORT_BACKTRACE) {
        report->backtrace[report->backtrace_count++] = va;
    }
}

/* By frame pointers: each frame lies above the one before, and returns to the instruction after a
 * call. */
static void walk_frames(struct yod_report *report)
{
    uint64_t frame = report->registers[RBP];
    uint64_t below = report->registers[RSP];
    uint64_t pair[2];

    while (report->backtrace_count < YOD_REPORT_BACKTRACE && frame >= below && frame % 8 == 0 &&
           user_read(pair, frame, sizeof(pair)) && follows_call(pair[1])) {
        add(report, pair[1]);
        below = frame + sizeof(pair);
        frame = pair[0];
    }
    report->backtrace_exact = report->backtrace_count;
}

/* Most programs have no frame pointers: whatever else on the stack looks like a return address. */
static void scan_stack(struct yod_report *report)
{
    uint64_t at = round_up(report->registers[RSP] & ~7ull, 8);
    uint64_t word;

    for (uint32_t i = 0; i < SCAN_WORDS && user_read(&word, at, sizeof(word)); i++, at += 8) {
        bool known = false;
        for (uint32_t n = 0; n < report->backtrace_exact; n++) {
            known = known || report->backtrace[n] == word;
        }
        if (!known && follows_call(word)) {
            add(report, word);
        }
    }
}

/* A page fault close to the stack pointer, where there is a guard or nothing. */
static void name_overflow(struct yod_report *report)
{
    uint64_t at = report->fault_address;
    uint64_t distance = most(at, report->registers[RSP]) - least(at, report->registers[RSP]);
    const struct area *area = area_at(&mm.areas, at);
    struct text text;

    if (report->vector == PAGE_FAULT && distance < STACK_STEP &&
        (area == NULL || area->prot == PROT_NONE)) {
        text_init(&text, report->text, sizeof(report->text));
        text_add(&text, "stack overflow of thread ");
        text_number(&text, report->tid, 10);
    }
}

static void describe_end(struct yod_report *report, const struct pct_end *end)
{
    report->end = end->end;
    report->status = end->status;
    report->signal = end->signal;
    report->vector = end->end == YOD_END_FAULT ? end->vector : UINT32_MAX;
    report->error_code = end->error_code;
    report->fault_address = end->fault_address;
    memcpy(report->registers, end->registers, sizeof(report->registers));
    report->fs_base = end->fs_base;
    report->tid = end->tid;
    report->cpu = end->cpu;
    if (end->end != YOD_END_FAULT && end->end != YOD_END_SIGNAL) {
        return;
    }
    while (
        report->code_bytes < sizeof(report->code) &&
        user_read(&report->code[report->code_bytes], end->registers[RIP] + report->code_bytes, 1)) {
        report->code_bytes++;
    }
    name_overflow(report);
    walk_frames(report);
    scan_stack(report);
}

static void count(struct yod_report *report)
{
    const struct lwk_info *info = pct.info;

    report->threads = info->threads_max;
    report->load_bias = pct.loaded.bias;
    report->ticks = info->ticks;
    report->switches = info->switches;
    report->shipped = pct.shipped;
    report->tsc_entry = info->tsc_entry;
    report->tsc_app = pct.tsc_app;
    if (pct.counted && (pct.launch.header->flags & YOD_LAUNCH_REPORT_CALLS) != 0) {
        memcpy(report->calls, info->calls, sizeof(report->calls));
    }
    memcpy(report->not_provided, not_provided, sizeof(report->not_provided));
    report->not_provided_other = not_provided_other;
}

static void say_how(struct text *text, const struct yod_report *report)
{
    switch (report->end) {
    case YOD_END_EXIT:
        text_add(text, "exited with status ");
        text_signed(text, report->status);
        return;
    case YOD_END_LAUNCH:
        text_add(text, "not started: ");
        text_add(text, report->text);
        return;
    default:
        text_add(text, "ended by signal ");
        text_number(text, report->signal, 10);
    }
    if (report->end == YOD_END_FAULT) {
        text_add(text, ": exception ");
        text_number(text, report->vector, 10);
        text_add(text, ", error code ");
        text_number(text, report->error_code, 16);
        text_add(text, ", address ");
        text_number(text, report->fault_address, 16);
        text_add(text, report->text[0] != '\0' ? ", " : "");
        text_add(text, report->text);
    }
    text_add(text, ", rip ");
    text_number(text, report->registers[RIP], 16);
    text_add(text, ", rsp ");
    text_number(text, report->registers[RSP], 16);
    for (uint32_t i = 0; i < report->backtrace_count; i++) {
        text_add(text,
                 i < report->backtrace_exact ? "\nlwk: called from " : "\nlwk: perhaps from ");
        text_number(text, report->backtrace[i] - report->load_bias, 16);
    }
}

static void say(const struct yod_report *report)
{
    static char line[4096];
    struct text text;

    text_init(&text, line, sizeof(line));
    text_add(&text, "\nlwk: ");
    say_how(&text, report);
    text_add(&text, "\n");
    qk_console(line, text.used);
    for (uint32_t i = 0; i < YOD_REPORT_CALLS; i++) {
        if (report->not_provided[i] != 0) {
            text_init(&text, line, sizeof(line));
            text_add(&text, "lwk: system call ");
            text_number(&text, i, 10);
            text_add(&text, " is not provided; asked for ");
            text_number(&text, report->not_provided[i], 10);
            text_add(&text, " times\n");
            qk_console(line, text.used);
        }
    }
}

static _Noreturn void deliver(struct yod_report *report)
{
    count(report);
    if (pct.info->yod != 0 && pct.queue != NULL) {
        (void)qk(QK_DOORBELL, YOD_DOORBELL_REPORT, 0, 0, 0);
    } else {
        say(report);
    }
    for (;;) {
        (void)qk(QK_POWER_OFF, 0, 0, 0, 0);
    }
}

/* In the queue; before there is one, where nobody but the console sees it. */
static struct yod_report *place(void)
{
    static struct yod_report early;

    return pct.queue != NULL ? &pct.queue->report : &early;
}

void report_end(const struct pct_end *end)
{
    struct yod_report *report = place();

    describe_end(report, end);
    deliver(report);
}

void report_launch(const char *text)
{
    struct yod_report *report = place();
    struct text out;

    report->end = YOD_END_LAUNCH;
    report->vector = UINT32_MAX;
    text_init(&out, report->text, sizeof(report->text));
    text_add(&out, text);
    deliver(report);
}
