// SPDX-License-Identifier: Apache-2.0
/*
 * The window of a Linux guest, from user space and with stock modules: the PCI function through
 * /sys, its memory through /dev/mem (cacheable: docs/reference/shm.md), its interrupts through
 * VFIO, or where that is not to be had through uio_pci_generic.
 *
 * A process that dies leaves the device as it is, and others would wait for it. So there is a
 * guard: a process that does nothing but wait for this one's end, and says that the peer is gone
 * then.
 */
#include "device.h"
#include "vfio_bell.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define DRIVER "/sys/bus/pci/drivers/uio_pci_generic/new_id"

enum { COMMAND = 4, COMMAND_MEMORY = 2, CAPABILITIES = 0x34, VENDOR_SPECIFIC = 9 };
/* In the vendor-specific capability: what all may write, and each area; 64 bits. */
enum { COMMON_SIZE = 8, AREA_SIZE = 16 };

struct linux_window {
    struct device device; /* first */
    char directory[300];  /* the device's */
    int config;
    struct vfio_bell vfio; /* by MSI-X, */
    int uio;               /* or by INTx, or neither of them */
    int lifeline;          /* the guard sees it closed when this process ends */
    pid_t guard;           /* 0: none */
};

static struct linux_window *of(struct bypass_window *window)
{
    return (struct linux_window *)window;
}

static int open_in(const struct linux_window *linux_window, const char *name, int flags)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", linux_window->directory, name);
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
        snprintf(found->directory, sizeof(found->directory), DEVICES "/%s", entry->d_name);
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

/* Where a BAR is: `resource` has a line of three numbers for each, start, end and flags. */
static uint64_t bar(const struct linux_window *linux_window, int index, uint64_t *bytes)
{
    char text[1024] = "";
    char *at = text;
    uint64_t numbers[3] = {0};
    int fd = open_in(linux_window, "resource", O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
        for (int i = 0; i < (index + 1) * 3; i++) {
            numbers[i % 3] = strtoull(at, &at, 16);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    *bytes = numbers[1] > numbers[0] ? numbers[1] - numbers[0] + 1 : 0;
    return numbers[0];
}

static uint32_t config_read(const struct linux_window *linux_window, uint32_t offset,
                            uint32_t bytes)
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
    snprintf(path, sizeof(path), "%s/uio", linux_window->directory);
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

static int32_t open_interrupts(struct linux_window *linux_window)
{
    if (vfio_bell_open(&linux_window->vfio, linux_window->directory, EFD_NONBLOCK)) {
        return BYPASS_OK;
    }
    return bind_uio(linux_window);
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

/* A number of the vendor-specific capability's, or 0. */
static uint64_t size_of(const struct linux_window *linux_window, uint32_t what)
{
    uint32_t at = config_read(linux_window, CAPABILITIES, 1);
    for (int hops = 0; at != 0 && hops < 48; hops++) {
        if (config_read(linux_window, at, 1) == VENDOR_SPECIFIC) {
            return config_read(linux_window, at + what, 4) |
                   (uint64_t)config_read(linux_window, at + what + 4, 4) << 32;
        }
        at = config_read(linux_window, at + 1, 1);
    }
    return 0;
}

static void set_state(struct bypass_window *window, uint32_t state)
{
    /* Without a guard there is nobody to tell. */
    (void)send(of(window)->lifeline, &state, sizeof(state), MSG_NOSIGNAL);
    device_set_state(window, state);
}

static void wait_for_bell(struct bypass_window *window, uint64_t timeout)
{
    struct linux_window *linux_window = of(window);
    const bool by_uio = linux_window->uio >= 0;
    struct pollfd ready = {.fd = by_uio ? linux_window->uio : linux_window->vfio.event,
                           .events = POLLIN};
    uint64_t count = 0;
    if (by_uio) {
        /* The device keeps what rang since the last time, and interrupts now. */
        enable(linux_window);
    }
    if (poll(&ready, 1, (int)((timeout + 999) / 1000)) > 0 &&
        read(ready.fd, &count, by_uio ? sizeof(uint32_t) : sizeof(count)) < 0) {
        return; /* waking up for nothing is allowed */
    }
}

static void close_window(struct bypass_window *window)
{
    struct linux_window *linux_window = of(window);
    if (linux_window->guard != 0) {
        kill(linux_window->guard, SIGKILL);
        waitpid(linux_window->guard, NULL, __WCLONE);
        close(linux_window->lifeline);
    }
    device_stop(&linux_window->device);
    if (linux_window->config >= 0) {
        close(linux_window->config);
    }
    if (linux_window->uio >= 0) {
        close(linux_window->uio);
    }
    vfio_bell_close(&linux_window->vfio);
    free(linux_window);
}

static const struct bypass_window_ops LINUX_OPS = {
    .set_state = set_state, .ring = device_ring, .wait = wait_for_bell, .close = close_window};

/* The guard: its memory is a copy of this process's, the registers are the same. */
static void stand_guard(const struct linux_window *linux_window, int lifeline)
{
    volatile uint32_t *registers = linux_window->device.registers;
    const volatile uint32_t *state =
        (const volatile uint32_t *)linux_window->device.memory + linux_window->device.window.id;
    uint32_t told = 0;
    uint32_t last = 0;
    /* Not ended with the process by a signal to all in its group; nothing of it kept open, but for
     * the function, which VFIO would disable. */
    setsid();
    int function = fcntl(linux_window->vfio.device, F_DUPFD, 2);
    dup2(lifeline, 0);
    dup2(function, 1);
    syscall(SYS_close_range, function < 0 ? 1u : 2u, ~0u, 0);
    ssize_t got = 0;
    while ((got = read(0, &told, sizeof(told))) > 0 || (got < 0 && errno == EINTR)) {
        last = got > 0 ? told : last;
    }
    /* Unless it left, and perhaps another process is this peer already. */
    if (last != 0 && (*state == last || *state == 0)) {
        registers[REG_STATE] = 0;
    }
}

static int32_t set_guard(struct linux_window *linux_window)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return BYPASS_E_SYSTEM;
    }
    /* A fork without the signal at its end, which is none of the program's business. */
    long guard = syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
    if (guard == 0) {
        close(ends[1]);
        stand_guard(linux_window, ends[0]);
        _exit(0);
    }
    close(ends[0]);
    if (guard < 0) {
        close(ends[1]);
        return BYPASS_E_SYSTEM;
    }
    linux_window->lifeline = ends[1];
    linux_window->guard = (pid_t)guard;
    return BYPASS_OK;
}

static int32_t open_device(struct linux_window *linux_window, int32_t waits)
{
    int32_t code = find(linux_window);
    if (code != BYPASS_OK) {
        return code;
    }
    linux_window->config = open_in(linux_window, "config", O_RDWR);
    /* One process at a time. */
    if (linux_window->config < 0 || flock(linux_window->config, LOCK_EX | LOCK_NB) != 0) {
        return BYPASS_E_SYSTEM;
    }
    code = waits ? open_interrupts(linux_window) : BYPASS_OK;
    if (code != BYPASS_OK) {
        return code;
    }
    if (linux_window->vfio.device < 0) {
        enable(linux_window);
    }
    struct device *device = &linux_window->device;
    device->registers = map(open_in(linux_window, "resource0", O_RDWR), DEVICE_REGISTER_BYTES, 0);
    /* Not resource2, which Linux maps uncached: /dev/mem takes the type of the MTRRs, write-back.
     */
    uint64_t start = bar(linux_window, 2, &device->bytes);
    device->memory = map(open("/dev/mem", O_RDWR | O_CLOEXEC), device->bytes, start);
    if (device->registers == NULL || device->memory == NULL) {
        return BYPASS_E_SYSTEM;
    }
    code = device_start(device, DEVICE_TABLE_BYTES + size_of(linux_window, COMMON_SIZE),
                        size_of(linux_window, AREA_SIZE), waits);
    return code == BYPASS_OK ? set_guard(linux_window) : code;
}

int32_t bypass_window_linux(int32_t waits, struct bypass_window **out)
{
    struct linux_window *linux_window = calloc(1, sizeof(*linux_window));
    if (linux_window == NULL) {
        return BYPASS_E_MEMORY;
    }
    linux_window->config = -1;
    linux_window->uio = -1;
    linux_window->vfio =
        (struct vfio_bell){.container = -1, .group = -1, .device = -1, .event = -1};
    linux_window->device.window.ops = &LINUX_OPS;
    int32_t code = open_device(linux_window, waits);
    if (code != BYPASS_OK) {
        int error = errno;
        close_window(&linux_window->device.window);
        errno = error;
        return code;
    }
    *out = &linux_window->device.window;
    return BYPASS_OK;
}
