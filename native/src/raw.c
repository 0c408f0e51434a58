/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers for callers that drive KVM by themselves. Every function returns a result >= 0 or
 * -errno and keeps no state; what it hands out (descriptors, mappings) belongs to the caller.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/memfd.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define HOST_ALIGNMENT (2 * VH_MIB)
#define KICK_SIGNAL (SIGRTMIN + 7) /* the same as a machine's vCPU threads use */

static int64_t result_of(int64_t result)
{
    return result < 0 ? -(int64_t)errno : result;
}

int64_t vmmhpc_raw_open(const char *path)
{
    return result_of(open(path != NULL ? path : "/dev/kvm", O_RDWR | O_CLOEXEC));
}

int64_t vmmhpc_raw_close(int32_t fd)
{
    return result_of(close(fd));
}

int64_t vmmhpc_raw_ioctl(int32_t fd, uint64_t request, void *arg)
{
    return result_of(ioctl(fd, request, arg));
}

int64_t vmmhpc_raw_ioctl_value(int32_t fd, uint64_t request, uint64_t value)
{
    return result_of(ioctl(fd, request, value));
}

/* -------------------------------------------------------------------- running and kicking */

int64_t vmmhpc_raw_run(int32_t vcpu_fd)
{
    if (ioctl(vcpu_fd, KVM_RUN, 0) == 0) {
        return 0;
    }
    int saved = errno;
    if (saved == EINTR) {
        /* The kick signal stays pending (it is blocked out here): take it, or the next run ends
         * too. */
        sigset_t kick;
        const struct timespec now = {0};
        (void)sigemptyset(&kick);
        (void)sigaddset(&kick, KICK_SIGNAL);
        (void)sigtimedwait(&kick, NULL, &now);
    }
    return -(int64_t)saved;
}

int64_t vmmhpc_raw_prepare_kicks(int32_t vcpu_fd)
{
    /* The signal stays blocked in this thread, so a kick that comes too late is never acted upon.
     */
    sigset_t kick;
    sigset_t inside;
    (void)sigemptyset(&kick);
    (void)sigaddset(&kick, KICK_SIGNAL);
    int status = pthread_sigmask(SIG_BLOCK, &kick, &inside);
    if (status != 0) {
        return -(int64_t)status;
    }
    (void)sigdelset(&inside, KICK_SIGNAL);
    /* struct kvm_signal_mask: a length, then the kernel's set of that length (signals 1 ... 64). */
    uint32_t mask[3] = {2 * sizeof(uint32_t)};
    memcpy(&mask[1], &inside, 2 * sizeof(uint32_t));
    if (ioctl(vcpu_fd, KVM_SET_SIGNAL_MASK, mask) != 0) {
        return -(int64_t)errno;
    }
    return vmmhpc_raw_gettid();
}

int64_t vmmhpc_raw_kick(void *kvm_run, int32_t tid)
{
    struct kvm_run *run = kvm_run;
    __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (tid == 0) {
        return 0;
    }
    return result_of(syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL));
}

int64_t vmmhpc_raw_gettid(void)
{
    return syscall(SYS_gettid);
}

/* -------------------------------------------------------------------- memory */

static uint64_t page_bytes(uint32_t backing)
{
    switch (backing) {
    case VMMHPC_BACKING_HUGE_2M:
        return 2 * VH_MIB;
    case VMMHPC_BACKING_HUGE_1G:
        return VH_GIB;
    default:
        return VH_PAGE;
    }
}

/* Reserve address space that starts at a multiple of alignment, trimming what is beside it. */
static uint8_t *reserve(uint64_t bytes, uint64_t alignment)
{
    uint64_t span = 0;
    if (!vh_add(bytes, alignment, &span)) {
        errno = ENOMEM;
        return NULL;
    }
    uint8_t *start = mmap(NULL, span, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    uint64_t head = -(uintptr_t)start & (alignment - 1);
    if (head > 0) {
        (void)munmap(start, head);
    }
    if (alignment > head) {
        (void)munmap(start + head + bytes, alignment - head);
    }
    return start + head;
}

static int64_t map_shared(uint8_t *base, uint64_t bytes, uint32_t backing)
{
    unsigned flags = MFD_CLOEXEC;
    if (backing == VMMHPC_BACKING_HUGE_2M) {
        flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    } else if (backing == VMMHPC_BACKING_HUGE_1G) {
        flags |= MFD_HUGETLB | MFD_HUGE_1GB;
    }
    int fd = memfd_create("vmmhpc-raw", flags);
    if (fd < 0) {
        return -(int64_t)errno;
    }
    if (ftruncate(fd, (off_t)bytes) != 0 ||
        mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int64_t status = -(int64_t)errno;
        (void)close(fd);
        return status;
    }
    return fd;
}

int64_t vmmhpc_raw_memory(uint64_t bytes, uint32_t backing, void **address)
{
    if (address == NULL || backing > VMMHPC_BACKING_HUGE_1G || bytes == 0 ||
        bytes % page_bytes(backing) != 0) {
        return -EINVAL;
    }
    *address = NULL;
    uint64_t alignment =
        page_bytes(backing) > HOST_ALIGNMENT ? page_bytes(backing) : HOST_ALIGNMENT;
    uint8_t *base = reserve(bytes, alignment);
    if (base == NULL) {
        return -(int64_t)errno;
    }
    int64_t status = 0;
    if (backing >= VMMHPC_BACKING_MEMFD) {
        status = map_shared(base, bytes, backing);
        if (status < 0) {
            (void)munmap(base, bytes);
            return status;
        }
    } else {
        /* Best effort: a host without transparent huge pages still works. */
        (void)madvise(base, bytes, backing == VMMHPC_BACKING_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    *address = base;
    return status;
}

int64_t vmmhpc_raw_map(int32_t fd, uint64_t bytes, uint64_t offset, void **address)
{
    if (address == NULL) {
        return -EINVAL;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    *address = base == MAP_FAILED ? NULL : base;
    return base == MAP_FAILED ? -(int64_t)errno : 0;
}

int64_t vmmhpc_raw_unmap(void *address, uint64_t bytes)
{
    return result_of(munmap(address, bytes));
}

/* -------------------------------------------------------------------- eventfd */

int64_t vmmhpc_raw_eventfd(uint32_t initial)
{
    return result_of(eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK));
}

int64_t vmmhpc_raw_eventfd_read(int32_t fd, uint64_t *value)
{
    ssize_t count = read(fd, value, sizeof(*value));
    return count < 0 ? -(int64_t)errno : 0;
}

int64_t vmmhpc_raw_eventfd_write(int32_t fd, uint64_t value)
{
    ssize_t count = write(fd, &value, sizeof(value));
    return count < 0 ? -(int64_t)errno : 0;
}
