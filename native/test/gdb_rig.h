/* SPDX-License-Identifier: Apache-2.0 */
/* A session with gdb's protocol over a target that is no machine: some registers, 64 KiB of memory,
 * breakpoints in a list. Tests and the fuzz target talk to it. */
#ifndef GDB_RIG_H
#define GDB_RIG_H

#include "session.h"

#define GDB_RIG_CPUS 3u
#define GDB_RIG_MEMORY 0x10000u /* at address 0x1000 */
#define GDB_RIG_BASE 0x1000u
#define GDB_RIG_BREAKS 8u

struct gdb_rig {
    struct gd_session session;
    struct vmmhpc_debug_regs regs[GDB_RIG_CPUS];
    uint8_t memory[GDB_RIG_MEMORY];
    struct {
        uint32_t kind;
        uint64_t address;
        uint32_t bytes;
    } breaks[GDB_RIG_BREAKS];
    uint32_t break_count;
    uint32_t groups; /* of the last write */
    uint8_t actions[GDB_RIG_CPUS];
    uint32_t resumes;
    uint32_t resets;
    bool held;
    bool over;
    bool crashed;
    struct vmmhpc_debug_stop stop; /* what poll() tells */
};

bool gdb_rig_open(struct gdb_rig *rig);
void gdb_rig_close(struct gdb_rig *rig);

/** Send bytes as they are; what came back, NUL-terminated, is in session.out.data. */
const char *gdb_rig_raw(struct gdb_rig *rig, const void *data, size_t bytes);

/** Send one packet, without acknowledgements; the packet that came back, without its frame ("" for
 *  none). Valid until the next call. */
const char *gdb_rig_ask(struct gdb_rig *rig, const char *packet);

#endif
