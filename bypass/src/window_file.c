// SPDX-License-Identifier: Apache-2.0
/*
 * A window of processes of one host: a file that all map, with the table of states, a doorbell (a
 * futex) for each, and the areas. A process maps only its own area writable. As long as it lives it
 * holds a lock on the byte of the file that has its number; others find the lock gone when it died.
 */
#include "window.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAGIC 0x5053534150595842ull
#define AREAS 8192u       /* where areas begin */
#define LOOK_EVERY 5000u  /* µs between two looks for dead peers */
#define SLEEP_MOST 20000u /* µs: nobody rings when a process is killed */

struct bell {
    _Atomic uint32_t rings;
    uint32_t spare[15];
};

/* The first pages, which all may write. */
struct file_head {
    _Atomic uint32_t states[BYPASS_PEERS_MAX];
    uint64_t magic;
    uint64_t area_bytes;
    uint32_t peers;
    uint8_t spare[4096 - 20 - 4 * BYPASS_PEERS_MAX];
    struct bell bells[BYPASS_PEERS_MAX];
};

_Static_assert(sizeof(struct file_head) == AREAS, "two pages");

struct file_window {
    struct bypass_window window; /* first */
    struct file_head *head;
    uint64_t bytes;
    uint64_t looked; /* when */
    uint32_t heard;  /* rings */
    int fd;
};

static struct file_window *of(struct bypass_window *window)
{
    return (struct file_window *)window;
}

static uint64_t file_bytes(uint32_t peers, uint64_t area_bytes)
{
    return AREAS + peers * area_bytes;
}

static int32_t size_is_valid(uint32_t peers, uint64_t area_bytes)
{
    return peers >= 2 && peers <= BYPASS_PEERS_MAX && area_bytes >= BYPASS_AREA_MIN &&
           area_bytes <= 1u << 30 && area_bytes % 4096 == 0;
}

int32_t bypass_file_create(const char *path, uint32_t peers, uint64_t area_bytes)
{
    struct file_head head = {.magic = FILE_MAGIC, .area_bytes = area_bytes, .peers = peers};
    if (path == NULL || !size_is_valid(peers, area_bytes)) {
        return BYPASS_E_INVALID;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return BYPASS_E_SYSTEM;
    }
    int32_t failed = ftruncate(fd, (off_t)file_bytes(peers, area_bytes)) != 0 ||
                     pwrite(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head);
    int error = errno;
    close(fd);
    errno = error;
    return failed ? BYPASS_E_SYSTEM : BYPASS_OK;
}

static void ring(struct bypass_window *window, uint32_t peer)
{
    struct bell *bell = &of(window)->head->bells[peer];
    atomic_fetch_add_explicit(&bell->rings, 1, memory_order_seq_cst);
    syscall(SYS_futex, &bell->rings, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void ring_all(struct bypass_window *window)
{
    for (uint32_t peer = 0; peer < window->peers; peer++) {
        ring(window, peer);
    }
}

static void set_state(struct bypass_window *window, uint32_t state)
{
    atomic_store_explicit(&of(window)->head->states[window->id], state, memory_order_seq_cst);
    ring_all(window);
}

static void wait(struct bypass_window *window, uint64_t timeout)
{
    struct file_window *file = of(window);
    _Atomic uint32_t *rings = &file->head->bells[window->id].rings;
    uint64_t most = timeout < SLEEP_MOST ? timeout : SLEEP_MOST;
    struct timespec time = {.tv_nsec = (long)most * 1000};
    if (atomic_load_explicit(rings, memory_order_seq_cst) == file->heard) {
        syscall(SYS_futex, rings, FUTEX_WAIT, file->heard, &time, NULL, 0);
    }
    file->heard = atomic_load_explicit(rings, memory_order_seq_cst);
}

/* Whether the process that is this peer is alive. */
static int32_t lives(const struct file_window *file, uint32_t peer)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = peer, .l_len = 1};
    return fcntl(file->fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static void refresh(struct bypass_window *window)
{
    struct file_window *file = of(window);
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t now = (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
    if (now - file->looked < LOOK_EVERY) {
        return;
    }
    file->looked = now;
    for (uint32_t peer = 0; peer < window->peers; peer++) {
        uint32_t state = atomic_load_explicit(&file->head->states[peer], memory_order_acquire);
        if (peer != window->id && state != 0 && !lives(file, peer) &&
            atomic_compare_exchange_strong(&file->head->states[peer], &state, 0)) {
            ring_all(window);
        }
    }
}

static void close_window(struct bypass_window *window)
{
    struct file_window *file = of(window);
    munmap(file->head, file->bytes);
    close(file->fd);
    free(file);
}

static const struct bypass_window_ops FILE_OPS = {
    .set_state = set_state, .ring = ring, .wait = wait, .refresh = refresh, .close = close_window};

/* Map the file, for reading but for its head and one's own area. */
static int32_t map(struct file_window *file, uint32_t peer)
{
    struct file_head head;
    struct stat status;
    if (pread(file->fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        fstat(file->fd, &status) != 0 || head.magic != FILE_MAGIC ||
        !size_is_valid(head.peers, head.area_bytes) || peer >= head.peers) {
        return BYPASS_E_INVALID;
    }
    file->bytes = file_bytes(head.peers, head.area_bytes);
    if ((uint64_t)status.st_size < file->bytes) {
        return BYPASS_E_INVALID;
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = peer, .l_len = 1};
    if (fcntl(file->fd, F_OFD_SETLK, &lock) != 0) {
        return BYPASS_E_SYSTEM;
    }
    uint8_t *base = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, file->fd, 0);
    if (base == MAP_FAILED) {
        return BYPASS_E_SYSTEM;
    }
    uint64_t own = AREAS + peer * head.area_bytes;
    if (mprotect(base, AREAS, PROT_READ | PROT_WRITE) != 0 ||
        mprotect(base + own, head.area_bytes, PROT_READ | PROT_WRITE) != 0) {
        munmap(base, file->bytes);
        return BYPASS_E_SYSTEM;
    }
    file->head = (struct file_head *)base;
    file->window = (struct bypass_window){.ops = &FILE_OPS,
                                          .states = file->head->states,
                                          .areas = base + AREAS,
                                          .area_bytes = head.area_bytes,
                                          .id = peer,
                                          .peers = head.peers,
                                          .can_wait = 1};
    return BYPASS_OK;
}

/* Who this is: the configuration says it, or the environment. */
static int32_t who(const struct bypass_config *config, uint32_t *peer)
{
    const char *text = getenv("BYPASS_PEER");
    char *end = NULL;
    if (config->window == BYPASS_WINDOW_FILE && config->peer >= 0) {
        *peer = (uint32_t)config->peer;
        return BYPASS_OK;
    }
    unsigned long value = text == NULL ? ULONG_MAX : strtoul(text, &end, 10);
    *peer = (uint32_t)value;
    return end == NULL || end == text || *end != '\0' || value >= BYPASS_PEERS_MAX
               ? BYPASS_E_INVALID
               : BYPASS_OK;
}

int32_t bypass_window_file(const struct bypass_config *config, const char *path,
                           struct bypass_window **out)
{
    uint32_t peer = 0;
    if (path == NULL || who(config, &peer) != BYPASS_OK) {
        return BYPASS_E_INVALID;
    }
    struct file_window *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return BYPASS_E_MEMORY;
    }
    file->fd = open(path, O_RDWR | O_CLOEXEC);
    int32_t code = file->fd < 0 ? BYPASS_E_SYSTEM : map(file, peer);
    if (code != BYPASS_OK) {
        int error = errno;
        if (file->fd >= 0) {
            close(file->fd);
        }
        free(file);
        errno = error;
        return code;
    }
    *out = &file->window;
    return BYPASS_OK;
}
