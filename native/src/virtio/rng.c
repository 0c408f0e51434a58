/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: entropy from getrandom() (virtio 1.2, 5.4). */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "machine.h"
#include "virtio/small.h"

#define REQUESTS 0u
#define QUEUE_SIZE 64u
/* 5.4.6.2: a buffer need not be filled. What a driver gets at once, and what all get in a turn. */
#define CHAIN_BYTES ((uint64_t)64 * 1024)
#define TURN_BYTES (4 * CHAIN_BYTES)

/* How many bytes were put into the chain; fewer only where the host does not give any. */
static uint32_t fill(const struct vh_chain *chain)
{
    uint64_t done = 0;
    for (uint32_t i = 0; i < chain->in_count && done < CHAIN_BYTES; i++) {
        const struct iovec *iov = &chain->iov[chain->out_count + i];
        uint64_t want = iov->iov_len < CHAIN_BYTES - done ? iov->iov_len : CHAIN_BYTES - done;
        for (uint64_t at = 0; at < want;) {
            ssize_t got = getrandom((uint8_t *)iov->iov_base + at, want - at, 0);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return (uint32_t)done;
            }
            at += (uint64_t)got;
            done += (uint64_t)got;
        }
    }
    return (uint32_t)done;
}

static void kick(struct vh_virtio *device, uint32_t index)
{
    struct vh_chain chain;
    uint64_t bytes = 0;
    uint32_t chains = 0;
    while (vh_virtio_pop(device, index, &chain) > 0) {
        uint32_t written = fill(&chain);
        vh_virtio_push(device, index, &chain, written);
        bytes += written;
        if (bytes >= TURN_BYTES || ++chains == VH_SMALL_CHAINS) {
            vh_small_again(device, index);
            break;
        }
    }
    vh_virtio_notify(device, index);
}

static void stop(struct vh_virtio *device)
{
    (void)device; /* nothing is under way between two kicks */
}

static void destroy(struct vh_virtio *device)
{
    free(device);
}

static const struct vh_virtio_ops ops = {.stop = stop, .kick = kick, .destroy = destroy};

int32_t vh_rng_new(struct vh_virtio **device, struct vmmhpc_error *err)
{
    struct vh_virtio *rng = calloc(1, sizeof(*rng));
    if (rng == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*rng), "no memory for a device");
    }
    rng->ops = &ops;
    rng->name = "rng";
    rng->id = VH_VIRTIO_RNG;
    rng->queue_count = 1;
    rng->queue_size[REQUESTS] = QUEUE_SIZE;
    *device = rng;
    return VMMHPC_OK;
}

int32_t vmmhpc_add_rng(struct vmmhpc *vm, uint32_t *id, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->add_plain(vm, VH_REMOTE_RNG, id, err);
    }
    struct vh_virtio *device = NULL;
    int32_t status = vh_rng_new(&device, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vh_virtio_add(vm, device, id, err);
    if (status != VMMHPC_OK) {
        destroy(device);
    }
    return status;
}
