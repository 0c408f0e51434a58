// SPDX-License-Identifier: Apache-2.0
/*
 * A peer of a VMM-bypass channel. On the lightweight kernel all of it is /dev/v3m-shm. In Linux user space, with stock
 * modules, it is the window by /dev/mem (cacheable: see docs/reference/shm.md) and interrupts by uio_pci_generic.
 *
 *   shm ping PARTNER COUNT poll|wait    counts in its area until the partner has said the same, COUNT times; 0: until
 *                                       SIGTERM, and it says when the first 10 were through
 *   shm echo PARTNER poll|wait          says what the partner says, until that is the end
 *   shm timeout MS                      waits for an interrupt that long, and then for one by vector 2
 *   shm ring PARTNER VECTOR             rings, once
 *   shm probe PARTNER                   what a peer must not do
 *   shm common PARTNER COUNT            writes its partner's line of the common section, and waits for its own,
 *                                       COUNT times
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "channel-file.h"

#define DEVICES "/sys/bus/pci/devices"
#define DRIVER "/sys/bus/pci/drivers/uio_pci_generic/new_id"
#define THE_END UINT64_MAX
#define WARM 10
enum { COMMAND = 4, COMMAND_MEMORY = 2, COMMAND_INTX_OFF = 0x400, CAPABILITIES = 0x34, VENDOR = 9 };

struct shm {
    char device[300];
    volatile uint32_t *registers;
    volatile uint8_t *window;
    uint64_t areas; /* where in the window they begin */
    uint64_t area_bytes;
    uint32_t id;
    int uio;
    int config; /* -1 on the lightweight kernel, which keeps it */
    uint64_t interrupts;
    int waits;
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
    return (volatile uint64_t *)(shm->window + shm->areas + shm->area_bytes * peer);
}

static uint32_t state(const struct shm *shm, uint32_t peer)
{
    return ((volatile uint32_t *)shm->window)[peer];
}

static void *map(int fd, uint64_t bytes, uint64_t offset, const char *what)
{
    void *at = fd < 0 ? MAP_FAILED : channel_map(fd, bytes, offset);
    if (at == MAP_FAILED) {
        fail(what);
    }
    return at;
}

static void open_lwk(struct shm *shm, const struct channel_file *channel)
{
    shm->config = -1;
    shm->uio = channel->fd;
    shm->areas = channel->areas;
    shm->area_bytes = channel->area_bytes;
    shm->registers = channel->registers;
    shm->window = channel->window;
}

static void open_linux(struct shm *shm, int waits)
{
    char path[400];
    uint64_t bytes = 0;
    find(shm);
    snprintf(path, sizeof(path), "%s/config", shm->device);
    shm->config = open(path, O_RDWR);
    shm->uio = waits ? bind_uio(shm) : -1;
    config_write(shm, COMMAND, COMMAND_MEMORY);
    snprintf(path, sizeof(path), "%s/resource0", shm->device);
    shm->registers = map(open(path, O_RDWR), 4096, 0, path);
    /* Not by resource2, which Linux maps uncached: /dev/mem takes the type of the MTRRs, write-back. */
    uint64_t start = bar(shm, 2, &bytes);
    shm->window = map(open("/dev/mem", O_RDWR), bytes, start, "/dev/mem");
    uint32_t at = config_read(shm, CAPABILITIES, 1);
    while (at != 0 && config_read(shm, at, 1) != VENDOR) {
        at = config_read(shm, at + 1, 1);
    }
    shm->areas = CHANNEL_TABLE + config_read(shm, at + 8, 4);
    shm->area_bytes = config_read(shm, at + 16, 4);
}

static void open_device(struct shm *shm, int waits)
{
    struct channel_file channel;
    if (channel_file_open(&channel) == 0) {
        open_lwk(shm, &channel);
    } else if (errno != ENOENT) {
        fail(CHANNEL_FILE);
    } else {
        open_linux(shm, waits);
    }
    shm->waits = waits;
    shm->id = shm->registers[REG_ID];
    printf("peer %u of %u\n", shm->id, shm->registers[REG_PEERS]);
    if (waits) {
        shm->registers[REG_INTERRUPTS] = 1;
    }
    *area(shm, shm->id) = 0;
    shm->registers[REG_STATE] = 1;
}

/* Until something may have changed. uio_pci_generic has masked the interrupt that it took: let it come again, and
 * one that came meanwhile is not lost. On the lightweight kernel they always come. */
static void rest(struct shm *shm)
{
    if (!shm->waits) {
        sched_yield(); /* where there is one CPU for all */
        return;
    }
    uint32_t count = 0;
    if (shm->config >= 0) {
        config_write(shm, COMMAND, COMMAND_MEMORY);
    }
    if (read(shm->uio, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        fail("uio");
    }
    shm->interrupts++;
}

static void say(struct shm *shm, uint32_t partner, uint64_t what)
{
    *area(shm, shm->id) = what;
    if (shm->waits) {
        shm->registers[REG_DOORBELL] = partner << 16;
    }
}

static void meet(const struct shm *shm, uint32_t partner)
{
    while (state(shm, partner) == 0) {
        usleep(1000);
    }
}

static volatile sig_atomic_t enough;

static void note(int signal)
{
    (void)signal;
    enough = 1;
}

static void ping(struct shm *shm, uint32_t partner, uint64_t count)
{
    uint64_t said = 0;
    signal(SIGTERM, note);
    meet(shm, partner);
    while (count > 0 ? said < count : !enough) {
        say(shm, partner, ++said);
        while (*area(shm, partner) != said) {
            rest(shm);
        }
        if (count == 0 && said == WARM) {
            printf("warm\n");
        }
    }
    say(shm, partner, THE_END);
    printf("messages %llu\n", (unsigned long long)said);
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

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* On the lightweight kernel: nobody is there at first, and then somebody rings by vector 2. */
static void timeout(struct shm *shm, int ms)
{
    struct pollfd entry = {.fd = shm->uio, .events = POLLIN};
    uint32_t counts[5] = {0};
    while (poll(&entry, 1, 100) == 1) { /* that we came */
        rest(shm);
    }
    double began = now();
    int result = poll(&entry, 1, ms);
    printf("poll %d %s\n", result, now() - began >= ms ? "after that time" : "too soon");
    while (counts[1 + 2] == 0) {
        result = poll(&entry, 1, -1);
        if (read(shm->uio, counts, sizeof(counts)) != (ssize_t)sizeof(counts)) {
            fail("read");
        }
    }
    printf("poll %d revents %d, %u by vector 2\n", result, entry.revents, counts[1 + 2]);
}

static void expect(const char *what, int right)
{
    printf("%s: %s\n", what, right ? "yes" : "NO");
}

/* On the lightweight kernel. */
static void probe(struct shm *shm, uint32_t partner)
{
    volatile uint64_t *own = area(shm, shm->id);
    *own = 0x1111;
    *area(shm, partner) = 0x2222;
    ((volatile uint32_t *)shm->window)[partner] = 77;
    expect("what is written elsewhere is lost", *area(shm, partner) == 0 && state(shm, partner) != 77);
    uint64_t length = shm->areas + shm->area_bytes * shm->registers[REG_PEERS];
    expect("a system call takes no buffer there",
           write(1, (const void *)own, 8) == -1 && errno == EFAULT);
    expect("it is not to be executed", mprotect((void *)shm->window, 4096, PROT_READ | PROT_EXEC) == -1);
    expect("nothing is behind it",
           mmap(NULL, length + 4096, PROT_READ, MAP_SHARED, shm->uio, 4096) == MAP_FAILED &&
               mmap(NULL, 8192, PROT_READ, MAP_SHARED, shm->uio, 0) == MAP_FAILED &&
               mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, shm->uio, 4096) == MAP_FAILED);
    volatile uint8_t *part = mmap(NULL, 4096, PROT_READ, MAP_SHARED, shm->uio, (off_t)(4096 + shm->areas + shm->area_bytes * shm->id));
    expect("a part of it is the same memory", *(volatile uint64_t *)part == 0x1111);
    munmap((void *)part, 4096);
    munmap((void *)shm->window, length);
    /* Had it become free memory, this would be some of it; it comes from the top of what is free. */
    uint64_t *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(fresh, 0x33, length);
    shm->window = map(shm->uio, length, 4096, "window");
    expect("unmapped, it was not given to others", *area(shm, shm->id) == 0x1111);
    int copy = dup(shm->uio);
    close(shm->uio);
    expect("a copy of the descriptor is as good",
           mmap(NULL, 4096, PROT_READ, MAP_SHARED, copy, 0) != MAP_FAILED && write(copy, "", 1) == -1);
}

/* What each writes is the other's line: neither could do that in an area. */
static void common(struct shm *shm, uint32_t partner, uint64_t count)
{
    volatile uint64_t *section = (volatile uint64_t *)(shm->window + CHANNEL_TABLE);
    if (shm->areas < CHANNEL_TABLE + 4096) {
        printf("no common section\n");
        return;
    }
    section[8 * shm->id] = 0;
    shm->registers[REG_STATE] = 2; /* from now on the partner may write there */
    while (state(shm, partner) != 2) {
        usleep(1000);
    }
    for (uint64_t n = 1; n <= count; n++) {
        section[8 * partner] = n;
        while (section[8 * shm->id] < n) {
            sched_yield();
        }
    }
    printf("common %llu bytes, messages %llu\n", (unsigned long long)(shm->areas - CHANNEL_TABLE),
           (unsigned long long)count);
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
    } else if (argc == 3 && strcmp(argv[1], "timeout") == 0) {
        open_device(&shm, 1);
        timeout(&shm, atoi(argv[2]));
    } else if (argc == 4 && strcmp(argv[1], "ring") == 0) {
        open_device(&shm, 0);
        meet(&shm, (uint32_t)atoi(argv[2]));
        shm.registers[REG_DOORBELL] = (uint32_t)atoi(argv[2]) << 16 | (uint32_t)atoi(argv[3]);
    } else if (argc == 3 && strcmp(argv[1], "probe") == 0) {
        open_device(&shm, 0);
        probe(&shm, (uint32_t)atoi(argv[2]));
    } else if (argc == 4 && strcmp(argv[1], "common") == 0) {
        open_device(&shm, 0);
        common(&shm, (uint32_t)atoi(argv[2]), strtoull(argv[3], NULL, 10));
    } else {
        fprintf(stderr, "usage: shm ping PARTNER COUNT poll|wait | echo PARTNER poll|wait | timeout MS |\n"
                        "           ring PARTNER VECTOR | probe PARTNER | common PARTNER COUNT\n");
        return 2;
    }
    shm.registers[REG_STATE] = 0;
    printf("interrupts %llu\n", (unsigned long long)shm.interrupts);
    return 0;
}
