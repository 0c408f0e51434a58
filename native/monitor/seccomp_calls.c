/* SPDX-License-Identifier: Apache-2.0 */
/* The lists: which thread makes which system calls. docs/reference/jail.md shows them. */
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <linux/vhost.h>
#include <string.h>
#include <sys/syscall.h>

#include "monitor/seccomp.h"

#define S (1u << VH_SECCOMP_SETUP)
#define C (1u << VH_SECCOMP_CONTROL)
#define V (1u << VH_SECCOMP_VCPU)
#define I (1u << VH_SECCOMP_IO)
#define D (1u << VH_SECCOMP_DISK)
#define ALL (S | C | V | I | D)

#define CALL(name, kinds)                                                                          \
    {                                                                                              \
#name, SYS_##name, kinds, VH_CHECK_NONE                                                    \
    }
#define CHECKED(name, kinds, check)                                                                \
    {                                                                                              \
#name, SYS_##name, kinds, VH_CHECK_##check                                                 \
    }

/* The first ones are looked at first. What the control thread may do must be in its setup, too. No
 * list has a call that makes threads or processes: see threads.h. */
static const struct vh_seccomp_call calls[] = {
    CHECKED(ioctl, ALL, REQUEST),
    CALL(futex, ALL),
    CALL(write, ALL),
    CALL(read, S | C | V | I),
    CALL(ppoll, S | C | I), /* vh_poll() */
#ifdef __GLIBC__
    CALL(epoll_wait, I),
#else
    CALL(epoll_pwait, I), /* musl's epoll_wait() */
#endif
    CALL(io_uring_enter, S | C | V | I), /* vCPUs: a reset of the device waits for its requests */
    CALL(readv, I),
    CALL(writev, I),
    CALL(preadv, ALL), /* pread() too: vh_pread(). V: registers of a device of the host's */
    CALL(pwritev, ALL),
    CALL(fdatasync, S | C | I | D),
    CALL(fallocate, S | C | I | D),
    CALL(lseek, S | C), /* holes of a base */
    CALL(recvmsg, S | C | I),
    CALL(sendmsg, S | C | V | I),
    CALL(recvfrom, I),
    CALL(sendto, I),
    CALL(shutdown, I),
    CALL(accept4, S | C),
    CHECKED(socketpair, S | C, UNIX),
    CALL(getsockopt, S), /* what kind of socket a network was given */
    CALL(close, S | C | V | I),
    CHECKED(fcntl, S | C, FCNTL),
/* What the C library makes of fstat(). */
#ifdef __GLIBC__
    CHECKED(newfstatat, S | C, DESCRIPTOR),
#else
    CALL(fstat, S | C),
#endif
    CALL(epoll_create1, S),
    CALL(epoll_ctl, S | C | V | I),
    CALL(eventfd2, S | C | V | I),
    CALL(io_uring_setup, S),
    CALL(io_uring_register, S),
    CALL(memfd_create, S),
    CALL(ftruncate, S),
    CHECKED(mmap, ALL, NO_EXEC),
#ifndef __GLIBC__
    CHECKED(mprotect, ALL, NO_EXEC), /* how the heap of musl grows */
#endif
    CALL(munmap, ALL),
    CALL(brk, ALL),
    CALL(madvise, ALL),
    CALL(mbind, S),
    CALL(sched_setaffinity, S),
    CALL(sched_setscheduler, S),
    CALL(sched_yield, I),
#ifdef __GLIBC__
    CALL(sysinfo, S | I), /* I/O: its qsort() asks how much memory there is */
#else
    CALL(sysinfo, S),
#endif
    CALL(getrandom, S | I),
    CALL(gettid, V),
    CALL(getpid, V),
    CHECKED(tgkill, S | C | V | I, KICK),
    CALL(rt_sigprocmask, V | I | D), /* also how the C library ends a thread */
    CALL(rt_sigtimedwait, V),
    CALL(clock_gettime, ALL),         /* where the clock source is none for user space */
    CALL(restart_syscall, V | I | D), /* waits with a limit, after SIGCONT */
    CHECKED(prctl, S, FILTER),
    CALL(exit, V | I | D),
    CALL(exit_group, ALL),
};

#define REQUEST(name, kinds)                                                                       \
    {                                                                                              \
#name, name, kinds                                                                         \
    }

/* The VM is built in setup, and anew by the I/O thread at a reset. */
static const struct vh_seccomp_request requests[] = {
    REQUEST(KVM_RUN, V),
    REQUEST(KVM_IRQ_LINE, S | C | V | I),
    REQUEST(KVM_SET_SIGNAL_MASK, V),
    REQUEST(KVM_GET_REGS, S | C | V),
    REQUEST(KVM_SET_REGS, S | V | I), /* V: the result of a hypercall */
    REQUEST(KVM_GET_SREGS, S | C | V | I),
    REQUEST(KVM_SET_SREGS, S | I),
    REQUEST(KVM_SET_MSRS, S | I),
    REQUEST(KVM_SET_CPUID2, S | I),
    REQUEST(KVM_TRANSLATE, V),
    REQUEST(KVM_SET_GSI_ROUTING, S | C | V | I),
    REQUEST(KVM_IRQFD, S | C | V | I),
    REQUEST(KVM_IOEVENTFD, S | C | V | I),
    REQUEST(KVM_SET_USER_MEMORY_REGION, S | C | V | I), /* V: a window is moved */
    REQUEST(KVM_CREATE_VM, S | I),
    REQUEST(KVM_CREATE_VCPU, S | I),
    REQUEST(KVM_CREATE_IRQCHIP, S | I),
    REQUEST(KVM_SET_IDENTITY_MAP_ADDR, S | I),
    REQUEST(KVM_SET_TSS_ADDR, S | I),
    REQUEST(KVM_ENABLE_CAP, S | I),
    REQUEST(KVM_CHECK_EXTENSION, S | C | I),
    REQUEST(KVM_GET_SUPPORTED_CPUID, S | I),
    REQUEST(KVM_GET_STATS_FD, S | C | I),
    REQUEST(KVM_GET_API_VERSION, S),
    REQUEST(KVM_GET_VCPU_MMAP_SIZE, S),
    REQUEST(KVM_GET_TSC_KHZ, S | C),
    REQUEST(KVM_GET_CLOCK, S | C),
    REQUEST(KVM_SET_CLOCK, S | C),
    REQUEST(KVM_KVMCLOCK_CTRL, S | C),
    REQUEST(KVM_GET_DEVICE_ATTR, S | C),
    REQUEST(KVM_SET_DEVICE_ATTR, S | C),
    /* To write a snapshot, and to restore one. */
    REQUEST(KVM_GET_MSR_INDEX_LIST, S | C),
    REQUEST(KVM_GET_MSRS, S | C),
    REQUEST(KVM_GET_CPUID2, S | C),
    REQUEST(KVM_GET_FPU, S | C),
    REQUEST(KVM_SET_FPU, S),
    REQUEST(KVM_GET_XSAVE, S | C),
    REQUEST(KVM_GET_XSAVE2, S | C),
    REQUEST(KVM_SET_XSAVE, S),
    REQUEST(KVM_GET_XCRS, S | C),
    REQUEST(KVM_SET_XCRS, S),
    REQUEST(KVM_GET_LAPIC, S | C),
    REQUEST(KVM_SET_LAPIC, S),
    REQUEST(KVM_GET_VCPU_EVENTS, S | C),
    REQUEST(KVM_SET_VCPU_EVENTS, S),
    REQUEST(KVM_GET_MP_STATE, S | C),
    REQUEST(KVM_SET_MP_STATE, S),
    REQUEST(KVM_GET_DEBUGREGS, S | C),
    REQUEST(KVM_SET_DEBUGREGS, S),
    REQUEST(KVM_GET_IRQCHIP, S | C),
    REQUEST(KVM_SET_IRQCHIP, S),
    REQUEST(KVM_SET_TSC_KHZ, S),
    REQUEST(VHOST_SET_OWNER, S),
    REQUEST(VHOST_GET_FEATURES, S),
    REQUEST(VHOST_SET_FEATURES, S | V | I),
    REQUEST(VHOST_SET_MEM_TABLE, S | V | I),
    REQUEST(VHOST_SET_VRING_NUM, V | I),
    REQUEST(VHOST_SET_VRING_BASE, V | I),
    REQUEST(VHOST_SET_VRING_ADDR, V | I),
    REQUEST(VHOST_SET_VRING_KICK, S | C | V | I),
    REQUEST(VHOST_SET_VRING_CALL, S | C | V | I),
    REQUEST(VHOST_GET_VRING_BASE, S | C | V | I),
    REQUEST(VHOST_NET_SET_BACKEND, S | C | V | I),
    REQUEST(VHOST_VSOCK_SET_GUEST_CID, S),
    REQUEST(VHOST_VSOCK_SET_RUNNING, S | C | V | I),
    REQUEST(VFIO_DEVICE_GET_INFO, S),
    REQUEST(VFIO_DEVICE_GET_REGION_INFO, S),
    REQUEST(VFIO_DEVICE_GET_IRQ_INFO, S),
    REQUEST(VFIO_DEVICE_SET_IRQS, S | C | V | I),
    REQUEST(VFIO_DEVICE_RESET, S | C | I),
    REQUEST(VFIO_IOMMU_MAP_DMA, S | V), /* V: memory that came later, or after a reset */
    REQUEST(VFIO_IOMMU_UNMAP_DMA, S | C | I),
    REQUEST(TUNGETIFF, S),
    REQUEST(TUNSETVNETHDRSZ, S),
    REQUEST(TUNSETOFFLOAD, S | C | V | I),
    REQUEST(BLKGETSIZE64, S),
    REQUEST(BLKSSZGET, S),
    REQUEST(BLKPBSZGET, S),
    REQUEST(BLKDISCARD, D),
};

/* Calls that nobody may make and that an attacker would try: for messages only. */
static const struct vh_seccomp_call others[] = {
    CALL(mprotect, 0),
    CALL(newfstatat, 0), /* what is above for one C library only, too */
    CALL(fstat, 0),
    CALL(pread64, 0),
    CALL(fsync, 0),
    CALL(setsockopt, 0),
    CALL(open, 0),
    CALL(openat, 0),
    CALL(openat2, 0),
    CALL(socket, 0),
    CALL(connect, 0),
    CALL(bind, 0),
    CALL(listen, 0),
    CALL(clone, 0),
    CALL(clone3, 0),
    CALL(fork, 0),
    CALL(vfork, 0),
    CALL(execve, 0),
    CALL(execveat, 0),
    CALL(kill, 0),
    CALL(tkill, 0),
    CALL(rt_sigqueueinfo, 0),
    CALL(rt_sigaction, 0),
    CALL(rt_sigreturn, 0),
    CALL(ptrace, 0),
    CALL(process_vm_readv, 0),
    CALL(process_vm_writev, 0),
    CALL(mount, 0),
    CALL(umount2, 0),
    CALL(pivot_root, 0),
    CALL(chroot, 0),
    CALL(fsopen, 0),
    CALL(open_tree, 0),
    CALL(move_mount, 0),
    CALL(unshare, 0),
    CALL(setns, 0),
    CALL(pidfd_open, 0),
    CALL(pidfd_getfd, 0),
    CALL(bpf, 0),
    CALL(perf_event_open, 0),
    CALL(keyctl, 0),
    CALL(add_key, 0),
    CALL(userfaultfd, 0),
    CALL(mremap, 0),
    CALL(personality, 0),
    CALL(modify_ldt, 0),
    CALL(arch_prctl, 0),
    CALL(setuid, 0),
    CALL(setresuid, 0),
    CALL(setresgid, 0),
    CALL(stat, 0),
    CALL(mkdir, 0),
    CALL(getuid, 0),
    CALL(capset, 0),
    CALL(setrlimit, 0),
    CALL(prlimit64, 0),
    CALL(seccomp, 0),
    CALL(dup, 0),
    CALL(dup2, 0),
    CALL(dup3, 0),
    CALL(pipe2, 0),
    CALL(readlinkat, 0),
#ifdef SYS_memfd_secret
    CALL(memfd_secret, 0),
#endif
    CALL(open_by_handle_at, 0),
    CALL(name_to_handle_at, 0),
    CALL(init_module, 0),
    CALL(finit_module, 0),
    CALL(kexec_load, 0),
    CALL(reboot, 0),
    CALL(swapon, 0),
    CALL(clock_settime, 0),
    CALL(settimeofday, 0),
    CALL(sethostname, 0),
    CALL(iopl, 0),
    CALL(ioperm, 0),
    CALL(shmget, 0),
    CALL(shmat, 0),
    CALL(msgget, 0),
    CALL(timer_create, 0),
    CALL(inotify_init1, 0),
};

const char *vh_seccomp_kind_name(enum vh_seccomp_kind kind)
{
    static const char *const names[] = {"setup", "control", "vcpu", "io", "disk"};
    return kind < VH_SECCOMP_KINDS ? names[kind] : "none";
}

const struct vh_seccomp_call *vh_seccomp_calls(size_t *count)
{
    *count = VH_COUNT(calls);
    return calls;
}

const struct vh_seccomp_request *vh_seccomp_requests(size_t *count)
{
    *count = VH_COUNT(requests);
    return requests;
}

uint32_t vh_seccomp_count(enum vh_seccomp_kind kind)
{
    uint32_t count = 0;
    for (size_t i = 0; i < VH_COUNT(calls); i++) {
        count += calls[i].kinds >> kind & 1;
    }
    return count;
}

const char *vh_seccomp_check_text(enum vh_seccomp_check check)
{
    static const char *const texts[] = {
        "",
        "requests as below",
        "nothing executable",
        "of a descriptor",
        "duplicate, flags, lock, seals",
        "AF_UNIX",
        "the kick, to itself",
        "PR_SET_SECCOMP",
    };
    return check < VH_COUNT(texts) ? texts[check] : "";
}

const char *vh_seccomp_name(uint32_t number)
{
    for (size_t i = 0; i < VH_COUNT(calls); i++) {
        if (calls[i].number == number) {
            return calls[i].name;
        }
    }
    for (size_t i = 0; i < VH_COUNT(others); i++) {
        if (others[i].number == number) {
            return others[i].name;
        }
    }
    return "";
}
