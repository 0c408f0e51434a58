/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include "vfio_bell.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LWK_DEVICE "/dev/v3m-shm"
#define DEVICES "/sys/bus/pci/devices"
#define NEW_ID "/sys/bus/pci/drivers/uio_pci_generic/new_id"
enum { VENDOR = 0x110a, DEVICE = 0x4106, REGISTER_BYTES = 4096 };
enum { COMMAND = 4, COMMAND_MEMORY = 2, CAPABILITIES = 0x34, CAP_VENDOR = 9 };
enum { CAP_COMMON = 8, CAP_AREA = 16 }; /* of CAP_VENDOR: sizes */

static bool complain(const char *what)
{
    (void)fprintf(stderr, "netbench: %s: %s\n", what, strerror(errno));
    return false;
}

static void *map(int fd, uint64_t bytes, uint64_t offset)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
}

static bool mapped(struct device *d)
{
    return d->registers != MAP_FAILED && d->window != MAP_FAILED;
}

/* docs/reference/shm.md: one file has it all. */
static bool open_lwk(struct device *d, int fd)
{
    uint64_t info[2];
    if (pread(fd, info, sizeof(info), 0) != (ssize_t)sizeof(info)) {
        return complain(LWK_DEVICE);
    }
    d->area_bytes = info[1];
    d->registers = map(fd, REGISTER_BYTES, 0);
    d->window = map(fd, info[0], REGISTER_BYTES);
    d->interrupts = fd;
    d->count_bytes = sizeof(uint32_t);
    if (!mapped(d)) {
        return complain(LWK_DEVICE);
    }
    /* The window ends with the last area. */
    d->common_bytes = info[0] - TABLE_BYTES - d->registers[REG_PEERS] * info[1];
    return true;
}

static unsigned long number_in(const char *device, const char *name)
{
    char path[400];
    char text[32] = "";
    (void)snprintf(path, sizeof(path), "%s/%s", device, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    const char *line = fgets(text, sizeof(text), file);
    (void)fclose(file);
    return line == NULL ? 0 : strtoul(line, NULL, 16);
}

static bool find(char *path, size_t bytes)
{
    DIR *all = opendir(DEVICES);
    bool found = false;
    for (struct dirent *e = NULL; !found && all != NULL && (e = readdir(all)) != NULL;) {
        (void)snprintf(path, bytes, DEVICES "/%s", e->d_name);
        found = e->d_name[0] != '.' && number_in(path, "vendor") == VENDOR &&
                number_in(path, "device") == DEVICE;
    }
    if (all != NULL) {
        (void)closedir(all);
    }
    return found;
}

static int open_in(const char *device, const char *name)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/%s", device, name);
    return open(path, O_RDWR | O_CLOEXEC);
}

static uint32_t config_read(int config, uint32_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    return pread(config, &value, bytes, offset) == (ssize_t)bytes ? value : 0;
}

static bool config_command(int config)
{
    const uint16_t value = COMMAND_MEMORY;
    return pwrite(config, &value, sizeof(value), COMMAND) == (ssize_t)sizeof(value);
}

/* Start and length of BAR 2: the third line. */
static bool window_bar(const char *device, uint64_t *start, uint64_t *bytes)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/resource", device);
    FILE *file = fopen(path, "re");
    char line[128];
    unsigned lines = 0;
    while (file != NULL && lines < 3 && fgets(line, sizeof(line), file) != NULL) {
        lines++;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    char *rest = line;
    *start = lines == 3 ? strtoull(line, &rest, 16) : 0;
    *bytes = lines == 3 ? strtoull(rest, NULL, 16) - *start + 1 : 0;
    return *start != 0;
}

/* Interrupts by INTx: the descriptor of uio_pci_generic, or -1. */
static int open_uio(const char *device)
{
    char path[400];
    int fd = open(NEW_ID, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || (write(fd, "110a 4106", 9) != 9 && errno != EEXIST)) {
        return -1;
    }
    (void)close(fd);
    (void)snprintf(path, sizeof(path), "%s/uio", device);
    DIR *directory = opendir(path);
    fd = -1;
    for (struct dirent *e = NULL;
         fd < 0 && directory != NULL && (e = readdir(directory)) != NULL;) {
        if (strncmp(e->d_name, "uio", 3) == 0) {
            (void)snprintf(path, sizeof(path), "/dev/%.16s", e->d_name);
            fd = open(path, O_RDWR | O_CLOEXEC);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return fd;
}

/*
 * Interrupts by MSI-X where VFIO is there: nothing is to be done for the next one. Else by INTx,
 * which has to be let come again by configuration space. With neither of them memory is decoded
 * all the same.
 */
static bool open_interrupts(struct device *d, const char *path, bool waits)
{
    static struct vfio_bell bell; /* open until the program ends */
    if (waits && vfio_bell_open(&bell, path, 0)) {
        d->interrupts = bell.event;
        d->count_bytes = sizeof(uint64_t);
        return true;
    }
    d->interrupts = waits ? open_uio(path) : -1;
    d->count_bytes = sizeof(uint32_t);
    d->masked = waits;
    return (!waits || d->interrupts >= 0 || complain("uio_pci_generic")) &&
           (config_command(d->config) || complain(path));
}

static bool open_linux(struct device *d, bool waits)
{
    char path[300];
    uint64_t start = 0;
    uint64_t bytes = 0;
    if (!find(path, sizeof(path))) {
        errno = ENODEV;
        return complain("no channel (110a:4106)");
    }
    d->config = open_in(path, "config");
    if (d->config < 0) {
        return complain(path);
    }
    if (!open_interrupts(d, path, waits)) {
        return false;
    }
    const int registers = open_in(path, "resource0");
    /* Not by resource2, which Linux maps uncached: /dev/mem takes the type of the MTRRs,
     * write-back. */
    const int memory = open("/dev/mem", O_RDWR | O_CLOEXEC);
    if (registers < 0 || memory < 0 || !window_bar(path, &start, &bytes)) {
        return complain(path);
    }
    uint32_t at = config_read(d->config, CAPABILITIES, 1);
    while (at != 0 && config_read(d->config, at, 1) != CAP_VENDOR) {
        at = config_read(d->config, at + 1, 1);
    }
    d->common_bytes = config_read(d->config, at + CAP_COMMON, 4);
    d->area_bytes = config_read(d->config, at + CAP_AREA, 4);
    d->registers = map(registers, REGISTER_BYTES, 0);
    d->window = map(memory, bytes, start);
    return mapped(d) || complain("/dev/mem");
}

bool device_open(struct device *d, bool waits)
{
    *d = (struct device){.interrupts = -1, .config = -1};
    const int fd = open(LWK_DEVICE, O_RDWR | O_CLOEXEC);
    if (!(fd >= 0 ? open_lwk(d, fd) : open_linux(d, waits))) {
        return false;
    }
    d->registers[REG_INTERRUPTS] = waits ? 1 : 0;
    return true;
}

int64_t device_wait(const struct device *d)
{
    uint64_t count = 0;
    /* uio_pci_generic has masked the interrupt that it took. One that came meanwhile is not lost.
     */
    if (d->masked && !config_command(d->config)) {
        return -errno;
    }
    const ssize_t n = read(d->interrupts, &count, d->count_bytes);
    return n == (ssize_t)d->count_bytes || (n < 0 && errno == EINTR) ? 0 : n < 0 ? -errno : -EIO;
}

struct channel_window device_memory(const struct device *d)
{
    return (struct channel_window){.common = d->window + TABLE_BYTES,
                                   .common_bytes = d->common_bytes,
                                   .areas = d->window + TABLE_BYTES + d->common_bytes,
                                   .area_bytes = d->area_bytes};
}

uint32_t device_state(const struct device *d, uint32_t peer)
{
    return __atomic_load_n((const uint32_t *)d->window + peer, __ATOMIC_ACQUIRE);
}
