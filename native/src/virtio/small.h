/* SPDX-License-Identifier: Apache-2.0 */
/* The small devices (rng, hvc, balloon, vsock, pmem) without a machine: for vmmhpc_add_*(), and for
 * tests, which put them on a transport of their own. */
#ifndef VH_VIRTIO_SMALL_H
#define VH_VIRTIO_SMALL_H

#include <sys/eventfd.h>

#include "files.h"
#include "virtio/virtio.h"
#include "vmmhpc_devices.h"

/* Chains handled before others have their turn in the I/O thread. */
#define VH_SMALL_CHAINS 64u

/** Come back to a queue after the other descriptors had their turn: as if the driver had kicked. */
static inline void vh_small_again(const struct vh_virtio *device, uint32_t queue)
{
    (void)eventfd_write(device->queues[queue].kick_fd, 1);
}

/* All of them: on success the caller owns *device and gives it to vh_virtio_add(), or to
 * (*device)->ops->destroy(). */

int32_t vh_rng_new(struct vh_virtio **device, struct vmmhpc_error *err);

int32_t vh_hvc_new(const struct vmmhpc_hvc *config, struct vh_virtio **device,
                   struct vmmhpc_error *err);
/** What to watch for input, or for room for output; its fd is -1 where there is nothing to watch.
 */
struct vh_io_source *vh_hvc_source(struct vh_virtio *device, bool output);

int32_t vh_balloon_new(struct vh_virtio **device, struct vmmhpc_error *err);
/** As vmmhpc_balloon_set() and vmmhpc_balloon_get(); they take the device's lock. */
void vh_balloon_set_target(struct vh_virtio *device, uint64_t bytes);
void vh_balloon_state(struct vh_virtio *device, struct vmmhpc_balloon_state *state);

int32_t vh_vsock_new(const struct vh_files *files, uint64_t cid, struct vh_virtio **device,
                     struct vmmhpc_error *err);

int32_t vh_pmem_new(const struct vh_files *files, const struct vmmhpc_pmem *config,
                    struct vh_virtio **device, struct vmmhpc_error *err);
/** The file's mapping, and how long it is. */
void *vh_pmem_mapping(struct vh_virtio *device, uint64_t *bytes);
/** Where the guest finds it: before the device is on a bus. */
void vh_pmem_place(struct vh_virtio *device, uint64_t gpa);

#endif
