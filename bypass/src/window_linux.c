// SPDX-License-Identifier: Apache-2.0
/*
 * The window of a Linux guest, from user space and with stock modules: the PCI function through
 * /sys, its memory through /dev/mem (cacheable: docs/reference/shm.md), its interrupts through
 * uio_pci_generic.
 */
#include "window.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define DRIVER "/sys/bus/pci/drivers/uio_pci_generic/new_id"
#define TABLE_BYTES 4096u
#define REGISTER_BYTES 4096u

enum { REG_ID = 0, REG_PEERS = 1, REG_INTERRUPTS = 2, REG_DOORBELL = 3, REG_STATE = 4 };
enum { COMMAND = 4, COMMAND_MEMORY = 2, CAPABILITIES = 0x34, VENDOR_SPECIFIC = 9, AREA_SIZE = 16 };

struct linux_window {
    struct bypass_window window; /* first */
    char device[300];            /* its directory */
    volatile uint32_t *registers;
    uint8_t *memory;
    uint64_t bytes;
    int config;
    int uio;
};

static struct linux_window *of(struct bypass_window *window)
{
    return (struct linux_window *)window;
}

static int open_in(const struct linux_window *linux_window, const char *name, int flags)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", linux_window->device, name);
    return open(path, flags | O_CLOEXEC);
}

static uint64_t number_in(const struct linux_window *linux_window, const char *name)
{
    char text[32] = "";
    int fd = open_in(linux_window, name, O_RDONLY);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    return got > 0 ? strtoull(text, NULL, 16) : 0;
}

/* The first function of the channel's kind. */
static int32_t find(struct linux_window *found)
{
    DIR *all = opendir(DEVICES);
    struct dirent *entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        snprintf(found->device, sizeof(found->device), DEVICES "/%s", entry->d_name);
        if (entry->d_name[0] != '.' && number_in(found, "vendor") == 0x110a &&
            number_in(found, "device") == 0x4106) {
            closedir(all);
            return BYPASS_OK;
        }
    }
    if (all != NULL) {
        closedir(all);
    }
    return BYPASS_E_UNSUPPORTED;
}

/* Where a BAR is: `resource` has a line of three numbers for each. */
static uint64_t bar(const struct linux_window *linux_window, int index, uint64_t *bytes)
{
    unsigned long long start = 0;
    unsigned long long end = 0;
    int fd = open_in(linux_window, "resource", O_RDONLY);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    *bytes = 0;
    if (file == NULL) {
        return 0;
    }
    int complete = 1;
    for (int i = 0; i <= index && complete; i++) {
        complete = fscanf(file, "%llx %llx %*x", &start, &end) == 2;
    }
    fclose(file);
    *bytes = complete && end > start ? end - start + 1 : 0;
    return start;
}

static uint32_t config_read(const struct linux_window *linux_window, uint32_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    return pread(linux_window->config, &value, bytes, offset) == (ssize_t)bytes ? value : 0;
}

/* Memory on, INTx on: uio_pci_generic turns it off with each interrupt that it takes. */
static void enable(const struct linux_window *linux_window)
{
    uint16_t value = COMMAND_MEMORY;
    if (pwrite(linux_window->config, &value, sizeof(value), COMMAND) != (ssize_t)sizeof(value)) {
        return; /* a device that has gone; nobody rings then */
    }
}

/* Bind the driver that brings interrupts here, and open what it offers. */
static int32_t bind_uio(struct linux_window *linux_window)
{
    char path[400];
    int fd = open(DRIVER, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || (write(fd, "110a 4106", 9) != 9 && errno != EEXIST)) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        errno = error;
        return BYPASS_E_SYSTEM;
    }
    close(fd);
    snprintf(path, sizeof(path), "%s/uio", linux_window->device);
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && linux_window->uio < 0 && (entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, "uio", 3) == 0) {
            snprintf(path, sizeof(path), "/dev/%.16s", entry->d_name);
            linux_window->uio = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return linux_window->uio < 0 ? BYPASS_E_SYSTEM : BYPASS_OK;
}

static void *map(int fd, uint64_t bytes, uint64_t offset)
{
    if (fd < 0 || bytes == 0) {
        return NULL;
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    int error = errno;
    close(fd);
    errno = error;
    return memory == MAP_FAILED ? NULL : memory;
}

static uint64_t area_bytes(const struct linux_window *linux_window)
{
    uint32_t at = config_read(linux_window, CAPABILITIES, 1);
    for (int hops = 0; at != 0 && hops < 48; hops++) {
        if (config_read(linux_window, at, 1) == VENDOR_SPECIFIC) {
            return config_read(linux_window, at + AREA_SIZE, 4) |
                   (uint64_t)config_read(linux_window, at + AREA_SIZE + 4, 4) << 32;
        }
        at = config_read(linux_window, at + 1, 1);
    }
    return 0;
}

static void set_state(struct bypass_window *window, uint32_t state)
{
    of(window)->registers[REG_STATE] = state;
}

static void ring(struct bypass_window *window, uint32_t peer)
{
    of(window)->registers[REG_DOORBELL] = peer << 16;
}

static void wait(struct bypass_window *window, uint64_t timeout)
{
    struct linux_window *linux_window = of(window);
    struct pollfd ready = {.fd = linux_window->uio, .events = POLLIN};
    uint32_t count = 0;
    /* The device keeps what rang since the last time, and interrupts now. */
    enable(linux_window);
    if (poll(&ready, 1, (int)((timeout + 999) / 1000)) > 0 &&
        read(linux_window->uio, &count, sizeof(count)) < 0) {
        return; /* waking up for nothing is allowed */
    }
}

static void close_window(struct bypass_window *window)
{
    struct linux_window *linux_window = of(window);
    if (linux_window->registers != NULL) {
        linux_window->registers[REG_INTERRUPTS] = 0;
        munmap((void *)(uintptr_t)linux_window->registers, REGISTER_BYTES);
    }
    if (linux_window->memory != NULL) {
        munmap(linux_window->memory, linux_window->bytes);
    }
    if (linux_window->config >= 0) {
        close(linux_window->config);
    }
    if (linux_window->uio >= 0) {
        close(linux_window->uio);
    }
    free(linux_window);
}

static const struct bypass_window_ops LINUX_OPS = {
    .set_state = set_state, .ring = ring, .wait = wait, .close = close_window};

static int32_t open_device(struct linux_window *linux_window, int32_t waits)
{
    int32_t code = find(linux_window);
    if (code != BYPASS_OK) {
        return code;
    }
    linux_window->config = open_in(linux_window, "config", O_RDWR);
    if (linux_window->config < 0) {
        return BYPASS_E_SYSTEM;
    }
    code = waits ? bind_uio(linux_window) : BYPASS_OK;
    if (code != BYPASS_OK) {
        return code;
    }
    enable(linux_window);
    linux_window->registers = map(open_in(linux_window, "resource0", O_RDWR), REGISTER_BYTES, 0);
    /* Not resource2, which Linux maps uncached: /dev/mem takes the type of the MTRRs, write-back. */
    uint64_t start = bar(linux_window, 2, &linux_window->bytes);
    linux_window->memory = map(open("/dev/mem", O_RDWR | O_CLOEXEC), linux_window->bytes, start);
    if (linux_window->registers == NULL || linux_window->memory == NULL) {
        return BYPASS_E_SYSTEM;
    }
    struct bypass_window *window = &linux_window->window;
    window->states = (const _Atomic uint32_t *)linux_window->memory;
    window->areas = linux_window->memory + TABLE_BYTES;
    window->area_bytes = area_bytes(linux_window);
    window->id = linux_window->registers[REG_ID];
    window->peers = linux_window->registers[REG_PEERS];
    window->can_wait = waits;
    if (window->peers > BYPASS_PEERS_MAX || window->area_bytes > linux_window->bytes ||
        TABLE_BYTES + window->peers * window->area_bytes > linux_window->bytes) {
        return BYPASS_E_UNSUPPORTED;
    }
    linux_window->registers[REG_INTERRUPTS] = (uint32_t)waits;
    return BYPASS_OK;
}

int32_t bypass_window_linux(int32_t waits, struct bypass_window **out)
{
    struct linux_window *linux_window = calloc(1, sizeof(*linux_window));
    if (linux_window == NULL) {
        return BYPASS_E_MEMORY;
    }
    linux_window->config = -1;
    linux_window->uio = -1;
    linux_window->window.ops = &LINUX_OPS;
    int32_t code = open_device(linux_window, waits);
    if (code != BYPASS_OK) {
        int error = errno;
        close_window(&linux_window->window);
        errno = error;
        return code;
    }
    *out = &linux_window->window;
    return BYPASS_OK;
}
