/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that the QK passes on: memory here, the process in process.c, the rest to yod. */
#include "mm.h"
#include "pct.h"
#include "shm.h"

void reply(uint32_t tid, uint64_t call, int64_t result)
{
    if (result == -ENOSYS) {
        report_count(call);
    }
    qk_reply(tid, result);
}

static int64_t call_mmap(const struct pct_event *event)
{
    const uint64_t *args = event->args;
    uint32_t type = args[3] & MAP_TYPE;

    if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE) {
        return -EINVAL;
    }
    if ((args[3] & MAP_ANONYMOUS) == 0) {
        return ship_start(event);
    }
    /* Without fork() nobody shares a mapping but the threads, which share all of them. */
    return mm_mmap(args[0], args[1], args[2] & (PROT_READ | PROT_WRITE | PROT_EXEC),
                   (uint32_t)args[3], 0);
}

static int64_t call_munmap(const struct pct_event *event)
{
    return mm_munmap(event->args[0], event->args[1]);
}

static int64_t call_mprotect(const struct pct_event *event)
{
    return mm_mprotect(event->args[0], event->args[1], event->args[2]);
}

static int64_t call_madvise(const struct pct_event *event)
{
    return mm_madvise(event->args[0], event->args[1], event->args[2]);
}

static int64_t call_mremap(const struct pct_event *event)
{
    const uint64_t *args = event->args;

    return mm_mremap(args[0], args[1], args[2], args[3], args[4]);
}

static int64_t call_brk(const struct pct_event *event)
{
    return (int64_t)mm_brk(event->args[0]);
}

/* Memory is never paged out, and mappings of files are never written back. */
static int64_t call_nothing(const struct pct_event *event)
{
    (void)event;
    return 0;
}

static const call_function memory_calls[] = {
    [__NR_mmap] = call_mmap,         [__NR_munmap] = call_munmap,
    [__NR_mprotect] = call_mprotect, [__NR_madvise] = call_madvise,
    [__NR_mremap] = call_mremap,     [__NR_brk] = call_brk,
    [__NR_msync] = call_nothing,     [__NR_mlock] = call_nothing,
    [__NR_mlock2] = call_nothing,    [__NR_munlock] = call_nothing,
    [__NR_mlockall] = call_nothing,  [__NR_munlockall] = call_nothing,
    [__NR_fadvise64] = call_nothing, [__NR_getrandom] = call_getrandom,
};

void call_start(const struct pct_event *event)
{
    uint64_t call = event->call;
    call_function function = NULL;

    if (call < sizeof(memory_calls) / sizeof(memory_calls[0])) {
        function = memory_calls[call];
    }
    if (function == NULL) {
        function = process_call(call);
    }
    int64_t result = shm_call(event);
    if (result == SHIP) {
        result = function != NULL ? function(event) : ship_start(event);
    }
    if (result != PENDING) {
        reply(event->tid, call, result);
    }
}
