/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc-place: where and how a machine runs, beyond the pinning of struct vmmhpc_config: host
 * CPUs of its I/O, real-time priorities, halts and pauses without exits, and the NUMA nodes and
 * shared caches that its guest sees. What is asked for is done or refused, never ignored.
 */
#ifndef VMMHPC_PLACE_H
#define VMMHPC_PLACE_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Instructions of the guest that do not leave it any more (KVM_CAP_X86_DISABLE_EXITS). */
#define VMMHPC_EXIT_HALT 1u
#define VMMHPC_EXIT_PAUSE 2u

#define VMMHPC_PRIORITY_MAX 99u /* of SCHED_FIFO */
#define VMMHPC_NODES_MAX 64u
#define VMMHPC_DISTANCE_LOCAL 10u  /* of a node to itself (ACPI 6.4, 5.2.17) */
#define VMMHPC_DISTANCE_REMOTE 20u /* where none are given */

/** Zero-initialise, set size, fill in what matters. Arrays are copied. */
struct vmmhpc_placement {
    uint32_t size;          /* sizeof(struct vmmhpc_placement) */
    uint32_t without_exits; /* VMMHPC_EXIT_*; each vCPU has to be pinned to a host CPU of its own */
    uint32_t vcpu_priority; /* SCHED_FIFO, 1 ... VMMHPC_PRIORITY_MAX; 0: as usual */
    uint32_t io_priority;   /* likewise, of the threads that serve devices */
    uint32_t io_pin_count;  /* host CPUs for them; 0: any */
    uint32_t nodes; /* NUMA nodes of the guest, at most VMMHPC_NODES_MAX; 0: none are shown */
    const int32_t *io_pin;
    const uint32_t *vcpu_nodes;   /* of each vCPU; threads of a core are in one node */
    const uint32_t *memory_nodes; /* of each region of struct vmmhpc_config */
    const uint8_t *distances;     /* nodes * nodes, row by row; 10 in the diagonal, else 11 ... 254,
                                     255: not reachable. NULL: 20 between any two */
    uint32_t cache_cores; /* neighbouring cores that share a last-level cache: all of a socket, or a
                             power of two. 0: those of a socket, or of its part of a node */
    uint32_t reserved;
};

/**
 * Place a machine: right after vmmhpc_create(), before its devices, once. Where it fails the
 * machine can only be destroyed.
 *
 * E_INVALID: a value that cannot be, a host CPU that is not there (then or at the start), vCPUs
 * without a CPU of their own where exits are disabled. E_UNSUPPORTED: KVM cannot disable these
 * exits, or tells of no cache to share; priorities for vCPUs in the caller's threads. E_PERMISSION
 * at the start: no right to that priority. E_STATE: it is too late.
 */
VMMHPC_API int32_t vmmhpc_place(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                                struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif
