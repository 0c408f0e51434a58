/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc-shm: the VMM-bypass channel. Up to 64 machines (peers) see one window of shared memory,
 * in which each writes an area of its own and reads those of the others that let it, and ring each
 * other's doorbells. All may write a common section, where there is one. docs/reference/shm.md has
 * the device as a guest sees it.
 *
 * A channel is a server that hands out memory and doorbells, and keeps the table of peers' states:
 * a thread of this process (vmmhpc_channel_create()), or the program v3m-channel for machines in
 * several processes. It has no part in what peers send each other.
 */
#ifndef VMMHPC_SHM_H
#define VMMHPC_SHM_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMMHPC_SHM_PEERS 64u
#define VMMHPC_SHM_VECTORS 4u              /* doorbells of each peer */
#define VMMHPC_SHM_AREA_MAX (1ull << 30)   /* bytes */
#define VMMHPC_SHM_COMMON_MAX (1ull << 30) /* bytes */

/** What all peers of a channel agree on. */
struct vmmhpc_channel_config {
    uint32_t size;       /* sizeof(struct vmmhpc_channel_config) */
    uint32_t peers;      /* 2 ... VMMHPC_SHM_PEERS: their ids are 0 ... peers - 1 */
    uint64_t area_bytes; /* of each: a multiple of 4096, at most VMMHPC_SHM_AREA_MAX */
    /** What every peer may read and write, whoever may see whose area: 0 (there is none) or a
     *  multiple of 4096, at most VMMHPC_SHM_COMMON_MAX. */
    uint64_t common_bytes;
};

struct vmmhpc_channel;

/** A channel served by a thread of this process, which owns *out. */
VMMHPC_API int32_t vmmhpc_channel_create(const struct vmmhpc_channel_config *config,
                                         struct vmmhpc_channel **out, struct vmmhpc_error *err);
/** Ends the channel: peers that are still there see all others leave. NULL is allowed. */
VMMHPC_API void vmmhpc_channel_destroy(struct vmmhpc_channel *channel);

/** One peer. */
struct vmmhpc_shm_join {
    uint32_t size; /* sizeof(struct vmmhpc_shm_join) */
    uint32_t peer;
    /** A bit for each peer that may read this one's area and ring its doorbells. */
    uint64_t visible_to;
};

/** Take a place in a channel of this process. The caller owns *fd, which stands for the place: it
 *  is free again when the last duplicate is closed. E_STATE: somebody has it. */
VMMHPC_API int32_t vmmhpc_channel_join(struct vmmhpc_channel *channel,
                                       const struct vmmhpc_shm_join *join, int32_t *fd,
                                       struct vmmhpc_error *err);

/** Likewise in a channel of another process (v3m-channel) that listens on a UNIX socket; `config`
 *  must be the channel's. E_IO with errno ENOENT or ECONNREFUSED: nobody listens there. */
VMMHPC_API int32_t vmmhpc_channel_open(const char *path, const struct vmmhpc_channel_config *config,
                                       const struct vmmhpc_shm_join *join, int32_t *fd,
                                       struct vmmhpc_error *err);

/** A machine's end of a channel. */
struct vmmhpc_shm {
    uint32_t size; /* sizeof(struct vmmhpc_shm) */
    int32_t fd;    /* of vmmhpc_channel_join() or _open(); duplicated */
};

/** Add the device: between vmmhpc_create() and vmmhpc_load(). *id (may be NULL) is its PCI slot.
 *  A place is good for one device. */
VMMHPC_API int32_t vmmhpc_add_shm(struct vmmhpc *vm, const struct vmmhpc_shm *config, uint32_t *id,
                                  struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif
