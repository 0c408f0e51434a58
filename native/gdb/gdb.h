/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A server for gdb: its remote serial protocol on a socket, each vCPU a thread. A library of its
 * own on top of libvmmhpc's public interface (vmmhpc_debug.h). Nothing here prints, exits or
 * aborts; any number of them may be in one process, one for each machine.
 *
 * Who can connect controls the guest. The TCP port is open to every user of this host, on
 * 127.0.0.1 only; the UNIX socket only to the user who made it.
 */
#ifndef VMMHPC_GDB_H
#define VMMHPC_GDB_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vmmhpc_gdb;

#define VMMHPC_GDB_WAIT 1u /* keep the machine where it is until a gdb lets it go */

struct vmmhpc_gdb_config {
    uint32_t size;    /* sizeof(struct vmmhpc_gdb_config) */
    uint32_t flags;   /* VMMHPC_GDB_* */
    const char *path; /* of a UNIX socket (mode 0600, removed at the end), or NULL: TCP */
    uint32_t port;    /* on 127.0.0.1; 0: any, see vmmhpc_gdb_port() */
    uint32_t reserved;
};

/** Listen, before or after the machine's start. Destroy before the machine. */
VMMHPC_API int32_t vmmhpc_gdb_create(struct vmmhpc *vm, const struct vmmhpc_gdb_config *config,
                                     struct vmmhpc_gdb **out, struct vmmhpc_error *err);

/** Hang up, take all breakpoints away and let the machine go on. Waits for its vCPUs, so it must
 *  not be called from a device handler, nor by a thread that has to answer one. */
VMMHPC_API void vmmhpc_gdb_destroy(struct vmmhpc_gdb *gdb);

/** The TCP port, or 0. */
VMMHPC_API uint32_t vmmhpc_gdb_port(const struct vmmhpc_gdb *gdb);

/** 1 while a gdb is connected. */
VMMHPC_API uint32_t vmmhpc_gdb_attached(const struct vmmhpc_gdb *gdb);

/** VMMHPC_DEBUG_* of vmmhpc_debug.h: what this host does in hardware. */
VMMHPC_API uint32_t vmmhpc_gdb_features(const struct vmmhpc_gdb *gdb);

#ifdef __cplusplus
}
#endif

#endif
