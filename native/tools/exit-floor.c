/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit-floor: what a port access costs that is answered by the barest possible loop around KVM_RUN:
 * no library, no signal mask, no statistics. The floor under everything that the exit benchmark
 * measures.
 *
 *   exit-floor WARM COUNT      prints nanoseconds an exit
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "exit-guest.h"

#define RAM_BYTES 0x10000u

static int64_t now_ns(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int set_up(int vcpu)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = EXIT_GUEST_GPA, .rflags = 2};
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0) {
        return -1;
    }
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0 ? -1 : ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* Nanoseconds from mark to mark, or -1. */
static int64_t run(int vcpu, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run;
    uint8_t latch = 0;
    int64_t start = 0;
    int64_t stop = 0;
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) != 0 || run->exit_reason != KVM_EXIT_IO) {
            return -1;
        }
        if (run->io.port == EXIT_DATA_PORT) {
            if (run->io.direction == KVM_EXIT_IO_OUT) {
                latch = data[run->io.data_offset];
            } else {
                data[run->io.data_offset] = latch;
            }
        } else if (run->io.port == EXIT_MARK_PORT) {
            start = stop;
            stop = now_ns();
        } else {
            return stop - start;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fputs("usage: exit-floor WARM COUNT\n", stderr);
        return 1;
    }
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 0);
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) {
        return fail("exit-floor: /dev/kvm");
    }
    void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED) {
        return fail("exit-floor: memory");
    }
    exit_guest((uint8_t *)ram + EXIT_GUEST_GPA, (uint32_t)strtoul(argv[1], NULL, 0), count);
    struct kvm_userspace_memory_region region = {
        .memory_size = RAM_BYTES,
        .userspace_addr = (uint64_t)(uintptr_t)ram,
    };
    int vcpu =
        ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vcpu < 0 || bytes < 0) {
        return fail("exit-floor: vCPU");
    }
    struct kvm_run *shared = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (shared == MAP_FAILED || set_up(vcpu) != 0) {
        return fail("exit-floor: vCPU state");
    }
    int64_t elapsed = run(vcpu, shared);
    if (elapsed < 0) {
        return fail("exit-floor: KVM_RUN");
    }
    (void)printf("%.1f\n", (double)elapsed / (2.0 * count));
    return 0;
}
