/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between a handle and a machine that is in another process. Public calls look here first:
 * where vm->remote is set they are the remote library's (native/remote), which programs that start
 * no monitors need not carry.
 */
#ifndef VH_REMOTE_OPS_H
#define VH_REMOTE_OPS_H

#include "vmmhpc_devices.h"
#include "vmmhpc_module.h"
#include "vmmhpc_place.h"
#include "vmmhpc_shm.h"
#include "vmmhpc_vfio.h"

/* What a monitor is asked for without any argument. */
enum vh_remote_verb { VH_REMOTE_PAUSE, VH_REMOTE_RESUME, VH_REMOTE_RESET, VH_REMOTE_STOP };
enum vh_remote_plain { VH_REMOTE_RNG, VH_REMOTE_BALLOON };

#define VH_SNAPSHOT_LAYERS 8u

/** The open files of a snapshot: memory_fds[0] has the pages that are its own, the others those of
 *  the snapshots that it is based on. */
struct vh_snapshot_files {
    int state_fd;
    uint32_t layers; /* 1 to VH_SNAPSHOT_LAYERS */
    int memory_fds[VH_SNAPSHOT_LAYERS];
};

/** Each as the public call of its name. */
struct vh_remote_ops {
    void (*destroy)(struct vmmhpc *vm);
    int32_t (*load)(struct vmmhpc *vm, const struct vmmhpc_boot *boot, struct vmmhpc_error *err);
    uint32_t (*image_kind)(const struct vmmhpc *vm);
    int32_t (*start)(struct vmmhpc *vm, struct vmmhpc_error *err);
    int32_t (*wait)(struct vmmhpc *vm, int64_t timeout_ms, struct vmmhpc_error *err);
    int32_t (*verb)(struct vmmhpc *vm, enum vh_remote_verb verb, struct vmmhpc_error *err);
    uint32_t (*state)(const struct vmmhpc *vm);
    void (*stop_info)(const struct vmmhpc *vm, struct vmmhpc_stop_info *info);
    int32_t (*events)(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err);
    int32_t (*console_open)(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err);
    int32_t (*console_attach)(struct vmmhpc *vm, int32_t in_fd, int32_t out_fd,
                              struct vmmhpc_error *err);
    const struct vmmhpc_stats_page *(*stats)(struct vmmhpc *vm, uint64_t *bytes);
    int32_t (*stats_fd)(struct vmmhpc *vm);
    int32_t (*kvm_stats)(struct vmmhpc *vm, int32_t vcpu, struct vmmhpc_kvm_stat *out,
                         uint32_t capacity, uint32_t *count, struct vmmhpc_error *err);
    int32_t (*irq_set)(struct vmmhpc *vm, uint32_t gsi, uint32_t level, struct vmmhpc_error *err);
    int32_t (*add_blk)(struct vmmhpc *vm, const struct vmmhpc_blk *config, uint32_t *id,
                       struct vmmhpc_error *err);
    int32_t (*add_net)(struct vmmhpc *vm, const struct vmmhpc_net *config, uint32_t *id,
                       struct vmmhpc_error *err);
    int32_t (*add_hvc)(struct vmmhpc *vm, const struct vmmhpc_hvc *config, uint32_t *id,
                       struct vmmhpc_error *err);
    int32_t (*add_vsock)(struct vmmhpc *vm, uint64_t cid, uint32_t *id, struct vmmhpc_error *err);
    int32_t (*add_pmem)(struct vmmhpc *vm, const struct vmmhpc_pmem *config, uint32_t *id,
                        struct vmmhpc_error *err);
    int32_t (*add_shm)(struct vmmhpc *vm, const struct vmmhpc_shm *config, uint32_t *id,
                       struct vmmhpc_error *err);
    int32_t (*add_vfio)(struct vmmhpc *vm, const struct vmmhpc_vfio *config, uint32_t *id,
                        struct vmmhpc_error *err);
    int32_t (*place)(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                     struct vmmhpc_error *err);
    int32_t (*add_plain)(struct vmmhpc *vm, enum vh_remote_plain device, uint32_t *id,
                         struct vmmhpc_error *err);
    int32_t (*balloon_set)(struct vmmhpc *vm, uint64_t bytes, struct vmmhpc_error *err);
    int32_t (*balloon_get)(struct vmmhpc *vm, struct vmmhpc_balloon_state *state,
                           struct vmmhpc_error *err);
    /** vmmhpc_snapshot_write(), perhaps with a base; and vmmhpc_snapshot_load(), with a name
     *  vmmhpc_snapshot_clone(). */
    int32_t (*snapshot)(struct vmmhpc *vm, int state_fd, int memory_fd,
                        const struct vh_snapshot_files *base, const void *note, uint64_t note_bytes,
                        struct vmmhpc_error *err);
    int32_t (*restore)(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                       const char *name, struct vmmhpc_error *err);
    int32_t (*module_load)(struct vmmhpc *vm, const char *path, const char *args, uint32_t *id,
                           struct vmmhpc_error *err);
    int32_t (*module_remove)(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err);
    int32_t (*module_list)(struct vmmhpc *vm, struct vmmhpc_module_info *out, uint32_t capacity,
                           uint32_t *count, struct vmmhpc_error *err);
    /** vmmhpc_add_generation_id(), or with `change` vmmhpc_set_generation_id(). */
    int32_t (*generation)(struct vmmhpc *vm, bool change, const uint8_t id[16],
                          struct vmmhpc_error *err);
};

/** What every handle on a machine elsewhere begins with. */
struct vh_remote {
    const struct vh_remote_ops *ops;
    uint64_t memory_bytes; /* guest RAM of a machine that was made through this handle; else 0 */
};

/** E_UNSUPPORTED for what cannot be done from afar; VMMHPC_OK for a machine in this process. */
int32_t vh_local_only(const struct vmmhpc *vm, const char *what, struct vmmhpc_error *err);

#endif
