/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: what the driver is told (virtio 1.2, 5.2.3 and 5.2.4), and making a device. */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "virtio/blk.h"

#define CONFIG_BYTES offsetof(struct virtio_blk_config, max_secure_erase_sectors)

static uint8_t exponent(uint32_t value)
{
    return (uint8_t)(31 - __builtin_clz(value | 1));
}

static void describe(struct vh_blk *blk)
{
    const struct vh_blk_store *store = blk->store;
    uint32_t block = store->block_bytes;
    uint32_t physical = store->physical_bytes > block ? store->physical_bytes : block;
    struct virtio_blk_config config = {
        .capacity = store->bytes / VH_BLK_SECTOR,
        .seg_max = VH_BLK_QUEUE - 2, /* beside header and status */
        .blk_size = block,
        .physical_block_exp = exponent(physical / block),
        .min_io_size = (uint16_t)(physical / block),
        .opt_io_size = store->optimal_bytes / block,
    };
    uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                        1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_FLUSH |
                        1ull << VIRTIO_BLK_F_CONFIG_WCE;
    if (store->read_only) {
        features |= 1ull << VIRTIO_BLK_F_RO;
    }
    if (store->can_discard) {
        features |= 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
        config.max_discard_sectors = VH_BLK_RANGE_SECTORS;
        config.max_discard_seg = 1;
        config.discard_sector_alignment =
            (store->optimal_bytes > physical ? store->optimal_bytes : physical) / VH_BLK_SECTOR;
        config.max_write_zeroes_sectors = VH_BLK_RANGE_SECTORS;
        config.max_write_zeroes_seg = 1;
        config.write_zeroes_may_unmap = 1;
    }
    blk->virtio.features = features;
    blk->virtio.config_bytes = CONFIG_BYTES;
    memcpy(blk->virtio.config, &config, CONFIG_BYTES);
}

/* ------------------------------------------------------------------ making one */

static int32_t open_store(const struct vh_files *files, struct vh_blk *blk,
                          const struct vmmhpc_blk *config, const struct vh_thread_source *threads,
                          struct vmmhpc_error *err)
{
    if (config->overlay_path != NULL) {
        int32_t status = vh_blk_overlay_open(files, config->overlay_path, config->path,
                                             config->flags, &blk->store, err);
        return status != VMMHPC_OK ? status
                                   : vh_blk_thread_open(blk->store, threads, &blk->engine, err);
    }
    struct vh_blk_raw *raw = NULL;
    int32_t status = vh_blk_raw_open(files, config->path, config->flags, &raw, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    blk->store = &raw->store;
    if ((config->flags & VMMHPC_BLK_NO_URING) == 0 &&
        vh_blk_uring_open(raw, &blk->engine, NULL) == VMMHPC_OK) {
        blk->has_uring = true;
        return VMMHPC_OK;
    }
    return vh_blk_thread_open(blk->store, threads, &blk->engine, err);
}

static int32_t check(const struct vmmhpc_blk *config, struct vmmhpc_error *err)
{
    const uint32_t flags = VMMHPC_BLK_READ_ONLY | VMMHPC_BLK_DIRECT | VMMHPC_BLK_NO_URING;
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->size,
                       "struct vmmhpc_blk has another size");
    }
    if (config->path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a disk needs a path");
    }
    if ((config->flags & ~flags) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->flags, "unknown flags of a disk: 0x%x",
                       config->flags);
    }
    if (config->serial != NULL && strlen(config->serial) > VIRTIO_BLK_ID_BYTES) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, strlen(config->serial),
                       "a disk's serial number has at most %u bytes", VIRTIO_BLK_ID_BYTES);
    }
    return VMMHPC_OK;
}

int32_t vh_blk_new(const struct vh_files *files, const struct vmmhpc_blk *config,
                   const struct vh_thread_source *threads, struct vh_virtio **device,
                   struct vmmhpc_error *err)
{
    int32_t status = check(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_blk *blk = calloc(1, sizeof(*blk));
    if (blk == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, 0, "no memory for a disk");
    }
    blk->virtio.ops = &vh_blk_ops;
    blk->virtio.name = "blk";
    blk->virtio.id = VH_VIRTIO_BLK;
    blk->virtio.queue_count = 1;
    blk->virtio.queue_size[0] = VH_BLK_QUEUE;
    if (config->serial != NULL) {
        memcpy(blk->serial, config->serial, strlen(config->serial));
    }
    status = open_store(files, blk, config, threads, err);
    if (status == VMMHPC_OK) {
        status = vh_blk_make_slots(blk, err);
    }
    if (status != VMMHPC_OK) {
        vh_blk_ops.destroy(&blk->virtio);
        return status;
    }
    blk->source = (struct vh_io_source){blk->engine->event_fd, vh_blk_ready, blk};
    describe(blk);
    *device = &blk->virtio;
    return VMMHPC_OK;
}

bool vh_blk_has_uring(const struct vh_virtio *device)
{
    return ((const struct vh_blk *)device)->has_uring;
}

int32_t vmmhpc_add_blk(struct vmmhpc *vm, const struct vmmhpc_blk *config, uint32_t *id,
                       struct vmmhpc_error *err)
{
    int32_t status = check(config, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->add_blk(vm, config, id, err);
    }
    struct vh_virtio *device = NULL;
    status = vh_blk_new(vm->files, config, &vm->threads, &device, err);
    if (device == NULL) {
        return status;
    }
    status = vh_io_add(vm, vh_blk_source(device), EPOLLIN, err);
    if (status == VMMHPC_OK) {
        ((struct vh_blk *)device)->watched_by = vm;
        status = vh_virtio_add(vm, device, id, err);
    }
    if (status != VMMHPC_OK) {
        vh_blk_ops.destroy(device);
    }
    return status;
}
