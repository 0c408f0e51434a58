/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc: devices behind the machine's PCI root. All are virtio 1.2 devices (modern only, vendor
 * 0x1af4), each a function of its own on bus 0, in the order in which they are added.
 *
 * Each call is allowed between vmmhpc_create() and vmmhpc_start(). *id (may be NULL) is the
 * device's PCI slot, 1 ... 31. Descriptors that are passed in are duplicated; the caller keeps its
 * own.
 */
#ifndef VMMHPC_DEVICES_H
#define VMMHPC_DEVICES_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ blk */

#define VMMHPC_BLK_READ_ONLY 1u
#define VMMHPC_BLK_DIRECT 2u /* O_DIRECT: past the host's page cache, where the file system can */
#define VMMHPC_BLK_NO_URING                                                                        \
    4u /* a thread even where io_uring works: for comparison and for tests */

/** A disk: a raw file or block device, or a copy-on-write overlay over one. */
struct vmmhpc_blk {
    uint32_t size;    /* sizeof(struct vmmhpc_blk) */
    uint32_t flags;   /* VMMHPC_BLK_* */
    const char *path; /* the raw file; with an overlay it is the base, opened read-only */
    /** An overlay file (see docs/reference/overlay.md) that takes all writes, or NULL. It must
     *  exist: vmmhpc_overlay_create(). */
    const char *overlay_path;
    const char *serial; /* shown to the guest, at most 20 bytes; NULL: none */
};

VMMHPC_API int32_t vmmhpc_add_blk(struct vmmhpc *vm, const struct vmmhpc_blk *config, uint32_t *id,
                                  struct vmmhpc_error *err);

/** Make an empty overlay for a base of that many bytes. Refuses to overwrite: E_IO, EEXIST. */
VMMHPC_API int32_t vmmhpc_overlay_create(const char *path, const char *base_path,
                                         struct vmmhpc_error *err);

/* ------------------------------------------------------------------ net */

enum vmmhpc_net_kind {
    VMMHPC_NET_TAP = 1,    /* fd: a tap device opened with IFF_VNET_HDR | IFF_NO_PI */
    VMMHPC_NET_STREAM = 2, /* fd: a connected UNIX stream socket, each frame after its length in 4
                              bytes, big-endian: passt, and QEMU's -netdev stream */
    VMMHPC_NET_LINK = 3,   /* fd: a connected UNIX SOCK_SEQPACKET socket; a virtio_net_hdr_v1 before
                              each frame: a link between two machines, offloads included */
};

#define VMMHPC_NET_VHOST 1u /* tap only: let the host's vhost-net move the data */

/** A network interface with one pair of queues. */
struct vmmhpc_net {
    uint32_t size;  /* sizeof(struct vmmhpc_net) */
    uint32_t flags; /* VMMHPC_NET_* */
    uint32_t kind;  /* enum vmmhpc_net_kind */
    int32_t fd;
    uint8_t mac[6]; /* all zero: derived from the kind, the slot and the machine's uuid */
    uint16_t mtu;   /* 0: not told to the guest */
};

VMMHPC_API int32_t vmmhpc_add_net(struct vmmhpc *vm, const struct vmmhpc_net *config, uint32_t *id,
                                  struct vmmhpc_error *err);

/** Open a tap device (an existing one, or a new one that goes with its descriptor) with checksum
 * and segmentation offload. name: at most 15 bytes, may hold %d; the real name is written to it (16
 * bytes). The caller owns *fd. */
VMMHPC_API int32_t vmmhpc_tap_open(char name[16], int32_t *fd, struct vmmhpc_error *err);

/** Two connected sockets for VMMHPC_NET_LINK; the caller owns both. */
VMMHPC_API int32_t vmmhpc_link_open(int32_t fds[2], struct vmmhpc_error *err);

/* ------------------------------------------------------------------ others */

/** Entropy from the host's getrandom(). */
VMMHPC_API int32_t vmmhpc_add_rng(struct vmmhpc *vm, uint32_t *id, struct vmmhpc_error *err);

/** A second console (hvc0); descriptors as for vmmhpc_console_attach(). */
struct vmmhpc_hvc {
    uint32_t size; /* sizeof(struct vmmhpc_hvc) */
    int32_t in_fd; /* -1: none */
    int32_t out_fd;
    uint16_t columns; /* 0: size not told */
    uint16_t rows;
};

VMMHPC_API int32_t vmmhpc_add_hvc(struct vmmhpc *vm, const struct vmmhpc_hvc *config, uint32_t *id,
                                  struct vmmhpc_error *err);

/** A memory balloon with free-page reporting and deflate-on-OOM; one a machine. */
VMMHPC_API int32_t vmmhpc_add_balloon(struct vmmhpc *vm, uint32_t *id, struct vmmhpc_error *err);
/** Ask the guest to give up that many bytes (rounded down to 4 KiB); any time. */
VMMHPC_API int32_t vmmhpc_balloon_set(struct vmmhpc *vm, uint64_t bytes, struct vmmhpc_error *err);

struct vmmhpc_balloon_state {
    uint32_t size; /* sizeof(struct vmmhpc_balloon_state) */
    uint32_t reserved;
    uint64_t target_bytes;
    uint64_t actual_bytes;   /* in the balloon now */
    uint64_t reported_bytes; /* given back by free-page reporting so far */
};
VMMHPC_API int32_t vmmhpc_balloon_get(struct vmmhpc *vm, struct vmmhpc_balloon_state *state,
                                      struct vmmhpc_error *err);

/** Sockets between host and guest through the host's vhost-vsock. cid: 3 ... 2^32 - 2. */
VMMHPC_API int32_t vmmhpc_add_vsock(struct vmmhpc *vm, uint64_t cid, uint32_t *id,
                                    struct vmmhpc_error *err);

#define VMMHPC_PMEM_READ_ONLY                                                                      \
    1u /* shared between machines; writes are kept by this one and lost                            \
        */

/** Persistent memory backed by a file, whose size is a multiple of 2 MiB. */
struct vmmhpc_pmem {
    uint32_t size;  /* sizeof(struct vmmhpc_pmem) */
    uint32_t flags; /* VMMHPC_PMEM_* */
    const char *path;
};

VMMHPC_API int32_t vmmhpc_add_pmem(struct vmmhpc *vm, const struct vmmhpc_pmem *config,
                                   uint32_t *id, struct vmmhpc_error *err);

/**
 * A VM generation ID (an ACPI device): 16 bytes that the guest mixes into its random numbers when
 * they change. Not a PCI device. Before vmmhpc_load().
 */
VMMHPC_API int32_t vmmhpc_add_generation_id(struct vmmhpc *vm, const uint8_t id[16],
                                            struct vmmhpc_error *err);
/** Change it and tell the guest: after a copy was made of the machine. */
VMMHPC_API int32_t vmmhpc_set_generation_id(struct vmmhpc *vm, const uint8_t id[16],
                                            struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif
