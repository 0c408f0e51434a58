/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem (virtio 1.2, 5.19): a file that the guest sees as memory. Reads and writes are no
 * business of this process: the host's page cache is mapped into the guest, and shared by all that
 * map the same file. Only flushes come through the queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine.h"
#include "virtio/small.h"

#define REQUESTS 0u
#define QUEUE_SIZE 64u
#define BATCH 16u

/* 5.19.4 */
#define CONFIG_START 0u
#define CONFIG_SIZE 8u
#define CONFIG_BYTES 16u

/* 5.19.6 */
#define REQUEST_FLUSH 0u
#define RESULT_OK 0u
#define RESULT_FAILED 0xffffffffu

#define ALIGNMENT (2 * VH_MIB) /* so that host and guest can use large pages */

struct pmem {
    struct vh_virtio virtio;
    int fd;
    bool read_only;
    void *base;
    uint64_t bytes;
    struct vh_chain chains[BATCH]; /* in work */
};

static struct pmem *of(struct vh_virtio *device)
{
    return (struct pmem *)device;
}

static void put64(struct vh_virtio *device, uint32_t offset, uint64_t value)
{
    memcpy(device->config + offset, &value, sizeof(value));
}

/* What the guest wrote by memory is as dirty in the page cache as what is written to a file. */
static uint32_t flush(const struct pmem *pmem)
{
    return pmem->read_only || fdatasync(pmem->fd) == 0 ? RESULT_OK : RESULT_FAILED;
}

/* Requests that came together are answered by one flush: they were made available before it. A
 * flush may take long, and the I/O thread waits for it. */
static void answer(struct pmem *pmem, uint32_t count)
{
    struct vh_virtio *device = &pmem->virtio;
    uint32_t results[BATCH];
    uint32_t flushed = RESULT_FAILED;
    bool asked = false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t type = 0;
        bool good = vh_chain_read(&pmem->chains[i], 0, &type, sizeof(type)) == sizeof(type) &&
                    type == REQUEST_FLUSH;
        if (good && !asked) {
            asked = true;
            flushed = flush(pmem);
        }
        results[i] = good ? flushed : RESULT_FAILED;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t written = vh_chain_write(&pmem->chains[i], 0, &results[i], sizeof(results[i]));
        vh_virtio_push(device, REQUESTS, &pmem->chains[i], (uint32_t)written);
    }
}

static void kick(struct vh_virtio *device, uint32_t index)
{
    struct pmem *pmem = of(device);
    uint32_t count = 0;
    while (count < BATCH && vh_virtio_pop(device, index, &pmem->chains[count]) > 0) {
        count++;
    }
    answer(pmem, count);
    if (count == BATCH) {
        vh_small_again(device, index); /* others first */
    }
    vh_virtio_notify(device, index);
}

static void stop(struct vh_virtio *device)
{
    (void)device; /* nothing is under way between two kicks */
}

static void destroy(struct vh_virtio *device)
{
    struct pmem *pmem = of(device);
    if (pmem->base != NULL) {
        (void)munmap(pmem->base, pmem->bytes);
    }
    if (pmem->fd >= 0) {
        (void)close(pmem->fd);
    }
    free(pmem);
}

static const struct vh_virtio_ops ops = {.stop = stop, .kick = kick, .destroy = destroy};

static int32_t open_file(const struct vh_files *files, struct pmem *pmem, const char *path,
                         struct vmmhpc_error *err)
{
    struct stat info;
    int mode = pmem->read_only ? O_RDONLY : O_RDWR;
    pmem->fd = vh_open(files, path, mode | O_NONBLOCK); /* a FIFO is to be refused, not opened */
    if (pmem->fd < 0 || fstat(pmem->fd, &info) != 0) {
        return vh_fail(err, errno == EACCES || errno == EPERM ? VMMHPC_E_PERMISSION : VMMHPC_E_IO,
                       errno, 0, "cannot open %s", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "%s is not a regular file", path);
    }
    if (info.st_size <= 0 || (uint64_t)info.st_size % ALIGNMENT != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)info.st_size,
                       "the size of %s is not a positive multiple of 2 MiB", path);
    }
    pmem->bytes = (uint64_t)info.st_size;
    return VMMHPC_OK;
}

/* At an address that agrees with the guest's modulo 2 MiB. */
static int32_t map_file(struct pmem *pmem, const char *path, struct vmmhpc_error *err)
{
    const uint64_t span = pmem->bytes + ALIGNMENT;
    uint8_t *start =
        mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, pmem->bytes, "no address space for %s",
                       path);
    }
    const uint64_t head = -(uintptr_t)start & (ALIGNMENT - 1);
    if (head > 0) {
        (void)munmap(start, head);
    }
    if (head < ALIGNMENT) {
        (void)munmap(start + head + pmem->bytes, ALIGNMENT - head);
    }
    pmem->base = start + head; /* unmapped by destroy() from now on */
    /* Read-only is the file: what the guest writes goes into pages of its own. */
    int flags = MAP_FIXED | (pmem->read_only ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED);
    if (mmap(pmem->base, pmem->bytes, PROT_READ | PROT_WRITE, flags, pmem->fd, 0) == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_IO, errno, pmem->bytes, "cannot map %s", path);
    }
    return VMMHPC_OK;
}

int32_t vh_pmem_new(const struct vh_files *files, const struct vmmhpc_pmem *config,
                    struct vh_virtio **device, struct vmmhpc_error *err)
{
    if (config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->size, "pmem: bad structure size");
    }
    if ((config->flags & ~VMMHPC_PMEM_READ_ONLY) != 0 || config->path == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->flags, "pmem: unknown flags, or no path");
    }
    struct pmem *pmem = calloc(1, sizeof(*pmem));
    if (pmem == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*pmem), "no memory for a device");
    }
    pmem->read_only = (config->flags & VMMHPC_PMEM_READ_ONLY) != 0;
    int32_t status = open_file(files, pmem, config->path, err);
    if (status == VMMHPC_OK) {
        status = map_file(pmem, config->path, err);
    }
    if (status != VMMHPC_OK) {
        destroy(&pmem->virtio);
        return status;
    }
    pmem->virtio.ops = &ops;
    pmem->virtio.name = "pmem";
    pmem->virtio.id = VH_VIRTIO_PMEM;
    pmem->virtio.unsaved = pmem->read_only;
    pmem->virtio.queue_count = 1;
    pmem->virtio.queue_size[REQUESTS] = QUEUE_SIZE;
    pmem->virtio.config_bytes = CONFIG_BYTES;
    put64(&pmem->virtio, CONFIG_SIZE, pmem->bytes);
    *device = &pmem->virtio;
    return VMMHPC_OK;
}

void *vh_pmem_mapping(struct vh_virtio *device, uint64_t *bytes)
{
    *bytes = of(device)->bytes;
    return of(device)->base;
}

void vh_pmem_place(struct vh_virtio *device, uint64_t gpa)
{
    put64(device, CONFIG_START, gpa);
}

int32_t vmmhpc_add_pmem(struct vmmhpc *vm, const struct vmmhpc_pmem *config, uint32_t *id,
                        struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->add_pmem(vm, config, id, err);
    }
    struct vh_virtio *device = NULL;
    int32_t status = vh_pmem_new(vm->files, config, &device, err);
    if (status != VMMHPC_OK || device == NULL) {
        return status;
    }
    status = vh_virtio_add(vm, device, id, err);
    if (status != VMMHPC_OK) {
        destroy(device);
        return status;
    }
    /* Last, as a slot cannot be taken back: from here on the machine owns the mapping. */
    uint64_t bytes = 0;
    uint64_t gpa = 0;
    void *base = vh_pmem_mapping(device, &bytes);
    status = vh_kvm_add_memory(vm, &gpa, bytes, base, false, err);
    if (status == VMMHPC_OK) {
        vh_pmem_place(device, gpa);
    } else {
        put64(device, CONFIG_SIZE, 0); /* there is nothing for the driver */
    }
    return status;
}
