/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Behind virtio-blk: stores hold a disk's bytes, engines do the work on them while the guest goes
 * on.
 *
 * A store works synchronously, called from one thread at a time. The thread engine drives any
 * store; the io_uring engine bypasses the calls of a raw one and works on its descriptors.
 *
 * Failures are errno values, 0 is success. Offsets and lengths were checked by the caller.
 */
#ifndef VH_BLK_FILE_H
#define VH_BLK_FILE_H

#include <sys/uio.h>

#include "files.h"
#include "internal.h"
#include "thread.h"

struct vmmhpc_blk;
struct vh_blk_store;

/** A scatter list that is consumed from its front. */
struct vh_blk_buffers {
    struct iovec *iov; /* its elements are changed */
    uint32_t count;
};

struct vh_blk_store_ops {
    int (*read)(struct vh_blk_store *store, struct vh_blk_buffers to, uint64_t offset);
    int (*write)(struct vh_blk_store *store, struct vh_blk_buffers from, uint64_t offset);
    /** All writes that have returned survive a crash of the host. */
    int (*flush)(struct vh_blk_store *store);
    /** The range need not be kept; what it reads as is undefined. */
    int (*discard)(struct vh_blk_store *store, uint64_t offset, uint64_t bytes);
    /** The range reads as zeroes; with unmap it may take no room. */
    int (*zero)(struct vh_blk_store *store, uint64_t offset, uint64_t bytes, bool unmap);
    void (*close)(struct vh_blk_store *store);
};

struct vh_blk_store {
    const struct vh_blk_store_ops *ops;
    uint64_t bytes;          /* capacity; a multiple of 512 */
    uint32_t block_bytes;    /* requests had better be multiples of it: 512 ... 4096 */
    uint32_t physical_bytes; /* of what is written at once, for the guest's alignment */
    uint32_t optimal_bytes;  /* larger requests are better up to it; 0: unknown */
    bool read_only;
    bool can_discard; /* discard() and zero() work */
};

/* ------------------------------------------------------------------ raw files and block devices */

struct vh_blk_raw {
    struct vh_blk_store store; /* first */
    int fd;
    int direct_fd;           /* the same file with O_DIRECT, or -1 */
    uint32_t direct_offset;  /* what it wants offsets and lengths to be aligned to */
    uint32_t direct_address; /* and addresses */
    bool device;             /* a block device */
};

/** Open and lock: writers exclude all others, readers share; E_IO with EBUSY where another has it.
 *  flags: VMMHPC_BLK_READ_ONLY, VMMHPC_BLK_DIRECT. */
int32_t vh_blk_raw_open(const struct vh_files *files, const char *path, uint32_t flags,
                        struct vh_blk_raw **raw, struct vmmhpc_error *err);
/** Which descriptor a transfer goes through: direct where everything is aligned. */
int vh_blk_raw_fd(const struct vh_blk_raw *raw, const struct vh_blk_buffers *buffers,
                  uint64_t offset);
/** Modes of fallocate(): the one to try, and the other one. Block devices take them as well. */
int vh_blk_fallocate_mode(bool discard, bool unmap, bool second);
/** Drop `bytes` from the front. */
void vh_blk_advance(struct vh_blk_buffers *buffers, uint64_t bytes);
uint64_t vh_blk_total(const struct vh_blk_buffers *buffers);

/* ------------------------------------------------------------------ overlays */

/** Open an overlay and its base; see docs/reference/overlay.md. */
int32_t vh_blk_overlay_open(const struct vh_files *files, const char *path, const char *base_path,
                            uint32_t flags, struct vh_blk_store **store, struct vmmhpc_error *err);

/* ------------------------------------------------------------------ engines */

enum vh_blk_op { VH_BLK_READ, VH_BLK_WRITE, VH_BLK_FLUSH, VH_BLK_DISCARD, VH_BLK_ZERO };

struct vh_blk_request {
    enum vh_blk_op op;
    bool stable; /* on stable storage before it is done */
    bool unmap;
    uint64_t offset;
    uint64_t bytes; /* of a transfer: what buffers hold */
    struct vh_blk_buffers buffers;
    /** Called once, inside run(), reap() or drain(); ECANCELED: not, or only partly, carried out.
     */
    void (*done)(struct vh_blk_request *request, int failed);
    /* The engine's. */
    struct vh_blk_request *next;
    int failed;
    uint32_t tries;
    bool second; /* the second mode of fallocate() */
    bool syncing;
};

struct vh_blk_engine;

/* All are called by one thread at a time. */
struct vh_blk_engine_ops {
    void (*submit)(struct vh_blk_engine *engine, struct vh_blk_request *request);
    /** Begin what was submitted. */
    void (*run)(struct vh_blk_engine *engine);
    /** Call done() for what is finished; event_fd was read before. */
    void (*reap)(struct vh_blk_engine *engine);
    /** Drop what has not begun, wait for the rest, call done() for all. */
    void (*drain)(struct vh_blk_engine *engine);
    /** After drain(). */
    void (*close)(struct vh_blk_engine *engine);
};

struct vh_blk_engine {
    const struct vh_blk_engine_ops *ops;
    int event_fd;       /* an eventfd, readable when there is something to reap */
    uint32_t under_way; /* submitted, done() not yet called */
};

/** Most requests that may be under way at once. */
#define VH_BLK_REQUESTS 128u

/** E_UNSUPPORTED where the host has no io_uring, or forbids it. */
int32_t vh_blk_uring_open(struct vh_blk_raw *raw, struct vh_blk_engine **engine,
                          struct vmmhpc_error *err);
/** What that does to its ring, made with IORING_SETUP_R_DISABLED: from then on it can do what a
 * disk needs and no more. False, with errno: it is as it was. */
bool vh_blk_uring_restrict(int fd);
/** threads: where the engine's thread comes from, as for vh_thread_start(). */
int32_t vh_blk_thread_open(struct vh_blk_store *store, const struct vh_thread_source *threads,
                           struct vh_blk_engine **engine, struct vmmhpc_error *err);

#endif
