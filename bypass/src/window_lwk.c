// SPDX-License-Identifier: Apache-2.0
/* The window of a program on the lightweight kernel: a file that only that kernel has. */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICE_FILE "/dev/v3m-shm" /* registers at 0, memory at 4096; reading: how large it is */

struct lwk_window {
    struct device device; /* first */
    int fd;
};

static void wait(struct bypass_window *window, uint64_t timeout)
{
    struct lwk_window *lwk = (struct lwk_window *)window;
    struct pollfd ready = {.fd = lwk->fd, .events = POLLIN};
    uint32_t count = 0;
    if (poll(&ready, 1, (int)((timeout + 999) / 1000)) > 0 &&
        read(lwk->fd, &count, sizeof(count)) < 0) {
        return; /* waking up for nothing is allowed */
    }
}

static void close_window(struct bypass_window *window)
{
    struct lwk_window *lwk = (struct lwk_window *)window;
    device_stop(&lwk->device);
    if (lwk->fd >= 0) {
        close(lwk->fd);
    }
    free(lwk);
}

static const struct bypass_window_ops LWK_OPS = {
    .set_state = device_set_state, .ring = device_ring, .wait = wait, .close = close_window};

static void *map(int fd, uint64_t bytes, off_t offset)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    return memory == MAP_FAILED ? NULL : memory;
}

static int32_t open_device(struct lwk_window *lwk, int32_t waits)
{
    uint64_t sizes[2] = {0}; /* of the memory, of an area */
    lwk->fd = open(DEVICE_FILE, O_RDWR | O_CLOEXEC);
    if (lwk->fd < 0) {
        return errno == ENOENT ? BYPASS_E_UNSUPPORTED : BYPASS_E_SYSTEM;
    }
    if (pread(lwk->fd, sizes, sizeof(sizes), 0) != (ssize_t)sizeof(sizes)) {
        return BYPASS_E_UNSUPPORTED;
    }
    lwk->device.bytes = sizes[0];
    lwk->device.registers = map(lwk->fd, DEVICE_REGISTER_BYTES, 0);
    lwk->device.memory = map(lwk->fd, sizes[0], DEVICE_REGISTER_BYTES);
    if (lwk->device.registers == NULL || lwk->device.memory == NULL) {
        return BYPASS_E_SYSTEM;
    }
    /* Its memory ends with the last area. */
    const uint64_t areas = sizes[0] - lwk->device.registers[REG_PEERS] * sizes[1];
    return device_start(&lwk->device, areas, sizes[1], waits);
}

int32_t bypass_window_lwk(int32_t waits, struct bypass_window **out)
{
    struct lwk_window *lwk = calloc(1, sizeof(*lwk));
    if (lwk == NULL) {
        return BYPASS_E_MEMORY;
    }
    lwk->device.window.ops = &LWK_OPS;
    int32_t code = open_device(lwk, waits);
    if (code != BYPASS_OK) {
        int error = errno;
        close_window(&lwk->device.window);
        errno = error;
        return code;
    }
    *out = &lwk->device.window;
    return BYPASS_OK;
}
