/* SPDX-License-Identifier: Apache-2.0 */
/* The machine: what struct vmmhpc holds, and the calls between the files that work on it. */
#ifndef VH_MACHINE_H
#define VH_MACHINE_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "acpi.h"
#include "boot/boot.h"
#include "debug.h"
#include "dispatch.h"
#include "files.h"
#include "internal.h"
#include "memory.h"
#include "modules.h"
#include "pci/pci.h"
#include "remote_ops.h"
#include "thread.h"
#include "uart.h"
#include "vmmhpc_monitor.h"
#include "vmmhpc_snapshot.h"

/* Brings a vCPU out of KVM_RUN: see vcpu.c. */
#define VH_KICK_SIGNAL (SIGRTMIN + 7)

/* What can be asked of a running machine from any thread, besides a pause. */
enum vh_want { VH_WANT_RESET, VH_WANT_STOP };

struct vh_vcpu {
    struct vmmhpc *vm;
    struct vmmhpc_vcpu_stats *stats;
    struct kvm_run *run;
    pthread_t thread;
    uint32_t index;
    uint32_t apic_id;
    int fd;
    int stats_fd; /* KVM's counters, or -1 */
    /* All below are guarded by vm->lock. */
    bool has_thread;
    bool active;      /* inside the run loop */
    bool parked;      /* active, but waiting outside KVM_RUN */
    pid_t pid;        /* of the thread in the run loop and of its process, while active */
    pthread_t runner; /* the thread in the run loop, while active */
    pid_t tid;        /* likewise */
    uint64_t seen_epoch;
};

/* What was loaded, kept so that a reset can load it again. */
struct vh_recipe {
    bool present;
    uint32_t kind;
    struct vh_blob kernel;
    struct vh_blob initrd;
    bool kernel_is_file; /* a mapped file, else a copy of ours */
    bool initrd_is_file;
    char *cmdline;
    uint64_t load_address;
    struct vh_entry entry;
};

/* The guest's clocks at the moment of a pause. */
struct vh_paused_time {
    struct kvm_clock_data clock;
    bool has_clock;
    uint64_t tsc; /* of the host */
};

/* A console that keeps its output and has many readers: the monitor's (native/monitor/history.c).
 * All are called under console_lock. */
struct pollfd;
#define VH_CONSOLE_READERS 8u
struct vh_console_keeper {
    /** Move output from the UART to where it is kept, and on to the readers; and what they type. */
    void (*pump)(struct vmmhpc *vm);
    uint32_t (*poll)(struct vmmhpc *vm, struct pollfd *fds); /* at most VH_CONSOLE_READERS */
    /** Has every reader all of it? Then they are told that this was the end. */
    bool (*finish)(struct vmmhpc *vm);
    /** Another reader, who begins with all that is kept; owns fd on success. */
    int32_t (*join)(struct vmmhpc *vm, int fd, struct vmmhpc_error *err);
    bool (*attached)(struct vmmhpc *vm);
    void (*detach)(struct vmmhpc *vm); /* all */
};

struct vh_console {
    int in_fd;
    int out_fd;
    bool in_is_socket;
    bool out_is_socket;
    bool out_blocked; /* the reader is slow: wait for POLLOUT */
    bool finished;    /* the reader was told that nothing follows */
    /* With a keeper the descriptors above are not used. */
    const struct vh_console_keeper *keeper;
    void *kept; /* the keeper's */
};

/* A reader of the machine's events. */
struct vh_event_stream {
    int fd;                         /* -1: free */
    struct vmmhpc_event late_event; /* a state that found the socket full; type 0: none */
};
#define VH_EVENT_STREAMS 8u

/* Told of every event, in the thread that causes it and with locks held: it must not call back. */
struct vh_event_hook {
    void (*tell)(void *opaque, const struct vmmhpc_event *event);
    void *opaque;
};

struct vh_msi_route {
    uint64_t address;
    uint32_t data;
    bool used;
};

/* GSIs from VH_IOAPIC_PINS on, one for each MSI-X vector. */
struct vh_msi_routes {
    struct vh_msi_route *routes;
    uint32_t count;
};

/* Guest-physical memory beside RAM (pmem): KVM slots behind those of RAM. */
struct vh_extra_memory {
    uint64_t gpa;
    uint64_t bytes;
    void *host;
    bool read_only;
};
#define VH_EXTRA_MEMORY_MAX 16u

/** What is at VH_GENERATION_GPA, as the guest reads it. */
struct vh_generation {
    uint8_t id[16];
    char clone[VMMHPC_CLONE_NAME_MAX + 1]; /* a clone's name, padded with zeroes; else zeroes */
};

/* The I/O loop's descriptors: see io_loop.h. */
struct vh_io_loop {
    int epoll_fd;         /* -1 until a device is added */
    pthread_mutex_t lock; /* held while devices are served: who pauses the machine waits for it */
};

/* What libvmmhpc-place adds to a machine (native/place). One block of memory, freed with it. */
struct vh_placing {
    /** The VM is made anew, its vCPUs are not. */
    int32_t (*vm_made)(const struct vmmhpc *vm, struct vmmhpc_error *err);
    /** Correct what a vCPU is told of its CPU. capacity: entries that cpuid has room for. */
    void (*cpuid)(const struct vh_vcpu *vcpu, struct kvm_cpuid2 *cpuid, uint32_t capacity);
};

struct vmmhpc {
    struct vh_remote *remote; /* the machine is in a monitor process: nothing below is used */
    /* Fixed after creation. */
    const struct vh_files *files; /* of the call that is under way; NULL: files are opened here */
    struct vh_event_hook event_hook;
    uint32_t cpus;
    uint32_t cores_per_socket;
    uint32_t threads_per_core;
    uint32_t flags;
    int32_t *pin;
    uint32_t pin_count;
    struct vh_placing *placing; /* NULL: nothing beyond pin */
    /* What further libraries say by ACPI. */
    struct vh_acpi_table acpi_tables[VH_ACPI_FURTHER];
    uint32_t acpi_table_count;
    int kvm_fd;
    size_t run_bytes; /* length of the kvm_run mapping */
    bool hide_xsave;
    uint64_t ns_per_tick; /* nanoseconds per TSC tick, 32.32 fixed point */
    struct vh_memory memory;
    struct vh_vcpu *vcpus;
    uint32_t *apic_ids;
    struct vmmhpc_stats_page *stats;
    uint64_t stats_bytes;
    int stats_fd;
    int wake_fd;                     /* eventfd of the I/O thread */
    struct vh_thread_source threads; /* set before the first device is added; empty: ours */

    /* The VM as KVM knows it is built anew at every reset; kvm_lock keeps others off meanwhile. */
    pthread_mutex_t kvm_lock;
    int vm_fd;
    struct vh_msi_routes msi;
    struct vh_extra_memory extra_memory[VH_EXTRA_MEMORY_MAX];
    uint32_t extra_memory_count;
    struct vmmhpc_kvm_stat *stat_base; /* counters of the VMs before the last reset */
    uint32_t stat_base_count;          /* a vCPU's; stat_base holds them for each vCPU */

    /* Devices: readers load a table without a lock; retired ones are freed after a grace period. */
    pthread_mutex_t device_lock;
    _Atomic(struct vh_table *) tables[VH_SPACES];
    uint32_t next_device_id;
    struct vh_uart uart;
    struct vh_pci_bus pci;
    struct vh_generation generation;
    bool has_generation_id; /* fixed once a guest is loaded */
    struct vh_io_loop io_loop;
    struct vh_modules modules;

    /* Life cycle: guarded by lock. attention tells vCPUs to take the lock and look: it is set while
     * anything below asks for them. Lock order: lock, console_lock, uart.lock, kvm_lock; event_lock
     * is a leaf. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_bool attention;
    bool stop_requested;
    bool reset_requested;
    bool pause_requested;
    uint32_t grace_waiters;
    uint64_t epoch;           /* grace periods so far */
    struct vh_table *retired; /* replaced tables that a vCPU may still be looking at */
    _Atomic uint32_t state;
    struct vmmhpc_stop_info stop;
    struct vh_paused_time paused;
    bool time_stopped; /* for a pause, for a debugger, or since a snapshot was restored */
    bool restored;     /* RAM and registers are a snapshot's: a load only keeps the recipe */
    _Atomic(struct vh_debug *) debug; /* debug.c; NULL: no debugger */
    struct vh_recipe recipe;

    /* The I/O thread, and what it pumps. */
    pthread_t io_thread;
    bool has_io_thread;
    bool finished;   /* guarded by lock: final state reached */
    bool destroying; /* guarded by lock */
    pthread_mutex_t console_lock;
    struct vh_console console;
    pthread_mutex_t event_lock;
    struct vh_event_stream streams[VH_EVENT_STREAMS];
};

/** As vmmhpc_create(), with files that somebody else opened and a hook for all events. */
int32_t vh_create(const struct vmmhpc_config *config, const struct vh_files *files,
                  const struct vh_event_hook *hook, struct vmmhpc **out, struct vmmhpc_error *err);

/* kvm_vm.c: the KVM objects. */
int32_t vh_kvm_open(const struct vh_files *files, const char *path, int *fd,
                    struct vmmhpc_error *err);
int32_t vh_kvm_build(struct vmmhpc *vm, struct vmmhpc_error *err);
void vh_kvm_teardown(struct vmmhpc *vm);
/** Put host memory (the caller's, until the machine ends) into the guest, outside RAM, at an
 * address of our choice, aligned to 2 MiB. It stays over resets. Before the guest is loaded. */
int32_t vh_kvm_add_memory(struct vmmhpc *vm, uint64_t *gpa, uint64_t bytes, void *host,
                          bool read_only, struct vmmhpc_error *err);

/* vcpu_state.c */
int32_t vh_vcpu_set_entry(struct vh_vcpu *vcpu, const struct vh_entry *entry,
                          struct vmmhpc_error *err);

/* vcpu.c: the run loop. The calling thread runs the vCPU until the machine ends. */
void vh_vcpu_loop(struct vh_vcpu *vcpu);
/** Make every vCPU that is in the run loop come out of KVM_RUN; vm->lock is held. */
void vh_kick_all(struct vmmhpc *vm);

/* crash.c: fill vm->stop for a vCPU that cannot go on, and ask the machine to stop. */
void vh_crash(struct vh_vcpu *vcpu, uint32_t reason, int sys_errno, const char *text);

/* lifecycle.c */
/** Ask for a reset or a stop; the first stop reason wins. Any thread; vm->lock is not held. */
void vh_request(struct vmmhpc *vm, enum vh_want want, uint32_t stop_reason, const char *text);
/** Wait until every vCPU has been outside handlers once since the call. */
int32_t vh_grace_period(struct vmmhpc *vm, struct vmmhpc_error *err);
/** Free a replaced table (or NULL) once every vCPU has been outside handlers; does not wait. */
void vh_retire(struct vmmhpc *vm, struct vh_table *table);
/** Free what no vCPU can be looking at any more; vm->lock is held. */
void vh_reap(struct vmmhpc *vm);
/** Pending stop or reset work, done by the I/O thread. True when the machine has ended. */
bool vh_lifecycle_step(struct vmmhpc *vm);
/** Is the caller in the run loop of one of this machine's vCPUs? vm->lock is not held. */
bool vh_on_vcpu_thread(struct vmmhpc *vm);
/** Set the state, tell waiters and send the event; vm->lock is held. */
void vh_set_state(struct vmmhpc *vm, uint32_t state);
/** attention follows from what is asked for; vm->lock is held. */
void vh_update_attention(struct vmmhpc *vm);

/* park.c: a vCPU enters, waits in, and leaves the run loop. */
bool vh_vcpu_enter(struct vh_vcpu *vcpu);
/** Called outside KVM_RUN when attention is set. False: leave the run loop. */
bool vh_vcpu_park(struct vh_vcpu *vcpu);
void vh_vcpu_leave(struct vh_vcpu *vcpu);
/** Is every active vCPU parked; is none active? vm->lock is held. */
bool vh_all_parked(const struct vmmhpc *vm);
bool vh_none_active(const struct vmmhpc *vm);

/* guest_time.c: stop and continue the guest's clocks; vCPUs are parked. */
void vh_time_stop(struct vmmhpc *vm);
void vh_time_continue(struct vmmhpc *vm);

/* io_thread.c */
int32_t vh_io_thread_start(struct vmmhpc *vm, struct vmmhpc_error *err);
void vh_io_wake(struct vmmhpc *vm);
void vh_events_init(struct vmmhpc *vm);
/** Resets may get lost where nobody reads; the last state does not. */
void vh_send_event(struct vmmhpc *vm, uint32_t type, uint64_t arg);

/* console.c: one turn of moving bytes; which descriptors to wait for. */
struct pollfd;
void vh_console_init(struct vmmhpc *vm);
void vh_console_close(struct vmmhpc *vm);
void vh_console_pump(struct vmmhpc *vm);
/** Bring the console's counters in the statistics page up to date. */
void vh_console_account(struct vmmhpc *vm);
#define VH_CONSOLE_POLLS (2u + VH_CONSOLE_READERS)
uint32_t vh_console_poll(struct vmmhpc *vm, struct pollfd *fds); /* at most VH_CONSOLE_POLLS */
/** Has the last output been taken, after the machine's end? */
bool vh_console_finished(struct vmmhpc *vm);
/** Is somebody attached who has not gone? */
bool vh_console_attached(struct vmmhpc *vm);
/** The machine has ended: when all output has been taken, tell a socket's reader that this was it.
 *  False: some is still to be taken. */
bool vh_console_finish(struct vmmhpc *vm);

/* builtin.c: sleep control, reset register, keyboard controller reset, UART. */
int32_t vh_builtin_devices(struct vmmhpc *vm, struct vmmhpc_error *err);

/* devices.c */
/** Claim a range of ports or of memory; range->base and what handles it are set. */
int32_t vh_device_add(struct vmmhpc *vm, uint32_t space, struct vh_range *range, uint64_t bytes,
                      uint32_t *id, struct vmmhpc_error *err);
/** Put a range, complete but for its id, into one of the tables; vCPUs may call it at once. */
int32_t vh_range_publish(struct vmmhpc *vm, uint32_t space, struct vh_range *range, uint64_t limit,
                         uint32_t *id, struct vmmhpc_error *err);
/** Take it out; a vCPU may still be in it until a grace period has passed. *owned is what the
 *  range owned, for the caller to free after that. E_INVALID: there is none. */
int32_t vh_range_unpublish(struct vmmhpc *vm, uint32_t space, uint32_t id, void **owned,
                           struct vmmhpc_error *err);
void vh_devices_free(struct vmmhpc *vm);

/* generation.c: put the VM generation ID into RAM. */
int32_t vh_generation_write(struct vmmhpc *vm, struct vmmhpc_error *err);

/* load.c */
int32_t vh_recipe_apply(struct vmmhpc *vm, struct vmmhpc_error *err);
void vh_recipe_free(struct vh_recipe *recipe);

/* stats.c */
int32_t vh_stats_create(struct vmmhpc *vm, struct vmmhpc_error *err);
void vh_stats_destroy(struct vmmhpc *vm);
/* kvm_stats.c: remember the counters of a VM that is about to be torn down. */
void vh_kvm_stats_save(struct vmmhpc *vm);

#endif
