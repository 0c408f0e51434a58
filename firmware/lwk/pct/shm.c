/* SPDX-License-Identifier: Apache-2.0 */
#include "shm.h"

#include <asm/poll.h>
#include <linux/fcntl.h>
#include <linux/time_types.h>

#define FILES 1024u /* RLIMIT_NOFILE */
#define WAITERS 64u
#define NS_IN_MS 1000000u

static struct {
    bool open;
    uint32_t flags; /* of open() */
    uint32_t seen;  /* interrupts, by the last read() */
} files[FILES];
static uint32_t open_files;

/* A thread that waits for an interrupt. */
static struct waiter {
    uint32_t tid; /* 0: nobody */
    bool poll;
    uint32_t fd;
    uint64_t va; /* of the buffer, or of the struct pollfd */
    uint64_t bytes;
} waiters[WAITERS];

/* ------------------------------------------------------------- descriptors */

bool shm_path(char *path)
{
    static const char name[] = "/dev/v3m-shm";
    static const char stand_in[] = "/dev/null";

    for (uint32_t i = 0; i < sizeof(name); i++) {
        if (path[i] != name[i]) {
            return false;
        }
    }
    if (qk(QK_SHM, 0, 0, 0, 0) != 0) {
        return false; /* yod has no such file */
    }
    memcpy(path, stand_in, sizeof(stand_in));
    return true;
}

bool shm_has(uint64_t fd)
{
    return open_files > 0 && (uint32_t)fd < FILES && files[(uint32_t)fd].open;
}

static uint32_t total(void)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < LWK_SHM_VECTORS; i++) {
        sum += __atomic_load_n(&pct.info->shm_rung[i], __ATOMIC_SEQ_CST);
    }
    return sum;
}

static void set(uint64_t fd, bool open, uint32_t flags)
{
    if (fd < FILES) {
        open_files += (open ? 1 : 0) - (files[fd].open ? 1 : 0);
        files[fd].open = open;
        files[fd].flags = flags;
        files[fd].seen = total();
    }
}

static bool makes_copy(uint64_t call, uint64_t command)
{
    return call == __NR_dup || call == __NR_dup2 || call == __NR_dup3 ||
           (call == __NR_fcntl && (command == F_DUPFD || command == F_DUPFD_CLOEXEC));
}

void shm_follow(const struct job *job, int64_t result)
{
    const uint64_t *args = job_slot(job)->args;
    uint32_t first = (uint32_t)args[0];

    if (result < 0) {
        return;
    }
    if (makes_copy(job->call, args[1])) {
        bool ours = shm_has(first);
        if (first != (uint64_t)result) {
            set((uint64_t)result, ours, ours ? files[first].flags : 0);
        }
        return;
    }
    switch (job->call) {
    case __NR_open:
        set((uint64_t)result, job->shm, (uint32_t)args[1]);
        break;
    case __NR_openat:
        set((uint64_t)result, job->shm, (uint32_t)args[2]);
        break;
    case __NR_creat:
        set((uint64_t)result, job->shm, O_WRONLY);
        break;
    case __NR_close:
        set(first, false, 0);
        break;
    case __NR_fcntl:
        if (args[1] == F_SETFL && shm_has(first)) {
            files[first].flags = (files[first].flags & O_ACCMODE) | (uint32_t)args[2];
        }
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------- mmap() */

/* Where the file's bytes at the offset are; NO_MEMORY: nowhere. */
static uint64_t place(uint64_t offset, uint64_t bytes)
{
    const struct lwk_info *info = pct.info;

    if (offset == 0 && bytes == LWK_PAGE) {
        return info->shm_registers_pa;
    }
    offset -= LWK_PAGE; /* of 0: beyond the end */
    return offset < info->shm_bytes && bytes <= info->shm_bytes - offset ? info->shm_pa + offset
                                                                         : NO_MEMORY;
}

static int64_t map(const uint64_t args[6])
{
    uint32_t prot = (uint32_t)args[2];
    uint32_t access = files[(uint32_t)args[4]].flags & O_ACCMODE;

    if ((args[3] & MAP_TYPE) == MAP_PRIVATE || args[5] % LWK_PAGE != 0 || args[1] == 0 ||
        args[1] > LWK_APP_HIGH) {
        return -EINVAL;
    }
    if ((prot & PROT_EXEC) != 0 || access == O_WRONLY ||
        (access == O_RDONLY && (prot & PROT_WRITE) != 0)) {
        return -EACCES;
    }
    uint64_t bytes = round_up(args[1], LWK_PAGE);
    uint64_t pa = place(args[5], bytes);
    return pa == NO_MEMORY ? -EINVAL
                           : mm_device(args[0], bytes, prot, (uint32_t)args[3],
                                       access == O_RDONLY ? AREA_READONLY : 0, pa);
}

/* ------------------------------------------------------------ read(), poll() */

/* The number of interrupts, and of those by each vector if there is room. */
static int64_t give(uint32_t fd, uint64_t va, uint64_t bytes)
{
    uint32_t counts[1 + LWK_SHM_VECTORS] = {0};

    for (uint32_t i = 0; i < LWK_SHM_VECTORS; i++) {
        counts[1 + i] = __atomic_load_n(&pct.info->shm_rung[i], __ATOMIC_SEQ_CST);
        counts[0] += counts[1 + i];
    }
    if (!user_write(va, counts, bytes)) {
        return -EFAULT;
    }
    files[fd].seen = counts[0];
    return (int64_t)bytes;
}

static int64_t give_poll(uint64_t va, short revents)
{
    uint64_t at = va + offsetof(struct pollfd, revents);

    return user_write(at, &revents, sizeof(revents)) ? revents != 0 : -EFAULT;
}

/* What the waiter waits for, or PENDING. */
static int64_t look(const struct waiter *w)
{
    if (files[w->fd].seen == total()) {
        return PENDING;
    }
    return w->poll ? give_poll(w->va, POLLIN) : give(w->fd, w->va, w->bytes);
}

/* ns: how long at most; UINT64_MAX: for ever. */
static int64_t wait(const struct waiter *w, uint64_t ns)
{
    uint32_t i = 0;

    while (i < WAITERS && waiters[i].tid != 0) {
        i++;
    }
    if (i == WAITERS) {
        return -EAGAIN;
    }
    __atomic_add_fetch(&pct.info->shm_waiting, 1, __ATOMIC_SEQ_CST);
    int64_t result = look(w);
    if (result != PENDING) {
        pct.info->shm_waiting--;
        return result;
    }
    waiters[i] = *w;
    if (ns != UINT64_MAX) {
        (void)qk(QK_TIMEOUT, w->tid, ns, 0, 0);
    }
    return PENDING;
}

static int64_t call_read(const struct pct_event *event)
{
    const struct waiter w = {.tid = event->tid,
                             .fd = (uint32_t)event->args[0],
                             .va = event->args[1],
                             .bytes = event->args[2]};
    int64_t result;

    if (w.bytes != 4 && w.bytes != 4 * (1 + LWK_SHM_VECTORS)) {
        return -EINVAL;
    }
    result = look(&w);
    if (result == PENDING) {
        result = (files[w.fd].flags & O_NONBLOCK) != 0 ? -EAGAIN : wait(&w, UINT64_MAX);
    }
    return result;
}

/* The sizes of window and area. */
static int64_t call_pread(const uint64_t args[6])
{
    const uint64_t sizes[2] = {pct.info->shm_bytes, pct.info->shm_area};

    if (args[2] != sizeof(sizes) || args[3] != 0) {
        return -EINVAL;
    }
    return user_write(args[1], sizes, sizeof(sizes)) ? (int64_t)sizeof(sizes) : -EFAULT;
}

/* Nanoseconds from poll()'s or ppoll()'s argument. */
static int64_t timeout(const struct pct_event *event, uint64_t *ns)
{
    struct __kernel_timespec time;
    int32_t ms = (int32_t)event->args[2];

    *ns = UINT64_MAX;
    if (event->call == __NR_poll) {
        *ns = ms < 0 ? UINT64_MAX : (uint64_t)ms * NS_IN_MS;
    } else if (event->args[2] != 0) {
        if (!user_read(&time, event->args[2], sizeof(time))) {
            return -EFAULT;
        }
        if (time.tv_sec < 0 || (uint64_t)time.tv_nsec >= 1000ull * NS_IN_MS) {
            return -EINVAL;
        }
        if (time.tv_sec < INT32_MAX) {
            *ns = (uint64_t)time.tv_sec * 1000 * NS_IN_MS + (uint64_t)time.tv_nsec;
        }
    }
    return 0;
}

/* One descriptor, ours. */
static int64_t call_poll(const struct pct_event *event, const struct pollfd *entry)
{
    struct waiter w = {
        .tid = event->tid, .poll = true, .fd = (uint32_t)entry->fd, .va = event->args[0]};
    uint64_t ns;
    int64_t result = timeout(event, &ns);

    if (result != 0) {
        return result;
    }
    result = (entry->events & POLLIN) != 0 ? look(&w) : PENDING;
    if (result != PENDING) {
        return result;
    }
    if (ns == 0) {
        return give_poll(w.va, 0);
    }
    return (entry->events & POLLIN) != 0 ? wait(&w, ns) : -EINVAL;
}

/* Sets in which ours is one of several are refused: half of them would be yod's. */
static int64_t find_poll(const struct pct_event *event)
{
    uint32_t count = (uint32_t)event->args[1];
    struct pollfd entry;

    for (uint32_t i = 0; i < count && i < FILES; i++) {
        if (!user_read(&entry, event->args[0] + i * sizeof(entry), sizeof(entry))) {
            break; /* yod's way says so */
        }
        if (entry.fd >= 0 && shm_has((uint32_t)entry.fd)) {
            return count == 1 ? call_poll(event, &entry) : -EINVAL;
        }
    }
    return SHIP;
}

/* -------------------------------------------------------------------- calls */

int64_t shm_call(const struct pct_event *event)
{
    const uint64_t *args = event->args;

    if (open_files == 0) {
        return SHIP;
    }
    switch (event->call) {
    case __NR_poll:
    case __NR_ppoll:
        return find_poll(event);
    case __NR_mmap:
        return (args[3] & MAP_ANONYMOUS) == 0 && shm_has(args[4]) ? map(args) : SHIP;
    case __NR_read:
        return shm_has(args[0]) ? call_read(event) : SHIP;
    case __NR_pread64:
        return shm_has(args[0]) ? call_pread(args) : SHIP;
    case __NR_write:
    case __NR_pwrite64:
    case __NR_readv:
    case __NR_writev:
    case __NR_preadv:
    case __NR_pwritev:
    case __NR_preadv2:
    case __NR_pwritev2:
        return shm_has(args[0]) ? -EINVAL : SHIP;
    default:
        return SHIP;
    }
}

static void end_wait(struct waiter *w, int64_t result)
{
    uint32_t tid = w->tid;

    w->tid = 0;
    pct.info->shm_waiting--;
    qk_reply(tid, result);
}

void shm_interrupt(void)
{
    for (uint32_t i = 0; i < WAITERS; i++) {
        int64_t result = waiters[i].tid != 0 ? look(&waiters[i]) : PENDING;
        if (result != PENDING) {
            end_wait(&waiters[i], result);
        }
    }
}

bool shm_cancel(uint32_t tid, bool time_over)
{
    for (uint32_t i = 0; i < WAITERS; i++) {
        struct waiter *w = &waiters[i];
        if (w->tid == tid) {
            end_wait(w, time_over ? give_poll(w->va, 0) : -EINTR);
            return true;
        }
    }
    return false;
}
