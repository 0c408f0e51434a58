/* SPDX-License-Identifier: Apache-2.0 */
/* The channel as a file: descriptors, mappings, waiting. yod's part is to give descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include "mm.h"
#include "pct.h"
#include "ship.h"
#include "sim.h"
#include "tap.h"

#define MIB (1ull << 20)
#define RW (PROT_READ | PROT_WRITE)
#define BASE 0x40000000ull
#define WINDOW (4 * MIB + LWK_PAGE)

static char opened[64];
static int64_t next_fd;

static int64_t serve(const struct yod_slot *slot, uint32_t index)
{
    (void)index;
    switch (slot->call) {
    case SYS_openat:
        strncpy(opened, ram(slot->args[1]), sizeof(opened) - 1);
        return strncmp(opened, "/dev/v3m", 8) == 0 ? -ENOENT : next_fd++;
    case SYS_dup2:
        return (int64_t)slot->args[1];
    case SYS_fcntl:
        return slot->args[1] == F_DUPFD ? next_fd++ : 0;
    case SYS_write:
        return (int64_t)slot->extent[1];
    default:
        return 0;
    }
}

static void start(uint64_t window)
{
    sim_launch(16 * MIB, true);
    sim_serve = serve;
    sim_window_bytes = window;
    next_fd = 3;
    for (int64_t fd = 0; fd < 64; fd++) { /* what the last test left open */
        (void)sim_call(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
    }
    memset(sim_info.shm_rung, 0, sizeof(sim_info.shm_rung));
    (void)mm_mmap(BASE, 4 * LWK_PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
}

static int64_t open_path(const char *path, int flags)
{
    (void)mm_write(BASE, path, strlen(path) + 1);
    return sim_call(SYS_openat, (uint64_t)AT_FDCWD, BASE, (uint64_t)flags, 0, 0, 0);
}

static int64_t open_channel(void)
{
    return open_path("/dev/v3m-shm", O_RDWR);
}

static int64_t map(int64_t fd, uint64_t bytes, uint64_t prot, uint64_t flags, uint64_t offset)
{
    return sim_call(SYS_mmap, 0, bytes, prot, flags, (uint64_t)fd, offset);
}

/* By thread 1, into the page behind the path's. */
static int64_t wait_read(int64_t fd, uint64_t bytes)
{
    return sim_call(SYS_read, (uint64_t)fd, BASE + LWK_PAGE, bytes, 0, 0, 0);
}

static uint32_t count_at(uint32_t index)
{
    uint32_t value;

    memcpy(&value, sim_memory(BASE + LWK_PAGE + 4 * index, PROT_READ), sizeof(value));
    return value;
}

static struct pollfd *poll_set(int64_t fd, short events)
{
    struct pollfd *entry = (struct pollfd *)(void *)sim_memory(BASE + 2 * LWK_PAGE, RW);

    *entry = (struct pollfd){(int)fd, events, 0x55};
    return entry;
}

static int64_t wait_poll(uint64_t count, int64_t ms)
{
    return sim_call(SYS_poll, BASE + 2 * LWK_PAGE, count, (uint64_t)ms, 0, 0, 0);
}

TEST(shm_is_a_file_only_where_there_is_a_channel)
{
    start(0);
    CHECK_EQ(open_channel(), -ENOENT);
    start(WINDOW);
    CHECK_EQ(open_channel(), 3);
    CHECK(strcmp(opened, "/dev/null") == 0);
    CHECK_EQ(open_path("/dev/v3m-shm2", O_RDWR), -ENOENT);
    CHECK_EQ(open_path("/tmp", O_RDWR), 4);
    CHECK_EQ(sim_call(SYS_write, 3, BASE, 4, 0, 0, 0), -EINVAL);
    CHECK_EQ(sim_call(SYS_write, 4, BASE, 4, 0, 0, 0), 4);
    uint64_t sizes[2];
    CHECK_EQ(sim_call(SYS_pread64, 3, BASE, 16, 0, 0, 0), 16);
    memcpy(sizes, sim_memory(BASE, PROT_READ), sizeof(sizes));
    CHECK_EQ(sizes[0], WINDOW);
    CHECK_EQ(sizes[1], 65536);
    CHECK_EQ(sim_call(SYS_pread64, 3, BASE, 8, 0, 0, 0), -EINVAL);
}

TEST(shm_descriptors_are_copied_and_closed)
{
    start(WINDOW);
    int64_t fd = open_channel();
    CHECK_EQ(sim_call(SYS_dup2, (uint64_t)fd, 20, 0, 0, 0, 0), 20);
    int64_t other = sim_call(SYS_fcntl, (uint64_t)fd, F_DUPFD, 0, 0, 0, 0);
    CHECK_EQ(sim_call(SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0), 0);
    CHECK_EQ(sim_call(SYS_write, (uint64_t)fd, BASE, 4, 0, 0, 0), 4);
    CHECK(map(20, LWK_PAGE, RW, MAP_SHARED, 0) > 0);
    CHECK(map(other, LWK_PAGE, RW, MAP_SHARED, 0) > 0);
    int64_t file = open_path("/tmp", O_RDWR); /* another takes its place */
    CHECK_EQ(sim_call(SYS_dup2, (uint64_t)file, 20, 0, 0, 0, 0), 20);
    CHECK_EQ(sim_call(SYS_write, 20, BASE, 4, 0, 0, 0), 4);
}

TEST(shm_maps_what_there_is_and_no_more)
{
    start(WINDOW);
    int64_t fd = open_channel();
    uint64_t free_bytes = mm.phys.bytes;
    uint32_t pages = sim_mapped_pages();
    int64_t registers = map(fd, 4096, RW, MAP_SHARED, 0);
    int64_t window = map(fd, WINDOW, RW, MAP_SHARED, 4096);

    CHECK_EQ(area_at(&mm.areas, (uint64_t)registers)->pa, SIM_REGISTERS);
    CHECK_EQ(area_at(&mm.areas, (uint64_t)window)->pa, SIM_WINDOW);
    CHECK_EQ(map(fd, WINDOW + 1, RW, MAP_SHARED, 4096), -EINVAL);
    CHECK_EQ(map(fd, 8192, RW, MAP_SHARED, 0), -EINVAL);
    CHECK_EQ(map(fd, 4096, RW, MAP_SHARED, 4096 + WINDOW), -EINVAL);
    CHECK_EQ(map(fd, 4096, RW, MAP_SHARED, UINT64_MAX - 4095), -EINVAL);
    CHECK_EQ(map(fd, UINT64_MAX, RW, MAP_SHARED, 4096), -EINVAL);
    CHECK_EQ(map(fd, 0, RW, MAP_SHARED, 4096), -EINVAL);
    CHECK_EQ(map(fd, 4096, RW, MAP_SHARED, 4097), -EINVAL);
    CHECK_EQ(map(fd, 4096, RW, MAP_PRIVATE, 4096), -EINVAL);
    CHECK_EQ(map(fd, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 4096), -EACCES);
    CHECK_EQ(map(open_path("/dev/v3m-shm", O_RDONLY), 4096, RW, MAP_SHARED, 4096), -EACCES);
    /* Whatever descriptor stands there, anonymous memory is RAM. */
    int64_t ram_va = map(fd, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    CHECK(sim_memory((uint64_t)ram_va, RW) != NULL);
    CHECK_EQ(mm_munmap((uint64_t)ram_va, 4096), 0);
    CHECK_EQ(mm_mprotect((uint64_t)window, 8192, PROT_READ | PROT_EXEC), -EACCES);
    CHECK_EQ(mm_mprotect((uint64_t)window, 8192, PROT_NONE), 0);
    CHECK_EQ(mm_mprotect((uint64_t)window, 8192, RW), 0);
    CHECK_EQ(mm_madvise((uint64_t)window, 8192, MADV_DONTNEED), -EINVAL);
    CHECK_EQ(mm_mremap((uint64_t)window, WINDOW, WINDOW + 4096, MREMAP_MAYMOVE, 0), -EFAULT);
    CHECK(sim_consistent());
    CHECK_EQ(mm.phys.bytes, free_bytes);
    /* No system call reads or writes there. */
    CHECK_EQ(sim_call(SYS_write, 1, (uint64_t)window, 4, 0, 0, 0), -EFAULT);
    CHECK_EQ(mm_munmap((uint64_t)window, WINDOW), 0);
    CHECK_EQ(mm_munmap((uint64_t)registers, 4096), 0);
    CHECK_EQ(mm.phys.bytes, free_bytes);
    CHECK_EQ(sim_mapped_pages(), pages);
    CHECK(sim_consistent());
}

TEST(shm_read_waits_for_an_interrupt)
{
    start(WINDOW);
    sim_ring(0); /* before it was opened: not seen */
    int64_t fd = open_channel();

    CHECK_EQ(wait_read(fd, 8), -EINVAL);
    CHECK_EQ(wait_read(fd, 4), SIM_BLOCKED);
    sim_ring(2);
    CHECK_EQ(sim_reply(1), 4);
    CHECK_EQ(count_at(0), 2);
    sim_ring(3);
    sim_ring(0);
    CHECK_EQ(wait_read(fd, 20), 20);
    const uint32_t expected[] = {4, 2, 0, 1, 1};
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(count_at(i), expected[i]);
    }
    CHECK_EQ(wait_read(fd, 4), SIM_BLOCKED);
    sim_cancel(1, false);
    CHECK_EQ(sim_reply(1), -EINTR);
    CHECK_EQ(sim_info.shm_waiting, 0);
    CHECK_EQ(sim_call(SYS_fcntl, (uint64_t)fd, F_SETFL, O_NONBLOCK, 0, 0, 0), 0);
    CHECK_EQ(wait_read(fd, 4), -EAGAIN);
    CHECK_EQ(sim_call(SYS_read, (uint64_t)fd, 0x1000, 4, 0, 0, 0), -EAGAIN);
    sim_ring(0);
    CHECK_EQ(sim_call(SYS_read, (uint64_t)fd, 0x1000, 4, 0, 0, 0), -EFAULT);
    CHECK_EQ(wait_read(fd, 4), 4); /* the interrupt was not lost */
}

TEST(shm_poll_waits_no_longer_than_told)
{
    start(WINDOW);
    int64_t fd = open_channel();
    struct pollfd *entry = poll_set(fd, POLLIN);

    CHECK_EQ(wait_poll(1, 0), 0);
    CHECK_EQ(entry->revents, 0);
    CHECK_EQ(wait_poll(1, 250), SIM_BLOCKED);
    CHECK_EQ(sim_timeout_tid, 1);
    CHECK_EQ(sim_timeout_ns, 250000000);
    sim_cancel(1, true);
    CHECK_EQ(sim_reply(1), 0);
    CHECK_EQ(wait_poll(1, -1), SIM_BLOCKED);
    sim_ring(1);
    CHECK_EQ(sim_reply(1), 1);
    CHECK_EQ(entry->revents, POLLIN);
    CHECK_EQ(wait_poll(1, -1), 1); /* until it is read */
    CHECK_EQ(wait_read(fd, 4), 4);
    CHECK_EQ(wait_poll(1, 0), 0);
    entry[1] = (struct pollfd){0, POLLIN, 0};
    CHECK_EQ(wait_poll(2, 0), -EINVAL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET((int)fd, &set);
    (void)mm_write(BASE, &set, sizeof(set));
    CHECK_EQ(sim_call(SYS_select, (uint64_t)fd + 1, BASE, 0, 0, 0, 0), -EINVAL);
}

TEST(shm_wakes_all_that_wait)
{
    const uint64_t args[6] = {3, BASE + LWK_PAGE, 4};
    const uint64_t others[6] = {4, BASE + LWK_PAGE, 4};
    uint32_t woken = 0;

    start(WINDOW);
    (void)open_channel();
    (void)open_channel();
    for (uint32_t tid = 1; tid <= 64; tid++) {
        CHECK_EQ(sim_call_by(tid, SYS_read, tid % 2 != 0 ? args : others), SIM_BLOCKED);
    }
    CHECK_EQ(sim_call_by(65, SYS_read, args), -EAGAIN); /* no more at once */
    for (uint32_t round = 1; round <= 32; round++) {
        sim_ring(0);
        woken = 0;
        for (uint32_t tid = 1; tid <= 64; tid++) {
            woken += sim_reply(tid) == 4 ? 1 : 0;
        }
        CHECK_EQ(woken, 2 * round); /* one of each descriptor */
    }
    CHECK_EQ(sim_info.shm_waiting, 0);
}

static const uint16_t calls[] = {
    SYS_read,   SYS_pread64, SYS_write, SYS_mmap,  SYS_munmap, SYS_mprotect, SYS_madvise,
    SYS_mremap, SYS_poll,    SYS_ppoll, SYS_fcntl, SYS_dup2,   SYS_pselect6, SYS_openat,
    SYS_close,  SYS_readv,   SYS_brk,   SYS_fstat, SYS_lseek,  SYS_select,   SYS_pwrite64};

static uint64_t any_fd(void)
{
    return 3 + sim_random() % 8;
}

/* The page that arguments are in, which another call may have unmapped. */
static void need_page(void)
{
    (void)mm_mmap(BASE, 4 * LWK_PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
}

/* A call that may well succeed; false: that kind has none. */
static bool likely_call(uint32_t tid, uint64_t call)
{
    uint64_t window = 0x60000000 + sim_random() % 16 * LWK_PAGE;
    uint64_t pages = 1 + sim_random() % 16;
    uint64_t args[6] = {window, pages * LWK_PAGE, RW};

    switch (call) {
    case SYS_openat:
        need_page();
        next_fd = (int64_t)any_fd();
        (void)open_path("/dev/v3m-shm", sim_random() % 4 == 0 ? O_RDWR | O_NONBLOCK : O_RDWR);
        return true;
    case SYS_mmap:
        args[3] = MAP_SHARED | MAP_FIXED;
        args[4] = any_fd();
        args[5] = LWK_PAGE * (sim_random() % 1030);
        break;
    case SYS_read:
        args[0] = any_fd();
        args[1] = sim_random() % 4 == 0 ? window : BASE + LWK_PAGE;
        args[2] = sim_random() % 2 == 0 ? 4 : 20;
        break;
    case SYS_poll:
        need_page();
        (void)poll_set((int64_t)any_fd(), POLLIN);
        args[0] = BASE + 2 * LWK_PAGE;
        args[1] = 1;
        args[2] = sim_random() % 100;
        break;
    case SYS_munmap:
    case SYS_mprotect:
        break;
    case SYS_mremap:
        args[2] = LWK_PAGE * (1 + sim_random() % 16);
        args[3] = sim_random() % 2;
        break;
    default:
        return false;
    }
    (void)sim_call_by(tid, call, args);
    return true;
}

static void any_call(uint32_t tid, uint64_t call)
{
    uint64_t args[6];

    for (uint32_t n = 0; n < 6; n++) {
        const uint64_t values[] = {any_fd(),
                                   0x60000000 + sim_random() % 16 * LWK_PAGE,
                                   BASE + sim_random() % 64,
                                   LWK_PAGE * (sim_random() % 8),
                                   sim_random() % 32,
                                   MAP_SHARED | MAP_FIXED,
                                   UINT64_MAX,
                                   sim_random()};
        args[n] = values[sim_random() % 8];
    }
    (void)sim_call_by(tid, call, args);
}

/* Any calls with the channel's descriptors and mappings, and interrupts amid them. */
TEST(shm_survives_anything)
{
    uint32_t rounds = sim_rounds(30000);
    uint32_t waited = 0;

    start(WINDOW);
    uint64_t free_bytes = mm.phys.bytes;
    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t tid = 2 + (uint32_t)(sim_random() % 80);
        uint64_t call = calls[sim_random() % (sizeof(calls) / sizeof(calls[0]))];
        if (sim_random() % 64 == 0) {
            sim_ring((uint32_t)(sim_random() % LWK_SHM_VECTORS));
        }
        if (sim_reply(tid) == SIM_BLOCKED) {
            waited++;
            sim_cancel(tid, sim_random() % 2 == 0);
        } else if (sim_random() % 2 == 0 || !likely_call(tid, call)) {
            any_call(tid, call);
        }
        if (i % 256 == 0 && !CHECK(sim_consistent())) {
            return;
        }
    }
    for (uint32_t tid = 2; tid <= 81; tid++) {
        if (sim_reply(tid) == SIM_BLOCKED) {
            sim_cancel(tid, false);
        }
        CHECK(sim_reply(tid) != SIM_BLOCKED);
    }
    CHECK(waited > rounds / 1000);
    CHECK_EQ(sim_info.shm_waiting, 0);
    (void)mm_munmap(LWK_APP_LOW, LWK_APP_HIGH - LWK_APP_LOW);
    CHECK(sim_consistent());
    CHECK(mm.phys.bytes >= free_bytes);
}
