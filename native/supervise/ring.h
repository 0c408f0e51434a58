/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last bytes of a stream in a file, readable by others while it is written and after its
 * writer's end. The file: a header (below), then `size` bytes; byte number n of the stream is at n
 * modulo `size`. src/v3m/supervise/ring.ts reads it.
 */
#ifndef SUPERVISE_RING_H
#define SUPERVISE_RING_H

#include <stddef.h>
#include <stdint.h>

#define RING_MAGIC "v3mring1"
/** Where the bytes begin in the file. */
#define RING_HEADER 64u
#define RING_MIN 4096u
#define RING_MAX (1u << 30)

struct ring_header {
    char magic[8];
    uint64_t size;
    /** Bytes of the stream so far; it is changed after the bytes are there. */
    uint64_t total;
};

struct ring {
    struct ring_header *header;
    uint8_t *data;
    uint64_t size;
};

/**
 * Make the file, or replace it. All its room is reserved, so that a full file system is noticed
 * here.
 * @param size bytes kept, RING_MIN to RING_MAX
 * @return 0 or an errno
 */
int ring_create(struct ring *ring, const char *path, uint64_t size);

/** The file stays. */
void ring_close(struct ring *ring);

/** Number of the first byte behind the end. */
uint64_t ring_end(const struct ring *ring);

/** Number of the oldest byte that is kept. */
uint64_t ring_begin(const struct ring *ring);

/** Where the next bytes go: the returned place has room for *bytes of them, at least one. */
uint8_t *ring_next(const struct ring *ring, size_t *bytes);

/** Bytes were put at ring_next(). */
void ring_advance(struct ring *ring, size_t bytes);

/** The bytes from number `position` on, as far as they lie in one piece: *bytes of them, 0 at the
 * end. */
const uint8_t *ring_at(const struct ring *ring, uint64_t position, size_t *bytes);

#endif
