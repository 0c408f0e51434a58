/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of a machine in a monitor: what the public calls do where vm->remote is set. */
#ifndef VH_REMOTE_H
#define VH_REMOTE_H

#include <pthread.h>

#include "machine.h"
#include "protocol.h"
#include "wire.h"

/** vm->remote of a handle on a machine in a monitor. */
struct vh_client {
    struct vh_remote remote; /* first: what libvmmhpc knows of it */
    int fd;                  /* the control connection */
    pthread_mutex_t lock;    /* one request at a time */
    uint32_t sequence;
    bool starter; /* the machine is not on its own yet */
    uint32_t image_kind;
    uint32_t regions; /* of memory, of a machine that was made through this handle */
    int page_fd; /* the status file. Not mapped: a monitor that was taken over could cut it off */
    void *stats; /* mapped at the first use, or NULL */
    uint64_t stats_bytes;
    int stats_fd;
    int events_fd; /* of vmmhpc_wait(), -1 until it is needed */
};

static inline struct vh_client *vh_client_of(const struct vmmhpc *vm)
{
    return (struct vh_client *)vm->remote;
}

extern const struct vh_remote_ops vh_client_ops; /* client.c */

/* call.c */
/** A handle on nothing yet, which owns `fd`. */
int32_t vh_remote_new(int fd, struct vmmhpc **out, struct vmmhpc_error *err);
/** Send `out` (or an empty message) and wait for the answer: its payload and descriptors are put
 *  into `in`, if there is one. Closes what it takes no part of. */
int32_t vh_remote_call(struct vmmhpc *vm, uint32_t type, const struct vh_wire *out,
                       struct vh_wire *in, struct vmmhpc_error *err);
int32_t vh_remote_simple(struct vmmhpc *vm, uint32_t type, struct vmmhpc_error *err);
/** As vh_remote_call(), for an answer that is one descriptor (and one number, unless NULL). */
int32_t vh_remote_fd(struct vmmhpc *vm, uint32_t type, const struct vh_wire *out, int32_t *fd,
                     uint64_t *number, struct vmmhpc_error *err);
/** For an answer that was understood in part: E_IO. */
int32_t vh_remote_nonsense(struct vh_wire *in, struct vmmhpc_error *err);
/** The status page as it is now; false, and zeroes, where there is none. */
bool vh_remote_page(const struct vmmhpc *vm, struct vmmhpc_status_page *page);
void vh_remote_destroy(struct vmmhpc *vm);
uint32_t vh_remote_state(const struct vmmhpc *vm);

/* client_setup.c: before the start */
int32_t vh_remote_create(struct vmmhpc *vm, const struct vmmhpc_config *config,
                         struct vmmhpc_error *err);
int32_t vh_remote_add_blk(struct vmmhpc *vm, const struct vmmhpc_blk *config, uint32_t *id,
                          struct vmmhpc_error *err);
int32_t vh_remote_add_net(struct vmmhpc *vm, const struct vmmhpc_net *config, uint32_t *id,
                          struct vmmhpc_error *err);
int32_t vh_remote_add_hvc(struct vmmhpc *vm, const struct vmmhpc_hvc *config, uint32_t *id,
                          struct vmmhpc_error *err);
int32_t vh_remote_add_vsock(struct vmmhpc *vm, uint64_t cid, uint32_t *id,
                            struct vmmhpc_error *err);
int32_t vh_remote_add_pmem(struct vmmhpc *vm, const struct vmmhpc_pmem *config, uint32_t *id,
                           struct vmmhpc_error *err);
int32_t vh_remote_add_shm(struct vmmhpc *vm, const struct vmmhpc_shm *config, uint32_t *id,
                          struct vmmhpc_error *err);
int32_t vh_remote_add_vfio(struct vmmhpc *vm, const struct vmmhpc_vfio *config, uint32_t *id,
                           struct vmmhpc_error *err);
int32_t vh_remote_add_plain(struct vmmhpc *vm, enum vh_remote_plain device, uint32_t *id,
                            struct vmmhpc_error *err);
int32_t vh_remote_load(struct vmmhpc *vm, const struct vmmhpc_boot *boot, struct vmmhpc_error *err);
int32_t vh_remote_restore(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                          const char *name, struct vmmhpc_error *err);
int32_t vh_remote_start(struct vmmhpc *vm, struct vmmhpc_error *err);

/* client_place.c */
int32_t vh_remote_place(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                        struct vmmhpc_error *err);

/* also later */
int32_t vh_remote_snapshot(struct vmmhpc *vm, int state_fd, int memory_fd,
                           const struct vh_snapshot_files *base, const void *note,
                           uint64_t note_bytes, struct vmmhpc_error *err);

#endif
