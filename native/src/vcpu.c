/* SPDX-License-Identifier: Apache-2.0 */
/* The run loop of a vCPU and the handling of every exit reason. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "machine.h"

/*
 * Kicks. The signal is blocked in the vCPU's thread and let through only inside KVM_RUN
 * (KVM_SET_SIGNAL_MASK), so no handler ever runs and none has to be installed in the process. A
 * kick sets immediate_exit first, which makes a KVM_RUN that is just about to start return at once,
 * and then sends the signal, which ends one that has started. No kick can be lost, none needs a
 * retry.
 */
struct loop {
    struct vh_vcpu *vcpu;
    sigset_t old_mask;
    uint64_t left_at; /* TSC when KVM_RUN last returned, 0: nothing to account */
    uint32_t exit;    /* what it returned for */
};

static inline void add(uint64_t *counter, uint64_t value)
{
    /* One writer; readers in other threads or processes must see whole values. */
    __atomic_store_n(counter, *counter + value, __ATOMIC_RELAXED);
}

static uint64_t ticks_to_ns(const struct vmmhpc *vm, uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * vm->ns_per_tick) >> 32);
}

static void account_outside(struct loop *loop, uint64_t now)
{
    if (loop->left_at == 0) {
        return;
    }
    struct vmmhpc_vcpu_stats *stats = loop->vcpu->stats;
    uint64_t ns = now > loop->left_at ? ticks_to_ns(loop->vcpu->vm, now - loop->left_at) : 0;
    uint32_t bucket = ns == 0 ? 0 : 63u - (uint32_t)__builtin_clzll(ns);
    if (bucket >= VMMHPC_STATS_BUCKETS) {
        bucket = VMMHPC_STATS_BUCKETS - 1;
    }
    struct vmmhpc_exit_stats *exit = &stats->exits[loop->exit];
    add(&exit->count, 1);
    add(&exit->total_ns, ns);
    add(&exit->histogram[bucket], 1);
    add(&stats->outside_ns, ns);
    loop->left_at = 0;
}

static int enter_guest(struct loop *loop)
{
    struct vh_vcpu *vcpu = loop->vcpu;
    uint64_t before = __rdtsc();
    account_outside(loop, before);
    int result = ioctl(vcpu->fd, KVM_RUN, 0);
    int failed = result < 0 ? errno : 0;
    uint64_t after = __rdtsc();
    add(&vcpu->stats->runs, 1);
    add(&vcpu->stats->run_ns, ticks_to_ns(vcpu->vm, after - before));
    uint32_t reason = failed != 0 ? KVM_EXIT_INTR : vcpu->run->exit_reason;
    loop->exit = reason < VMMHPC_STATS_EXITS ? reason : VMMHPC_STATS_EXITS - 1;
    loop->left_at = after;
    return failed;
}

static uint64_t load(const uint8_t *data, uint32_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, data, bytes); /* little-endian, like the guest */
    return value;
}

static void handle_pio(struct vh_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint32_t size = run->io.size;
    bool out = run->io.direction == KVM_EXIT_IO_OUT;
    const struct vh_table *table =
        atomic_load_explicit(&vcpu->vm->tables[VMMHPC_SPACE_PIO], memory_order_acquire);
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    /* A string instruction arrives as several elements for the same port. */
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        struct vh_access access = {
            .vcpu = vcpu->index,
            .bytes = size,
            .direction = out ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ,
            .address = run->io.port,
            .value = out ? load(data, size) : 0,
        };
        uint64_t result = 0;
        if (!vh_dispatch(table, &access, &result)) {
            add(&vcpu->stats->unclaimed_pio, 1);
        }
        if (!out) {
            memcpy(data, &result, size);
        }
    }
}

static void handle_mmio(struct vh_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const struct vh_table *table =
        atomic_load_explicit(&vcpu->vm->tables[VMMHPC_SPACE_MMIO], memory_order_acquire);
    uint32_t length = run->mmio.len > 8 ? 8 : run->mmio.len;
    uint32_t done = 0;
    /* Unaligned accesses may come with odd lengths: handlers see powers of two only. */
    while (done < length) {
        uint32_t bytes = 8;
        while (bytes > length - done) {
            bytes /= 2;
        }
        struct vh_access access = {
            .vcpu = vcpu->index,
            .bytes = bytes,
            .direction = run->mmio.is_write != 0 ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ,
            .address = run->mmio.phys_addr + done,
            .value = run->mmio.is_write != 0 ? load(run->mmio.data + done, bytes) : 0,
        };
        uint64_t result = 0;
        if (!vh_dispatch(table, &access, &result)) {
            add(&vcpu->stats->unclaimed_mmio, 1);
        }
        if (run->mmio.is_write == 0) {
            memcpy(run->mmio.data + done, &result, bytes);
        }
        done += bytes;
    }
}

static void handle_system_event(struct vh_vcpu *vcpu)
{
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vh_request(vcpu->vm, VH_WANT_STOP, VMMHPC_STOP_POWEROFF, "the guest powered off");
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vh_request(vcpu->vm, VH_WANT_RESET, VMMHPC_STOP_RESET, "the guest reset itself");
        break;
    default:
        vh_crash(vcpu, VMMHPC_STOP_GUEST_CRASH, 0, "the guest reported a crash of its own");
        break;
    }
}

static void internal_error(struct vh_vcpu *vcpu)
{
    const char *text = "KVM met an internal error";
    switch (vcpu->run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        text = "KVM cannot emulate the instruction at RIP";
        break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        text = "an exception arrived during the delivery of another";
        break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        text = "an event could not be delivered to the guest";
        break;
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        text = "the CPU left the guest for a reason that KVM does not know";
        break;
    default:
        break;
    }
    vh_crash(vcpu, VMMHPC_STOP_INTERNAL_ERROR, 0, text);
}

static void handle_exit(struct vh_vcpu *vcpu)
{
    char text[96];
    if (atomic_load_explicit(&vcpu->vm->tables[VH_SPACE_HOOK], memory_order_acquire) != NULL &&
        vh_exit_hooks(vcpu)) {
        return;
    }
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        if (atomic_load(&vcpu->vm->debug) == NULL || !vh_debug_trap(vcpu)) {
            handle_pio(vcpu);
        }
        break;
    case KVM_EXIT_DEBUG:
        vh_debug_exit(vcpu);
        break;
    case KVM_EXIT_MMIO:
        handle_mmio(vcpu);
        break;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
    case KVM_EXIT_TPR_ACCESS:
        break;
    case KVM_EXIT_SHUTDOWN:
        vh_crash(vcpu, VMMHPC_STOP_TRIPLE_FAULT, 0, "triple fault");
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        internal_error(vcpu);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        vh_crash(vcpu, VMMHPC_STOP_ENTRY_FAILED, 0, "the CPU refused to enter the guest's state");
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        handle_system_event(vcpu);
        break;
    default:
        (void)snprintf(text, sizeof(text), "exit reason %u has no handler", vcpu->run->exit_reason);
        vh_crash(vcpu, VMMHPC_STOP_UNKNOWN_EXIT, 0, text);
        break;
    }
}

static void set_signal_mask(struct loop *loop, bool entering)
{
    sigset_t kick;
    (void)sigemptyset(&kick);
    (void)sigaddset(&kick, VH_KICK_SIGNAL);
    if (entering) {
        (void)pthread_sigmask(SIG_BLOCK, &kick, &loop->old_mask);
        return;
    }
    /* Leave no kick pending: unblocked, its default action would end the process. */
    struct timespec now = {0, 0};
    while (sigtimedwait(&kick, NULL, &now) > 0) {
    }
    (void)pthread_sigmask(SIG_SETMASK, &loop->old_mask, NULL);
}

/* After every reset the vCPU is a new one for KVM and needs the mask again. */
static void arm_vcpu(const struct loop *loop)
{
    /* struct kvm_signal_mask: a length, and right behind it the kernel's set (signals 1 ... 64). */
    uint32_t mask[3] = {2 * sizeof(uint32_t)};
    sigset_t inside = loop->old_mask;
    (void)sigdelset(&inside, VH_KICK_SIGNAL);
    memcpy(&mask[1], &inside, 2 * sizeof(uint32_t));
    (void)ioctl(loop->vcpu->fd, KVM_SET_SIGNAL_MASK, mask);
}

static void clear_kick(struct vh_vcpu *vcpu)
{
    sigset_t kick;
    struct timespec now = {0, 0};
    (void)sigemptyset(&kick);
    (void)sigaddset(&kick, VH_KICK_SIGNAL);
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    (void)sigtimedwait(&kick, NULL, &now);
}

void vh_kick_all(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        struct vh_vcpu *vcpu = &vm->vcpus[i];
        if (vcpu->active && !vcpu->parked) {
            /* Where it was set already, a kick is on its way or KVM_RUN yet to come. Signals would
             * pile up otherwise, and too many of them are refused (RLIMIT_SIGPENDING). */
            if (__atomic_exchange_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST) == 0) {
                (void)syscall(SYS_tgkill, vcpu->pid, vcpu->tid, VH_KICK_SIGNAL);
            }
        }
    }
}

void vh_vcpu_loop(struct vh_vcpu *vcpu)
{
    struct loop loop = {.vcpu = vcpu};
    struct vmmhpc *vm = vcpu->vm;
    set_signal_mask(&loop, true);
    if (!vh_vcpu_enter(vcpu)) {
        set_signal_mask(&loop, false);
        return;
    }
    arm_vcpu(&loop);
    vh_debug_arm(vcpu);
    for (;;) {
        int failed = enter_guest(&loop);
        if (failed == 0) {
            handle_exit(vcpu);
            if (atomic_load(&vm->attention)) {
                /* An access is finished inside the next KVM_RUN: come straight back from it, so
                 * that the vCPU stops between two instructions. */
                __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
            }
            continue;
        }
        if (failed != EINTR && failed != EAGAIN) {
            vh_crash(vcpu, VMMHPC_STOP_RUN_FAILED, failed, "KVM_RUN failed");
        }
        if (failed == EINTR) {
            add(&vcpu->stats->kicks, 1);
        }
        clear_kick(vcpu);
        if (atomic_load(&vm->attention)) {
            account_outside(&loop, __rdtsc());
            if (!vh_vcpu_park(vcpu)) {
                break;
            }
            arm_vcpu(&loop);
            vh_debug_arm(vcpu);
        }
    }
    vh_vcpu_leave(vcpu); /* no kick comes after this, and the machine may be gone */
    set_signal_mask(&loop, false);
}
