/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions do to a machine of libvmmhpc. */
#include "target.h"

#include <stdio.h>

/* KVM_MP_STATE_*, from linux/kvm.h; the interface has them as numbers. */
static const char *const mp_states[] = {"running", "not started",   "starting",
                                        "halted",  "SIPI received", "stopped"};

static int32_t get_regs(void *vm, uint32_t cpu, struct vmmhpc_debug_regs *regs)
{
    return vmmhpc_debug_get_regs(vm, cpu, regs, NULL);
}

static int32_t set_regs(void *vm, uint32_t cpu, const struct vmmhpc_debug_regs *regs,
                        uint32_t groups)
{
    return vmmhpc_debug_set_regs(vm, cpu, regs, groups, NULL);
}

static int32_t read_memory(void *vm, uint32_t cpu, uint64_t address, void *data, uint64_t bytes,
                           uint64_t *done)
{
    return vmmhpc_debug_read(vm, cpu, address, data, bytes, done, NULL);
}

static int32_t write_memory(void *vm, uint32_t cpu, uint64_t address, const void *data,
                            uint64_t bytes, uint64_t *done)
{
    return vmmhpc_debug_write(vm, cpu, address, data, bytes, done, NULL);
}

static int32_t translate(void *vm, uint32_t cpu, uint64_t address, uint64_t *gpa)
{
    return vmmhpc_debug_translate(vm, cpu, address, gpa, NULL);
}

static int32_t add_break(void *vm, uint32_t cpu, uint32_t kind, uint64_t address, uint32_t bytes)
{
    return vmmhpc_debug_add_break(vm, cpu, kind, address, bytes, NULL);
}

static int32_t remove_break(void *vm, uint32_t kind, uint64_t address, uint32_t bytes)
{
    return vmmhpc_debug_remove_break(vm, kind, address, bytes, NULL);
}

static int32_t hold(void *vm)
{
    return vmmhpc_debug_hold(vm, NULL);
}

static int32_t resume(void *vm, const uint8_t *actions)
{
    return vmmhpc_debug_resume(vm, actions, NULL);
}

static int32_t poll_stop(void *vm, struct vmmhpc_debug_stop *stop)
{
    return vmmhpc_debug_poll(vm, stop, NULL);
}

static int32_t reset(void *vm)
{
    return vmmhpc_reset(vm, NULL);
}

static int32_t power_off(void *vm)
{
    return vmmhpc_stop(vm, NULL);
}

static const char *mode_of(const struct vmmhpc_debug_regs *regs)
{
    if ((regs->cr0 & 1) == 0) {
        return "real mode";
    }
    if ((regs->efer & 0x400) == 0) {
        return (regs->cr0 & 0x80000000) != 0 ? "32-bit, paging" : "32-bit, no paging";
    }
    return (regs->segment[VMMHPC_SEGMENT_CS].flags & 0x2000) != 0 ? "64-bit" : "compatibility mode";
}

static void describe_cpu(void *vm, uint32_t cpu, char *text, size_t bytes)
{
    struct vmmhpc_debug_regs regs = {.size = sizeof(regs)};
    uint32_t state = 0;
    if (vmmhpc_debug_mp_state(vm, cpu, &state, NULL) != VMMHPC_OK ||
        vmmhpc_debug_get_regs(vm, cpu, &regs, NULL) != VMMHPC_OK) {
        (void)snprintf(text, bytes, "running");
        return;
    }
    const char *name = state < VH_COUNT(mp_states) ? mp_states[state] : "in another state";
    if (state == 1) {
        (void)snprintf(text, bytes, "%s", name);
        return;
    }
    (void)snprintf(text, bytes, "%s, %s, ring %u", name, mode_of(&regs),
                   (unsigned)(regs.segment[VMMHPC_SEGMENT_SS].flags >> 5 & 3u));
}

static void describe(void *vm, char *text, size_t bytes)
{
    uint32_t features = vmmhpc_debug_features(vm);
    uint64_t memory = 0;
    struct vmmhpc_slot slot;
    for (uint32_t i = 0; i < vmmhpc_slot_count(vm); i++) {
        memory += vmmhpc_get_slot(vm, i, &slot) == VMMHPC_OK ? slot.bytes : 0;
    }
    (void)snprintf(
        text, bytes,
        "%u vCPUs, %llu MiB\nsoftware breakpoints: %s\nhardware breakpoints and watchpoints: %s\n"
        "single steps: %s\n",
        vmmhpc_debug_cpus(vm), (unsigned long long)(memory >> 20),
        (features & VMMHPC_DEBUG_INT3) != 0 ? "INT3" : "OUT and the guest's INT3 handler",
        (features & VMMHPC_DEBUG_HARDWARE) != 0
            ? "in debug registers, 4"
            : "not in this host: in memory; writes are watched by comparing after each step",
        (features & VMMHPC_DEBUG_BLOCKIRQ) != 0 ? "without interrupts" : "interrupts come between");
}

static bool describe_end(void *vm, char *text, size_t bytes)
{
    struct vmmhpc_stop_info info = {.size = sizeof(info)};
    if (vmmhpc_get_stop_info(vm, &info) != VMMHPC_OK) {
        return false;
    }
    (void)snprintf(text, bytes, "%s", info.text);
    return info.reason != VMMHPC_STOP_POWEROFF && info.reason != VMMHPC_STOP_REQUEST &&
           info.reason != VMMHPC_STOP_RESET && info.reason != VMMHPC_STOP_NONE;
}

const struct gd_target gd_machine_target = {
    .get_regs = get_regs,
    .set_regs = set_regs,
    .read = read_memory,
    .write = write_memory,
    .translate = translate,
    .add_break = add_break,
    .remove_break = remove_break,
    .hold = hold,
    .resume = resume,
    .poll = poll_stop,
    .reset = reset,
    .kill = power_off,
    .describe_cpu = describe_cpu,
    .describe = describe,
    .describe_end = describe_end,
};
