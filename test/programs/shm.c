// SPDX-License-Identifier: Apache-2.0
/*
 * A peer of a VMM-bypass channel in Linux user space, with stock modules: the window by /dev/mem (cacheable: see
 * docs/reference/shm.md), interrupts by uio_pci_generic.
 *
 *   shm ping PARTNER COUNT poll|wait    counts in its area until the partner has said the same, COUNT times
 *   shm echo PARTNER poll|wait          says what the partner says, until that is the end
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define DRIVER "/sys/bus/pci/drivers/uio_pci_generic/new_id"
#define THE_END UINT64_MAX


enum { REG_ID = 0, REG_PEERS = 1, REG_INTERRUPTS = 2, REG_DOORBELL = 3, REG_STATE = 4 };
enum { COMMAND = 4, COMMAND_MEMORY = 2, COMMAND_INTX_OFF = 0x400, CAPABILITIES = 0x34, VENDOR = 9 };

struct shm {
    char device[300];
    volatile uint32_t *registers;
    volatile uint8_t *window;
    uint64_t area_bytes;
    uint32_t id;
    int uio;
    int config;
    uint64_t interrupts;
};

static void fail(const char *what)
{
    fprintf(stderr, "shm: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number_in(const char *device, const char *name)
{
    char path[400];
    char text[64] = "";
    snprintf(path, sizeof(path), "%s/%s", device, name);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL) {
        fail(path);
    }
    fclose(file);
    return strtoull(text, NULL, 16);
}

static void find(struct shm *shm)
{
    DIR *all = opendir(DEVICES);
    struct dirent *entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        snprintf(shm->device, sizeof(shm->device), DEVICES "/%s", entry->d_name);
        if (entry->d_name[0] != '.' && number_in(shm->device, "vendor") == 0x110a &&
            number_in(shm->device, "device") == 0x4106) {
            closedir(all);
            return;
        }
    }
    fail("no device 110a:4106");
}

/* Start and length of a BAR: a line of three numbers for each register. */
static uint64_t bar(const struct shm *shm, int index, uint64_t *bytes)
{
    char path[400];
    unsigned long long start = 0;
    unsigned long long end = 0;
    snprintf(path, sizeof(path), "%s/resource", shm->device);
    FILE *file = fopen(path, "r");
    for (int i = 0; file != NULL && i <= index; i++) {
        if (fscanf(file, "%llx %llx %*x", &start, &end) != 2) {
            fail(path);
        }
    }
    fclose(file);
    *bytes = end - start + 1;
    return start;
}

static uint32_t config_read(const struct shm *shm, uint32_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    if (pread(shm->config, &value, bytes, offset) != (ssize_t)bytes) {
        fail("configuration space");
    }
    return value;
}

static void config_write(const struct shm *shm, uint32_t offset, uint16_t value)
{
    if (pwrite(shm->config, &value, sizeof(value), offset) != (ssize_t)sizeof(value)) {
        fail("configuration space");
    }
}

/* The driver that brings interrupts to user space. */
static int bind_uio(const struct shm *shm)
{
    char path[400];
    int fd = open(DRIVER, O_WRONLY);
    if (fd < 0 || (write(fd, "110a 4106", 9) != 9 && errno != EEXIST)) {
        fail(DRIVER);
    }
    close(fd);
    snprintf(path, sizeof(path), "%s/uio", shm->device);
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, "uio", 3) == 0) {
            snprintf(path, sizeof(path), "/dev/%.16s", entry->d_name);
            fd = open(path, O_RDWR);
            if (fd >= 0) {
                closedir(directory);
                return fd;
            }
        }
    }
    fail(path);
    return -1;
}

static volatile uint64_t *area(const struct shm *shm, uint32_t peer)
{
    return (volatile uint64_t *)(shm->window + 4096 + shm->area_bytes * peer);
}

static uint32_t state(const struct shm *shm, uint32_t peer)
{
    return ((volatile uint32_t *)shm->window)[peer];
}

static void open_device(struct shm *shm, int waits)
{
    char path[400];
    uint64_t bytes = 0;
    find(shm);
    snprintf(path, sizeof(path), "%s/config", shm->device);
    shm->config = open(path, O_RDWR);
    shm->uio = waits ? bind_uio(shm) : -1;
    config_write(shm, COMMAND, COMMAND_MEMORY);
    snprintf(path, sizeof(path), "%s/resource0", shm->device);
    int fd = open(path, O_RDWR);
    shm->registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || shm->registers == MAP_FAILED) {
        fail(path);
    }
    /* Not by resource2, which Linux maps uncached: /dev/mem takes the type of the MTRRs, write-back. */
    uint64_t start = bar(shm, 2, &bytes);
    fd = open("/dev/mem", O_RDWR);
    shm->window = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
    if (fd < 0 || shm->window == MAP_FAILED) {
        fail("/dev/mem");
    }
    uint32_t at = config_read(shm, CAPABILITIES, 1);
    while (at != 0 && config_read(shm, at, 1) != VENDOR) {
        at = config_read(shm, at + 1, 1);
    }
    shm->area_bytes = config_read(shm, at + 16, 4);
    shm->id = shm->registers[REG_ID];
    printf("peer %u of %u\n", shm->id, shm->registers[REG_PEERS]);
    if (waits) {
        shm->registers[REG_INTERRUPTS] = 1;
    }
    *area(shm, shm->id) = 0;
    shm->registers[REG_STATE] = 1;
}

/* Until something may have changed. uio_pci_generic has masked the interrupt that it took: let it come again, and
 * one that came meanwhile is not lost. */
static void rest(struct shm *shm)
{
    if (shm->uio < 0) {
        sched_yield(); /* where there is one CPU for all */
        return;
    }
    uint32_t count = 0;
    config_write(shm, COMMAND, COMMAND_MEMORY);
    if (read(shm->uio, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        fail("uio");
    }
    shm->interrupts++;
}

static void say(struct shm *shm, uint32_t partner, uint64_t what)
{
    *area(shm, shm->id) = what;
    if (shm->uio >= 0) {
        shm->registers[REG_DOORBELL] = partner << 16;
    }
}

static void meet(const struct shm *shm, uint32_t partner)
{
    while (state(shm, partner) == 0) {
        usleep(1000);
    }
}

static void ping(struct shm *shm, uint32_t partner, uint64_t count)
{
    meet(shm, partner);
    for (uint64_t i = 1; i <= count; i++) {
        say(shm, partner, i);
        while (*area(shm, partner) != i) {
            rest(shm);
        }
    }
    say(shm, partner, THE_END);
    printf("messages %llu\n", (unsigned long long)count);
}

static void echo(struct shm *shm, uint32_t partner)
{
    uint64_t last = 0;
    meet(shm, partner);
    while (last != THE_END) {
        uint64_t heard = *area(shm, partner);
        if (heard == last) {
            rest(shm);
            continue;
        }
        last = heard;
        say(shm, partner, heard);
    }
    printf("end\n");
}

int main(int argc, char **argv)
{
    struct shm shm = {.uio = -1};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 5 && strcmp(argv[1], "ping") == 0) {
        open_device(&shm, strcmp(argv[4], "wait") == 0);
        ping(&shm, (uint32_t)atoi(argv[2]), strtoull(argv[3], NULL, 10));
    } else if (argc == 4 && strcmp(argv[1], "echo") == 0) {
        open_device(&shm, strcmp(argv[3], "wait") == 0);
        echo(&shm, (uint32_t)atoi(argv[2]));
    } else {
        fprintf(stderr, "usage: shm ping PARTNER COUNT poll|wait | shm echo PARTNER poll|wait\n");
        return 2;
    }
    shm.registers[REG_STATE] = 0;
    printf("interrupts %llu\n", (unsigned long long)shm.interrupts);
    return 0;
}
