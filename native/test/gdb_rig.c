/* SPDX-License-Identifier: Apache-2.0 */
#include "gdb_rig.h"

#include <stdio.h>
#include <string.h>

static struct gdb_rig *rig_of(void *opaque)
{
    return opaque;
}

static int32_t get_regs(void *opaque, uint32_t cpu, struct vmmhpc_debug_regs *regs)
{
    if (!rig_of(opaque)->held || cpu >= GDB_RIG_CPUS) {
        return VMMHPC_E_STATE;
    }
    *regs = rig_of(opaque)->regs[cpu];
    return VMMHPC_OK;
}

static int32_t set_regs(void *opaque, uint32_t cpu, const struct vmmhpc_debug_regs *regs,
                        uint32_t groups)
{
    if (!rig_of(opaque)->held || cpu >= GDB_RIG_CPUS) {
        return VMMHPC_E_STATE;
    }
    rig_of(opaque)->regs[cpu] = *regs;
    rig_of(opaque)->groups = groups;
    return VMMHPC_OK;
}

static int32_t copy(struct gdb_rig *rig, uint64_t address, uint8_t *to, const uint8_t *from,
                    uint64_t bytes, uint64_t *done)
{
    uint64_t count = 0;
    for (; count < bytes; count++) {
        uint64_t at = address + count - GDB_RIG_BASE;
        if (at >= GDB_RIG_MEMORY) {
            break;
        }
        if (to != NULL) {
            to[count] = rig->memory[at];
        } else {
            rig->memory[at] = from[count];
        }
    }
    if (done != NULL) {
        *done = count;
    }
    return count == bytes ? VMMHPC_OK : VMMHPC_E_RANGE;
}

static int32_t read_memory(void *opaque, uint32_t cpu, uint64_t address, void *data, uint64_t bytes,
                           uint64_t *done)
{
    *done = 0;
    return cpu >= GDB_RIG_CPUS ? VMMHPC_E_INVALID
                               : copy(rig_of(opaque), address, data, NULL, bytes, done);
}

static int32_t write_memory(void *opaque, uint32_t cpu, uint64_t address, const void *data,
                            uint64_t bytes, uint64_t *done)
{
    return cpu >= GDB_RIG_CPUS ? VMMHPC_E_INVALID
                               : copy(rig_of(opaque), address, NULL, data, bytes, done);
}

static int32_t translate(void *opaque, uint32_t cpu, uint64_t address, uint64_t *gpa)
{
    (void)opaque;
    (void)cpu;
    *gpa = address & 0xffff;
    return address < 0x100000 ? VMMHPC_OK : VMMHPC_E_RANGE;
}

static int32_t add_break(void *opaque, uint32_t cpu, uint32_t kind, uint64_t address,
                         uint32_t bytes)
{
    struct gdb_rig *rig = rig_of(opaque);
    if (cpu >= GDB_RIG_CPUS || rig->break_count == GDB_RIG_BREAKS) {
        return VMMHPC_E_LIMIT;
    }
    if (kind == VMMHPC_BREAK_READ) {
        return VMMHPC_E_UNSUPPORTED;
    }
    rig->breaks[rig->break_count].kind = kind;
    rig->breaks[rig->break_count].address = address;
    rig->breaks[rig->break_count++].bytes = bytes;
    return VMMHPC_OK;
}

static int32_t remove_break(void *opaque, uint32_t kind, uint64_t address, uint32_t bytes)
{
    struct gdb_rig *rig = rig_of(opaque);
    (void)bytes;
    for (uint32_t i = 0; i < rig->break_count; i++) {
        if (rig->breaks[i].kind == kind && rig->breaks[i].address == address) {
            rig->breaks[i] = rig->breaks[--rig->break_count];
            return VMMHPC_OK;
        }
    }
    return VMMHPC_E_INVALID;
}

static int32_t hold(void *opaque)
{
    rig_of(opaque)->held = !rig_of(opaque)->over;
    return rig_of(opaque)->over ? VMMHPC_E_STATE : VMMHPC_OK;
}

static int32_t resume(void *opaque, const uint8_t *actions)
{
    struct gdb_rig *rig = rig_of(opaque);
    if (rig->over) {
        return VMMHPC_E_STATE;
    }
    memcpy(rig->actions, actions, sizeof(rig->actions));
    rig->held = false;
    rig->resumes++;
    return VMMHPC_OK;
}

static int32_t poll_stop(void *opaque, struct vmmhpc_debug_stop *stop)
{
    *stop = rig_of(opaque)->stop;
    return VMMHPC_OK;
}

static int32_t reset(void *opaque)
{
    rig_of(opaque)->resets++;
    return VMMHPC_OK;
}

static int32_t power_off(void *opaque)
{
    rig_of(opaque)->over = true;
    return VMMHPC_OK;
}

static void describe_cpu(void *opaque, uint32_t cpu, char *text, size_t bytes)
{
    (void)opaque;
    (void)snprintf(text, bytes, "cpu %u", cpu);
}

static void describe(void *opaque, char *text, size_t bytes)
{
    (void)opaque;
    (void)snprintf(text, bytes, "no machine\n");
}

static bool describe_end(void *opaque, char *text, size_t bytes)
{
    (void)snprintf(text, bytes, "over");
    return rig_of(opaque)->crashed;
}

static const struct gd_target target = {
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

bool gdb_rig_open(struct gdb_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    for (uint32_t i = 0; i < GDB_RIG_CPUS; i++) {
        rig->regs[i].size = sizeof(rig->regs[i]);
    }
    rig->stop.size = sizeof(rig->stop);
    rig->held = true;
    return gd_session_init(&rig->session, &target, rig, GDB_RIG_CPUS);
}

void gdb_rig_close(struct gdb_rig *rig)
{
    gd_session_free(&rig->session);
}

const char *gdb_rig_raw(struct gdb_rig *rig, const void *data, size_t bytes)
{
    gd_clear(&rig->session.out);
    (void)gd_session_feed(&rig->session, data, bytes);
    gd_put(&rig->session.out, "", 1);
    rig->session.out.bytes--;
    return rig->session.out.data;
}

const char *gdb_rig_ask(struct gdb_rig *rig, const char *packet)
{
    static char frame[2 * GD_PACKET + 8];
    uint8_t sum = 0;
    for (const char *at = packet; *at != '\0'; at++) {
        sum = (uint8_t)(sum + (uint8_t)*at);
    }
    int bytes = snprintf(frame, sizeof(frame), "$%s#%02x", packet, sum);
    rig->session.no_ack = true;
    char *out = (char *)(uintptr_t)gdb_rig_raw(rig, frame, (size_t)bytes);
    char *end = strrchr(out, '#');
    if (out[0] != '$' || end == NULL) {
        return "";
    }
    *end = '\0';
    return out + 1;
}
