// SPDX-License-Identifier: Apache-2.0
// A channel as the lightweight kernel shows it: one file (docs/reference/shm.md).
#ifndef CHANNEL_FILE_H
#define CHANNEL_FILE_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHANNEL_FILE "/dev/v3m-shm"
#define CHANNEL_TABLE 4096u /* bytes of the table of states */

enum { REG_ID = 0, REG_PEERS = 1, REG_INTERRUPTS = 2, REG_DOORBELL = 3, REG_STATE = 4 };

struct channel_file {
    int fd;
    volatile uint32_t *registers;
    volatile uint8_t *window;
    uint64_t window_bytes;
    uint64_t area_bytes;
    uint64_t areas; /* where they begin, behind the table and what all may write: the last one ends the window */
};

static inline void *channel_map(int fd, uint64_t bytes, uint64_t offset)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
}

/* 0; or -1 with errno: ENOENT where there is no such file. */
static inline int channel_file_open(struct channel_file *channel)
{
    uint64_t sizes[2];
    channel->fd = open(CHANNEL_FILE, O_RDWR | O_CLOEXEC);
    if (channel->fd < 0 || pread(channel->fd, sizes, sizeof(sizes), 0) != (ssize_t)sizeof(sizes)) {
        return -1;
    }
    channel->window_bytes = sizes[0];
    channel->area_bytes = sizes[1];
    channel->registers = channel_map(channel->fd, 4096, 0);
    channel->window = channel_map(channel->fd, channel->window_bytes, 4096);
    if ((const void *)channel->registers == MAP_FAILED || (const void *)channel->window == MAP_FAILED) {
        return -1;
    }
    channel->areas = channel->window_bytes - channel->area_bytes * channel->registers[REG_PEERS];
    return 0;
}

#endif
