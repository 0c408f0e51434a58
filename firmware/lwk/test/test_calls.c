/* SPDX-License-Identifier: Apache-2.0 */
/* System calls through jobs and slots, served by a yod of a few lines. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "mm.h"
#include "pct.h"
#include "ship.h"
#include "sim.h"
#include "tap.h"

#define MIB (1ull << 20)
#define BASE 0x40000000ull
#define ODD 0x50000000ull /* two pages that are not contiguous */

/* A file: reads give its bytes, at most `chunk` at once; writes are gathered. */
static uint8_t file[32768];
static uint32_t file_at;
static uint32_t chunk;
static uint8_t written[32768];
static uint32_t written_bytes;
static uint32_t served[0x10001];
static char last_path[4096];
static bool block;

static int64_t serve_read(const struct yod_slot *slot, uint64_t from)
{
    uint64_t bytes =
        least(slot->extent[1], least(chunk, from < sizeof(file) ? sizeof(file) - from : 0));

    CHECK_EQ(slot->extent[1], slot->args[2]);
    memcpy(ram(slot->args[1]), file + from, bytes);
    return (int64_t)bytes;
}

static int64_t serve(const struct yod_slot *slot, uint32_t index)
{
    int64_t bytes;

    served[slot->call]++;
    if (slot->call == YOD_CALL_CANCEL) {
        CHECK_EQ(index, YOD_SLOTS - 1);
        return 0;
    }
    if (block) {
        return SIM_BLOCKED;
    }
    switch (slot->call) {
    case SYS_read:
        bytes = serve_read(slot, file_at);
        file_at += (uint32_t)bytes;
        return bytes;
    case SYS_pread64:
        return (int)slot->args[0] == 9 ? -EISDIR : serve_read(slot, slot->args[3]);
    case SYS_write:
        if (slot->args[0] == 8) {
            return -EPIPE;
        }
        memcpy(written + written_bytes, ram(slot->args[1]), slot->extent[1]);
        written_bytes += (uint32_t)slot->extent[1];
        return (int64_t)slot->extent[1];
    case SYS_openat:
        strcpy(last_path, ram(slot->args[1]));
        CHECK_EQ(slot->extent[1], strlen(last_path) + 1);
        return 3;
    case SYS_fstat:
        CHECK_EQ(slot->extent[1], sizeof(struct stat));
        memset(ram(slot->args[1]), 0x11, sizeof(struct stat));
        return 0;
    case SYS_poll: {
        struct pollfd *fds = ram(slot->args[0]);
        for (uint32_t i = 0; i < slot->args[1]; i++) {
            fds[i].revents = fds[i].events & POLLIN;
        }
        return file_at < sizeof(file) ? (int64_t)slot->args[1] : 0;
    }
    default:
        return 0;
    }
}

static void start(bool yod)
{
    sim_launch(32 * MIB, yod);
    sim_serve = serve;
    block = false;
    chunk = sizeof(file);
    file_at = 0;
    written_bytes = 0;
    memset(served, 0, sizeof(served));
    for (uint32_t i = 0; i < sizeof(file); i++) {
        file[i] = (uint8_t)(i * 7 + i / 256);
    }
    (void)mm_mmap(BASE, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                  0);
    /* The upper page gets its memory first, from above. */
    for (uint32_t i = 2; i-- > 0;) {
        (void)mm_mmap(ODD + i * LWK_PAGE, LWK_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
        (void)mm_own_pages(LWK_PAGE);
    }
}

static void *at(uint64_t va)
{
    return sim_memory(va, PROT_WRITE);
}

TEST(calls_ship_paths_and_structures)
{
    start(true);
    strcpy(at(BASE), "/etc/motd");
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, BASE, O_RDONLY, 0, 0, 0), 3);
    CHECK_CONTAINS(last_path, "/etc/motd");
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, 0x1000, O_RDONLY, 0, 0, 0), -EFAULT);
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, LWK_APP_HIGH, O_RDONLY, 0, 0, 0), -EFAULT);
    memset(at(BASE), 'x', 8192);
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, BASE, O_RDONLY, 0, 0, 0), -ENAMETOOLONG);
    /* Over the boundary of two pages that are not contiguous. */
    memcpy(at(ODD + LWK_PAGE - 2), "/a", 2);
    strcpy(at(ODD + LWK_PAGE), "bc");
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, ODD + LWK_PAGE - 2, O_RDONLY, 0, 0, 0), 3);
    CHECK_CONTAINS(last_path, "/abc");
    CHECK_EQ(sim_call(SYS_fstat, 0, ODD + LWK_PAGE - 8, 0, 0, 0, 0), 0);
    CHECK_EQ(*(uint8_t *)at(ODD + LWK_PAGE - 1), 0x11);
    CHECK_EQ(*(uint8_t *)at(ODD + LWK_PAGE + sizeof(struct stat) - 9), 0x11);
    CHECK_EQ(*(uint8_t *)at(ODD + LWK_PAGE + sizeof(struct stat) - 8), 0);
    (void)mm_mprotect(BASE, LWK_PAGE, PROT_READ);
    CHECK_EQ(sim_call(SYS_fstat, 0, BASE, 0, 0, 0, 0), -EFAULT);
}

TEST(calls_read_and_write_in_pieces)
{
    start(true);
    CHECK_EQ(sim_call(SYS_read, 3, BASE, 10000, 0, 0, 0), 10000);
    CHECK(memcmp(at(BASE), file, 10000) == 0);
    CHECK_EQ(served[SYS_read], 1);
    /* Not contiguous, but small: one call. */
    file_at = 0;
    CHECK_EQ(sim_call(SYS_read, 3, ODD + 100, 8000, 0, 0, 0), 8000);
    CHECK_EQ(served[SYS_read], 2);
    CHECK(memcmp(at(ODD + 100), file, LWK_PAGE - 100) == 0);
    CHECK(memcmp(at(ODD + LWK_PAGE), file + LWK_PAGE - 100, 8000 - LWK_PAGE + 100) == 0);
    CHECK_EQ(sim_call(SYS_write, 1, ODD + 100, 8000, 0, 0, 0), 8000);
    CHECK(written_bytes == 8000 && memcmp(written, file, 8000) == 0);
    CHECK_EQ(served[SYS_write], 1);
    CHECK_EQ(sim_call(SYS_read, 3, 0x1000, 10, 0, 0, 0), -EFAULT);
    CHECK_EQ(sim_call(SYS_write, 1, 0, 0, 0, 0, 0), 0);
    /* What cannot be read is not written; what comes before is. */
    CHECK_EQ(sim_call(SYS_write, 1, BASE + 4 * MIB - 5, 100, 0, 0, 0), 5);
    CHECK_EQ(sim_call(SYS_write, 8, BASE, 100, 0, 0, 0), -EPIPE);
    CHECK_EQ(sim_signals, 1 << 12);
}

TEST(calls_with_vectors)
{
    struct iovec *vector;

    start(true);
    vector = at(BASE + 2 * MIB);
    vector[0] = (struct iovec){(void *)BASE, 100};
    vector[1] = (struct iovec){NULL, 0};
    vector[2] = (struct iovec){(void *)(BASE + 1000), 200};
    CHECK_EQ(sim_call(SYS_readv, 3, BASE + 2 * MIB, 3, 0, 0, 0), 300);
    CHECK_EQ(served[SYS_read], 1);
    CHECK(memcmp(at(BASE), file, 100) == 0 && memcmp(at(BASE + 1000), file + 100, 200) == 0);
    /* Large ones are shipped each for itself, and a stream is polled between. */
    file_at = 0;
    vector[0] = (struct iovec){(void *)BASE, 9000};
    vector[2] = (struct iovec){(void *)(BASE + 10000), 2000};
    CHECK_EQ(sim_call(SYS_readv, 3, BASE + 2 * MIB, 3, 0, 0, 0), 11000);
    CHECK_EQ(served[SYS_read], 3);
    CHECK_EQ(served[SYS_poll], 1);
    CHECK(memcmp(at(BASE + 10000), file + 9000, 2000) == 0);
    file_at = sizeof(file) - 9000; /* nothing left for the second */
    CHECK_EQ(sim_call(SYS_readv, 3, BASE + 2 * MIB, 3, 0, 0, 0), 9000);
    CHECK_EQ(served[SYS_poll], 2);
    CHECK_EQ(sim_call(SYS_preadv, 3, BASE + 2 * MIB, 3, 500, 0, 0), 11000);
    CHECK(memcmp(at(BASE + 10000), file + 9500, 2000) == 0);
    CHECK_EQ(sim_call(SYS_writev, 1, BASE + 2 * MIB, 3, 0, 0, 0), 11000);
    CHECK(memcmp(written + 9000, file + 9500, 2000) == 0);
    chunk = 50;
    file_at = 0;
    CHECK_EQ(sim_call(SYS_readv, 3, BASE + 2 * MIB, 3, 0, 0, 0), 50);
    CHECK_EQ(sim_call(SYS_readv, 3, BASE + 2 * MIB, 2000, 0, 0, 0), -EINVAL);
    CHECK_EQ(sim_call(SYS_readv, 3, 0x1000, 2, 0, 0, 0), -EFAULT);
    vector[0].iov_len = UINT64_MAX;
    CHECK_EQ(sim_call(SYS_writev, 1, BASE + 2 * MIB, 3, 0, 0, 0), -EINVAL);
}

TEST(calls_wait_cancel_and_queue)
{
    const uint64_t args[6] = {3, BASE, 100};

    start(true);
    block = true;
    for (uint32_t tid = 1; tid <= 100; tid++) {
        CHECK(sim_call_by(tid, SYS_read, args) == SIM_BLOCKED);
    }
    CHECK_EQ(served[SYS_read], YOD_SLOTS - 1);
    sim_done(4, 77);
    CHECK_EQ(sim_reply(5), 77);
    CHECK_EQ(served[SYS_read], YOD_SLOTS); /* thread 64 has its slot */
    ship_cancel(99);
    CHECK_EQ(sim_reply(99), -EINTR);
    ship_cancel(1);
    CHECK_EQ(served[YOD_CALL_CANCEL], 1);
    CHECK(sim_reply(1) == SIM_BLOCKED);
    sim_done(0, -EINTR);
    CHECK_EQ(sim_reply(1), -EINTR);
    ship_cancel(5000); /* nobody */
    /* Memory that yod may write to is not given to others. */
    (void)mm_munmap(BASE, 4 * MIB);
    uint64_t before = mm.phys.bytes;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < YOD_SLOTS - 1; i++) {
            if (pct.queue->slot[i].state == YOD_SLOT_POSTED) {
                sim_done(i, 0);
            }
        }
    }
    CHECK(mm.phys.bytes >= before + 2 * MIB);
    for (uint32_t tid = 1; tid <= 100; tid++) {
        CHECK(sim_reply(tid) != SIM_BLOCKED);
    }
    CHECK(sim_consistent());
    pct.queue->signals = 1ull << 14 | 1;
    ship_interrupt();
    CHECK_EQ(sim_signals, 1ull << 14 | 1);
    CHECK_EQ(pct.queue->signals, 0);
}

TEST(calls_map_files)
{
    start(true);
    chunk = 5000; /* short reads */
    int64_t va = sim_call(SYS_mmap, 0, sizeof(file) + 100, PROT_READ, MAP_PRIVATE, 3, 4096);
    CHECK(va > 0);
    CHECK(memcmp(sim_memory((uint64_t)va, PROT_READ), file + 4096, sizeof(file) - 4096) == 0);
    CHECK_EQ(*sim_memory((uint64_t)va + sizeof(file) - 4096, PROT_READ), 0);
    CHECK(sim_memory((uint64_t)va, PROT_WRITE) == NULL);
    CHECK_EQ(sim_call(SYS_mmap, 0, 100, PROT_READ, MAP_PRIVATE, 9, 0), -ENODEV);
    CHECK_EQ(sim_call(SYS_mmap, 0, 100, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0), -ENODEV);
    CHECK_EQ(sim_call(SYS_mmap, 0, 100, PROT_READ, MAP_PRIVATE, 3, 1), -EINVAL);
    CHECK_EQ(sim_call(SYS_mmap, 0, 100, PROT_READ, 0, 3, 0), -EINVAL);
    va = sim_call(SYS_mmap, 0, 100, PROT_READ, MAP_SHARED, 3, 0);
    CHECK_EQ(sim_call(SYS_mprotect, (uint64_t)va, 100, PROT_READ | PROT_WRITE, 0, 0, 0), -EACCES);
    CHECK(sim_consistent());
}

TEST(calls_poll_and_select)
{
    start(true);
    struct pollfd *fds = at(BASE);
    fds[0] = (struct pollfd){.fd = 3, .events = POLLIN};
    CHECK_EQ(sim_call(SYS_poll, BASE, 1, 1000, 0, 0, 0), 1);
    CHECK_EQ(fds[0].revents, POLLIN);
    int64_t *time = at(BASE + 8192);
    time[0] = 1;
    time[1] = 500000001;
    CHECK_EQ(sim_call(SYS_ppoll, BASE, 1, BASE + 8192, 0, 0, 0), 1);
    time[1] = 1000000000;
    CHECK_EQ(sim_call(SYS_ppoll, BASE, 1, BASE + 8192, 0, 0, 0), -EINVAL);
    CHECK_EQ(sim_call(SYS_poll, BASE, UINT64_MAX, 0, 0, 0, 0), -EINVAL);
    fd_set *set = at(BASE + 4096);
    FD_ZERO(set);
    FD_SET(5, set);
    FD_SET(70, set);
    CHECK_EQ(sim_call(SYS_select, 71, BASE + 4096, 0, 0, 0, 0), 2);
    CHECK(FD_ISSET(5, set) && FD_ISSET(70, set));
    CHECK_EQ(sim_call(SYS_select, 71, 0, BASE + 4096, 0, 0, 0), 0);
    CHECK(!FD_ISSET(5, set));
    CHECK_EQ(sim_call(SYS_select, 2000, 0, BASE + 4096, 0, 0, 0), -EINVAL);
    CHECK_EQ(sim_call(SYS_select, 71, 0x1000, 0, 0, 0, 0), -EFAULT);
}

TEST(calls_without_yod)
{
    start(false);
    strcpy(at(BASE), "hello\n");
    CHECK_EQ(sim_call(SYS_write, 1, BASE, 6, 0, 0, 0), 6);
    CHECK_CONTAINS(sim_console, "hello\n");
    CHECK_EQ(sim_call(SYS_write, 3, BASE, 6, 0, 0, 0), -EBADF);
    CHECK_EQ(sim_call(SYS_read, 0, BASE, 6, 0, 0, 0), 0);
    CHECK_EQ(sim_call(SYS_openat, AT_FDCWD, BASE, 0, 0, 0, 0), -ENOENT);
    CHECK_EQ(sim_call(SYS_fstat, 1, BASE, 0, 0, 0, 0), 0);
    CHECK_EQ(sim_call(SYS_fork, 0, 0, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ(sim_call(100000, 0, 0, 0, 0, 0, 0), -ENOSYS);
}

TEST(calls_about_the_process)
{
    start(true);
    CHECK_EQ(sim_call(SYS_getuid, 0, 0, 0, 0, 0, 0), 1000);
    CHECK_EQ(sim_call(SYS_getrandom, ODD + 4000, 200, 0, 0, 0, 0), 200);
    CHECK_EQ(sim_call(SYS_getrandom, 0, 200, 0, 0, 0, 0), -EFAULT);
    CHECK_EQ(sim_call(SYS_uname, BASE, 0, 0, 0, 0, 0), 0);
    CHECK_CONTAINS((char *)at(BASE + 65), "sim");
    CHECK_EQ(sim_call(SYS_prlimit64, 0, 7, 0, BASE, 0, 0), 0);
    CHECK_EQ(*(uint64_t *)at(BASE), 1024);
    CHECK_EQ(sim_call(SYS_prctl, 16, BASE, 0, 0, 0, 0), 0);
    CHECK_CONTAINS((char *)at(BASE), "app");
    CHECK_EQ(sim_call(SYS_sysinfo, BASE, 0, 0, 0, 0, 0), 0);
    CHECK_EQ(sim_call(SYS_fork, 0, 0, 0, 0, 0, 0), -ENOSYS);
}

static int64_t serve_anything(const struct yod_slot *slot, uint32_t index)
{
    (void)index;
    for (uint32_t i = 0; i < 6; i++) {
        if (slot->extent[i] > 0) {
            memset(ram(slot->args[i]), (int)sim_random(), least(slot->extent[i], 64));
        }
    }
    switch (sim_random() % 8) {
    case 0:
        return SIM_BLOCKED;
    case 1:
        return -(int64_t)(sim_random() % 134);
    case 2:
        return (int64_t)(sim_random() % 5000);
    default:
        return (int64_t)(slot->extent[1] % 10000);
    }
}

static uint64_t any_argument(void)
{
    switch (sim_random() % 8) {
    case 0:
        return sim_random();
    case 1:
        return sim_random() % 16;
    case 2:
        return sim_random() % 10000;
    case 3:
        return ODD + sim_random() % 8192;
    case 4:
        return 0 - sim_random() % 4096;
    case 5:
        return LWK_APP_HIGH - sim_random() % 8192;
    default:
        return BASE + sim_random() % (4 * MIB);
    }
}

/* Every call with any argument is answered, now or when yod or a signal ends it. */
TEST(calls_survive_anything)
{
    uint32_t rounds = sim_rounds(30000);

    start(true);
    sim_serve = serve_anything;
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t args[6];
        uint32_t tid = 1 + (uint32_t)(sim_random() % 200);
        for (uint32_t n = 0; n < 6; n++) {
            args[n] = any_argument();
        }
        if (sim_reply(tid) == SIM_BLOCKED) {
            sim_cancel(tid, false);
            uint32_t index = (uint32_t)(sim_random() % (YOD_SLOTS - 1));
            if (pct.queue->slot[index].state == YOD_SLOT_POSTED) {
                sim_done(index, -EINTR);
            }
            continue;
        }
        (void)sim_call_by(tid, sim_random() % 460, args);
        if (i % 256 == 0 && !CHECK(sim_consistent())) {
            return;
        }
    }
    sim_serve = serve;
    for (uint32_t round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < YOD_SLOTS - 1; i++) {
            if (pct.queue->slot[i].state == YOD_SLOT_POSTED) {
                sim_done(i, 0);
            }
        }
    }
    for (uint32_t tid = 1; tid <= 200; tid++) {
        CHECK(sim_reply(tid) != SIM_BLOCKED);
    }
}
