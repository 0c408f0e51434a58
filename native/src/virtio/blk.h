/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: the device, and its inner constructor for tests without a machine. */
#ifndef VH_BLK_H
#define VH_BLK_H

#include <linux/virtio_blk.h>

#include "files.h"
#include "virtio/blk_file.h"
#include "virtio/virtio.h"
#include "vmmhpc_devices.h"

#define VH_BLK_SECTOR 512u
#define VH_BLK_QUEUE 256u
/* A discard or a write of zeroes: bounded, as it may take the file system a while. */
#define VH_BLK_RANGE_SECTORS (1u << 21)

struct vh_blk;

/* A request under way. */
struct vh_blk_slot {
    struct vh_blk_request request; /* first */
    struct vh_blk *blk;
    struct vh_blk_slot *next_free;
    struct vh_chain chain;
    struct iovec iov[VH_CHAIN_IOV];
};

struct vh_blk {
    struct vh_virtio virtio; /* first */
    struct vh_blk_store *store;
    struct vh_blk_engine *engine;
    bool has_uring;
    struct vh_io_source source;
    struct vmmhpc *watched_by; /* whose I/O loop has the source */
    uint8_t serial[VIRTIO_BLK_ID_BYTES];
    bool stopping;
    bool wce_written; /* by the driver, to wce; else it follows from the features */
    bool wce;
    struct vh_blk_slot *slots;
    struct vh_blk_slot *free_slots;
};

/* blk.c */
extern const struct vh_virtio_ops vh_blk_ops;
int32_t vh_blk_make_slots(struct vh_blk *blk, struct vmmhpc_error *err);
/** What the I/O loop calls. */
void vh_blk_ready(void *opaque, uint32_t events);

/* blk_add.c */
/** A device that no machine owns yet; released by ops->destroy. threads: where the thread of its
 *  engine comes from, if it needs one; NULL: pthread_create(). */
int32_t vh_blk_new(const struct vh_files *files, const struct vmmhpc_blk *config,
                   const struct vh_thread_source *threads, struct vh_virtio **device,
                   struct vmmhpc_error *err);
/** What its I/O loop watches for EPOLLIN. */
struct vh_io_source *vh_blk_source(struct vh_virtio *device);
/** Whether it works through io_uring. */
bool vh_blk_has_uring(const struct vh_virtio *device);

#endif
