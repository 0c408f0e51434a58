/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process control thread: a user-mode process that holds policy. The QK hands it one event
 * after the other.
 */
#include "launch.h"
#include "mm.h"
#include "pct.h"
#include "shm.h"

struct pct pct;

_Noreturn void pct_main(void);

static void start(void)
{
    const struct lwk_info *info = pct.info;
    char reason[256];
    struct text why;

    /* yod's machines are new at each launch, and their memory is zero: so is it after a reset. */
    if (!mm_init(info->heap_pa, info->heap_bytes, info->yod != 0) || !ship_init()) {
        report_launch("the machine has too little memory");
    }
    if (info->yod != 0) {
        (void)qk(QK_YOD_WRITE, YOD_REG_QUEUE, pct.queue_pa / LWK_PAGE, 0, 0);
    }
    if (info->module_pa == 0) {
        report_launch("no launch module was given to the kernel");
    }
    text_init(&why, reason, sizeof(reason));
    if (!launch_check(ram(info->module_pa), info->module_bytes, &pct.launch, &why)) {
        report_launch(reason);
    }
    random_seed(pct.launch.header->seed);
    if (!load(&pct.launch, &pct.loaded, &why)) {
        report_launch(reason);
    }
    (void)qk(QK_SET_PID, pct.launch.header->pid, 0, 0, 0);
    pct.counted = true;
    pct.tsc_app = tsc();
    if (info->yod != 0) {
        (void)qk(QK_YOD_WRITE, YOD_REG_TRACE, YOD_TRACE_APP, 0, 0);
    }
    (void)qk(QK_START, pct.loaded.entry, pct.loaded.sp, 0, 0);
}

void pct_main(void)
{
    struct pct_event event;

    pct.info = (struct lwk_info *)LWK_PCT_INFO;
    for (;;) {
        qk_next(&event);
        switch (event.kind) {
        case PCT_EVENT_START:
            start();
            break;
        case PCT_EVENT_CALL:
            call_start(&event);
            break;
        case PCT_EVENT_SHIPPED:
            ship_interrupt();
            break;
        case PCT_EVENT_CANCEL:
            if (!shm_cancel(event.tid, event.args[0] != 0)) {
                ship_cancel(event.tid);
            }
            break;
        case PCT_EVENT_SHM:
            shm_interrupt();
            break;
        case PCT_EVENT_END:
            report_end(&event.end);
        default:
            break;
        }
        ship_waiting();
    }
}
