/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int map(struct ring *ring, int fd, uint64_t size)
{
    int failed = posix_fallocate(fd, 0, (off_t)(RING_HEADER + size));
    if (failed != 0) {
        return failed;
    }
    void *at = mmap(NULL, RING_HEADER + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return errno;
    }
    *ring = (struct ring){.header = at, .data = (uint8_t *)at + RING_HEADER, .size = size};
    ring->header->size = size;
    memcpy(ring->header->magic, RING_MAGIC, sizeof(ring->header->magic));
    return 0;
}

int ring_create(struct ring *ring, const char *path, uint64_t size)
{
    if (size < RING_MIN || size > RING_MAX) {
        return EINVAL;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return errno;
    }
    int failed = map(ring, fd, size);
    (void)close(fd);
    return failed;
}

void ring_close(struct ring *ring)
{
    if (ring->header != NULL) {
        (void)munmap(ring->header, RING_HEADER + ring->size);
        *ring = (struct ring){0};
    }
}

uint64_t ring_end(const struct ring *ring)
{
    return ring->header->total;
}

uint64_t ring_begin(const struct ring *ring)
{
    uint64_t end = ring_end(ring);
    return end > ring->size ? end - ring->size : 0;
}

uint8_t *ring_next(const struct ring *ring, size_t *bytes)
{
    uint64_t at = ring_end(ring) % ring->size;
    *bytes = (size_t)(ring->size - at);
    return ring->data + at;
}

void ring_advance(struct ring *ring, size_t bytes)
{
    __atomic_store_n(&ring->header->total, ring->header->total + bytes, __ATOMIC_RELEASE);
}

const uint8_t *ring_at(const struct ring *ring, uint64_t position, size_t *bytes)
{
    uint64_t at = position % ring->size;
    uint64_t left = ring_end(ring) - position;
    uint64_t piece = ring->size - at;
    *bytes = (size_t)(left < piece ? left : piece);
    return ring->data + at;
}
