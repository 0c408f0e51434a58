/* SPDX-License-Identifier: Apache-2.0 */
/* Runs attempts, and survives those that seccomp stops. */
#include "monitor/breakout.h"

#include <setjmp.h>
#include <stddef.h>

#include "monitor/seccomp.h"

static _Thread_local sigjmp_buf back;
static _Thread_local uint32_t trapped_number;

static const struct {
    const struct vh_breakout_attempt *attempts;
    const uint32_t *count;
} groups[] = {
    {vh_breakout_files, &vh_breakout_files_count},
    {vh_breakout_rings, &vh_breakout_rings_count},
    {vh_breakout_processes, &vh_breakout_processes_count},
    {vh_breakout_kernel, &vh_breakout_kernel_count},
};

uint32_t vh_breakout_count(void)
{
    uint32_t count = 0;
    for (size_t i = 0; i < VH_COUNT(groups); i++) {
        count += *groups[i].count;
    }
    return count;
}

static const struct vh_breakout_attempt *at(uint32_t index)
{
    size_t group = 0;
    while (index >= *groups[group].count) {
        index -= *groups[group++].count;
    }
    return &groups[group].attempts[index];
}

const char *vh_breakout_name(uint32_t attempt)
{
    return at(attempt)->name;
}

enum vh_breakout_layer vh_breakout_layer(uint32_t attempt)
{
    return at(attempt)->layer;
}

bool vh_breakout_is_fatal(uint32_t attempt)
{
    return at(attempt)->fatal;
}

const char *vh_breakout_layer_name(enum vh_breakout_layer layer)
{
    static const char *const names[] = {
        "seccomp", "root",         "pid-ns",  "net-ns",           "ipc-ns",
        "user-ns", "capabilities", "rlimits", "ring restriction", "nothing there",
    };
    return layer < VH_COUNT(names) ? names[layer] : "";
}

static void trapped(enum vh_seccomp_kind kind, uint32_t number)
{
    (void)kind;
    trapped_number = number;
    vh_seccomp_survive();
    siglongjmp(back, 1);
}

int32_t vh_breakout_prepare(struct vmmhpc_error *err)
{
    return vh_seccomp_on_trap(trapped, err);
}

void vh_breakout_run(uint32_t attempt, const struct vh_breakout_world *world,
                     struct vh_breakout_result *result)
{
    *result = (struct vh_breakout_result){.outcome = VH_BREAKOUT_OUT};
    /* Without the signal mask: asking for that is forbidden, too. */
    if (sigsetjmp(back, 0) != 0) { // NOLINT(cert-err52-cpp)
        result->outcome = VH_BREAKOUT_TRAPPED;
        result->number = trapped_number;
        return;
    }
    int error = at(attempt)->run(world);
    if (error != 0) {
        result->outcome = VH_BREAKOUT_STOPPED;
        result->error = error;
    }
}
