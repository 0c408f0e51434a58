/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc: a small, re-entrant virtual machine monitor library over /dev/kvm.
 *
 * Conventions
 *  - Every function that can fail returns VMMHPC_OK or a negative VMMHPC_E_* code and, where it
 *    takes `err`, fills that structure (err may be NULL). Nothing prints, exits or aborts.
 *  - There is no global state: any number of machines live in one process.
 *  - Structures that cross the ABI start with their own size in bytes; a caller built against an
 *    older header passes a smaller size and the missing tail reads as zero.
 *  - Handles are opaque and owned by the caller until the matching destroy call.
 *  - Sizes are bytes, addresses are guest-physical (GPA) and times nanoseconds unless said
 * otherwise.
 */
#ifndef VMMHPC_H
#define VMMHPC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMMHPC_API __attribute__((visibility("default")))

/** Version of this interface: major changes break the ABI, minor ones add to it. */
#define VMMHPC_VERSION_MAJOR 0u
#define VMMHPC_VERSION_MINOR 1u

/* ------------------------------------------------------------------ status and errors */

enum vmmhpc_status {
    VMMHPC_OK = 0,
    VMMHPC_E_INVALID = -1,     /* an argument is wrong */
    VMMHPC_E_NO_MEMORY = -2,   /* the host cannot give the memory asked for */
    VMMHPC_E_NO_KVM = -3,      /* /dev/kvm is absent or is not KVM */
    VMMHPC_E_PERMISSION = -4,  /* /dev/kvm (or a file) may not be opened by this user */
    VMMHPC_E_UNSUPPORTED = -5, /* the host's KVM lacks something that is needed */
    VMMHPC_E_SYSCALL = -6,     /* a system call failed in a way that has no better code */
    VMMHPC_E_RANGE = -7,       /* a guest address range is not RAM, or wraps round */
    VMMHPC_E_OVERLAP = -8,     /* two ranges (segments, devices) overlap */
    VMMHPC_E_BAD_IMAGE = -9,   /* not a kernel of a kind that we boot, or a damaged one */
    VMMHPC_E_TRUNCATED = -10,  /* a file ends before its own header says */
    VMMHPC_E_NO_ROOM = -11,    /* kernel, initrd or command line does not fit in guest RAM */
    VMMHPC_E_STATE = -12,      /* the machine is in a state that does not allow the call */
    VMMHPC_E_LIMIT = -13,      /* more vCPUs, regions or devices than the limit */
    VMMHPC_E_IO = -14,         /* a file cannot be read */
    VMMHPC_E_TIMEOUT = -15,    /* a wait ended before what it waited for */
};

/** A structured error. Filled by the callee; text is NUL-terminated English without a newline. */
struct vmmhpc_error {
    uint32_t size;     /* sizeof(struct vmmhpc_error), set by the caller */
    int32_t code;      /* enum vmmhpc_status */
    int32_t sys_errno; /* errno of the system call at fault, or 0 */
    uint32_t reserved;
    uint64_t value; /* the value at fault (address, length, count ...), or 0 */
    char text[232];
};

/** Version as major << 16 | minor. */
VMMHPC_API uint32_t vmmhpc_version(void);

/** Short constant name of a status code ("VMMHPC_E_RANGE"); never NULL. */
VMMHPC_API const char *vmmhpc_status_name(int32_t code);

/* ------------------------------------------------------------------ machine: creation */

/** An opaque virtual machine. */
struct vmmhpc;

enum vmmhpc_backing {
    VMMHPC_BACKING_ANON = 0,    /* private anonymous pages of 4 KiB */
    VMMHPC_BACKING_THP = 1,     /* anonymous with transparent huge pages requested */
    VMMHPC_BACKING_MEMFD = 2,   /* shared memfd, so that another process can map it */
    VMMHPC_BACKING_HUGE_2M = 3, /* hugetlbfs, 2 MiB pages (must be reserved on the host) */
    VMMHPC_BACKING_HUGE_1G = 4, /* hugetlbfs, 1 GiB pages */
};

#define VMMHPC_MEMORY_PREFAULT 1u /* touch every page before the guest starts */

/** One region of guest RAM. Regions follow each other in guest-physical space, round the hole. */
struct vmmhpc_memory {
    uint32_t size;     /* sizeof(struct vmmhpc_memory) */
    uint32_t backing;  /* enum vmmhpc_backing */
    uint64_t bytes;    /* multiple of 4 KiB (of the page size for hugetlbfs) */
    uint32_t flags;    /* VMMHPC_MEMORY_* */
    int32_t numa_node; /* host NUMA node to bind to, or -1 */
};

#define VMMHPC_MEMORY_MAX 16u           /* regions per machine */
#define VMMHPC_MEMORY_MIN (1u << 20)    /* smallest total RAM: 1 MiB */
#define VMMHPC_HOLE_START 0xc0000000ull /* RAM stops here and goes on ... */
#define VMMHPC_HOLE_END 0x100000000ull  /* ... here */

#define VMMHPC_FLAG_EXTERNAL_VCPUS 1u /* vCPUs are run by the caller: vmmhpc_vcpu_run() */
#define VMMHPC_FLAG_STOP_ON_RESET 2u  /* a guest reset stops the machine instead of rebooting it */
#define VMMHPC_FLAG_NO_UART 4u        /* no 16550 at 0x3f8 */
#define VMMHPC_FLAG_HIDE_XSAVE                                                                     \
    8u /* do not offer XSAVE and AVX; automatic where they are broken                              \
        */
#define VMMHPC_FLAG_POWER_BUTTON                                                                   \
    32u /* an ACPI power button: an edge at VMMHPC_POWER_BUTTON_GSI presses it */
#define VMMHPC_POWER_BUTTON_GSI 7u
#define VMMHPC_FLAG_BARE 16u /* no ACPI tables and no reset stub in RAM: for tiny guests */

/** What a machine is made of. Zero-initialise, set size, fill in what matters. */
struct vmmhpc_config {
    uint32_t size;             /* sizeof(struct vmmhpc_config) */
    uint32_t cpus;             /* 1 ... the host's limit */
    uint32_t cores_per_socket; /* topology shown to the guest; 0: all in one socket */
    uint32_t threads_per_core; /* 0 means 1 */
    uint32_t flags;            /* VMMHPC_FLAG_* */
    uint32_t memory_count;     /* 1 ... VMMHPC_MEMORY_MAX */
    const struct vmmhpc_memory *memory;
    const int32_t *pin; /* host CPU for each vCPU thread, -1 for none; or NULL */
    uint32_t pin_count; /* elements of pin: vCPU i takes pin[i % pin_count] */
    uint32_t reserved;
    const char *kvm_path; /* NULL means "/dev/kvm" */
};

/**
 * Create a machine: memory, KVM VM, irqchip, vCPUs, devices. No guest code runs yet.
 * On success *out owns everything; on failure nothing is left behind.
 */
VMMHPC_API int32_t vmmhpc_create(const struct vmmhpc_config *config, struct vmmhpc **out,
                                 struct vmmhpc_error *err);

/** Stop the machine if it runs, join its threads and release everything. NULL is allowed. Must not
 *  be called from a device handler. */
VMMHPC_API void vmmhpc_destroy(struct vmmhpc *vm);

/* ------------------------------------------------------------------ machine: what it boots */

enum vmmhpc_image_kind {
    VMMHPC_IMAGE_AUTO = 0,      /* recognise it; never a flat image */
    VMMHPC_IMAGE_BZIMAGE = 1,   /* Linux bzImage, 64-bit boot protocol (>= 2.12, XLF_KERNEL_64) */
    VMMHPC_IMAGE_ELF_LINUX = 2, /* Linux vmlinux (ELF64) entered by the 64-bit boot protocol */
    VMMHPC_IMAGE_ELF_PVH = 3,   /* ELF64 with a PVH entry note */
    VMMHPC_IMAGE_MULTIBOOT = 4, /* multiboot 1: ELF32, ELF64 or address fields */
    VMMHPC_IMAGE_FLAT16 = 5,    /* raw bytes, entered in 16-bit real mode */
    VMMHPC_IMAGE_FLAT64 = 6,    /* raw bytes, entered in 64-bit mode with 4 GiB identity-mapped */
};

/** What to load. Files are mapped; buffers are copied; both are kept so that a reset can load
 * again. */
struct vmmhpc_boot {
    uint32_t size;           /* sizeof(struct vmmhpc_boot) */
    uint32_t kind;           /* enum vmmhpc_image_kind */
    const char *kernel_path; /* or NULL: use kernel and kernel_bytes */
    const void *kernel;
    uint64_t kernel_bytes;
    const char *initrd_path; /* or NULL: use initrd and initrd_bytes (NULL, 0: none) */
    const void *initrd;
    uint64_t initrd_bytes;
    const char *cmdline;   /* NULL means "" */
    uint64_t load_address; /* flat images only: GPA of the first byte and of the entry */
};

/** Load a guest into RAM and set the boot vCPU's entry state. Allowed before vmmhpc_start(). */
VMMHPC_API int32_t vmmhpc_load(struct vmmhpc *vm, const struct vmmhpc_boot *boot,
                               struct vmmhpc_error *err);

/** What vmmhpc_load() found: enum vmmhpc_image_kind, or 0 before it. */
VMMHPC_API uint32_t vmmhpc_image_kind(const struct vmmhpc *vm);

/* ------------------------------------------------------------------ machine: running it */

enum vmmhpc_state {
    VMMHPC_STATE_CREATED = 0,
    VMMHPC_STATE_RUNNING = 1,
    VMMHPC_STATE_PAUSED = 2,
    VMMHPC_STATE_STOPPED = 3, /* powered off, stopped by request, or reset with STOP_ON_RESET */
    VMMHPC_STATE_CRASHED = 4,
};

enum vmmhpc_stop_reason {
    VMMHPC_STOP_NONE = 0,
    VMMHPC_STOP_POWEROFF = 1, /* the guest powered itself off */
    VMMHPC_STOP_REQUEST = 2,  /* vmmhpc_stop() */
    VMMHPC_STOP_RESET = 3,    /* the guest reset itself, with STOP_ON_RESET */
    VMMHPC_STOP_TRIPLE_FAULT = 4,
    VMMHPC_STOP_INTERNAL_ERROR = 5, /* KVM_EXIT_INTERNAL_ERROR; suberror says which */
    VMMHPC_STOP_ENTRY_FAILED = 6,   /* the CPU refused the guest state */
    VMMHPC_STOP_UNKNOWN_EXIT = 7,   /* an exit reason that nothing handles */
    VMMHPC_STOP_RUN_FAILED = 8,     /* KVM_RUN itself failed; sys_errno says why */
    VMMHPC_STOP_RESET_FAILED = 9,   /* the machine could not be built again after a reset */
    VMMHPC_STOP_GUEST_CRASH = 10,   /* the guest reported its own crash */
    VMMHPC_STOP_MONITOR_ENDED = 11, /* the process that ran it is gone (vmmhpc_monitor.h) */
};

/** How and where a machine stopped. Registers are meaningful where has_registers is 1. */
struct vmmhpc_stop_info {
    uint32_t size;   /* sizeof(struct vmmhpc_stop_info) */
    uint32_t state;  /* enum vmmhpc_state */
    uint32_t reason; /* enum vmmhpc_stop_reason */
    uint32_t vcpu;
    uint32_t exit_reason; /* KVM_EXIT_* */
    uint32_t suberror;    /* KVM_INTERNAL_ERROR_* */
    int32_t sys_errno;
    uint32_t has_registers;
    uint64_t hardware_reason; /* hardware_exit_reason or hardware_entry_failure_reason */
    uint64_t rip, rflags, rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t cr0, cr2, cr3, cr4, efer, cs_base;
    uint32_t cs_selector;
    uint32_t code_bytes; /* valid bytes in code[] */
    uint8_t code[32];    /* memory at CS:RIP */
    char text[200];      /* one sentence for people */
};

/** Start the guest (or, with EXTERNAL_VCPUS, let vmmhpc_vcpu_run() proceed). */
VMMHPC_API int32_t vmmhpc_start(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Stop every vCPU outside the guest, wherever it is, and stop the guest's clock. Returns when all
 *  are stopped. Must not be called from a device handler. */
VMMHPC_API int32_t vmmhpc_pause(struct vmmhpc *vm, struct vmmhpc_error *err);
VMMHPC_API int32_t vmmhpc_resume(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Reset as if by the reset button: loads the guest again. Asynchronous: see the reset event. */
VMMHPC_API int32_t vmmhpc_reset(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Ask the machine to stop; returns at once and may be called from a device handler. */
VMMHPC_API int32_t vmmhpc_stop(struct vmmhpc *vm, struct vmmhpc_error *err);

/** Wait until the machine has stopped or crashed. timeout_ms < 0: for ever. */
VMMHPC_API int32_t vmmhpc_wait(struct vmmhpc *vm, int64_t timeout_ms, struct vmmhpc_error *err);

VMMHPC_API uint32_t vmmhpc_get_state(const struct vmmhpc *vm);
VMMHPC_API int32_t vmmhpc_get_stop_info(const struct vmmhpc *vm, struct vmmhpc_stop_info *info);

/**
 * With EXTERNAL_VCPUS: run one vCPU in the calling thread until the machine stops or crashes.
 * Device handlers are called in this thread. Returns VMMHPC_OK when the machine has ended.
 */
VMMHPC_API int32_t vmmhpc_vcpu_run(struct vmmhpc *vm, uint32_t vcpu, struct vmmhpc_error *err);

/** Is this handle's machine in a monitor process (vmmhpc_monitor.h)? */
VMMHPC_API uint32_t vmmhpc_is_remote(const struct vmmhpc *vm);

/* ------------------------------------------------------------------ events */

enum vmmhpc_event_type {
    VMMHPC_EVENT_STATE = 1, /* arg: enum vmmhpc_state */
    VMMHPC_EVENT_RESET = 2, /* the guest was reset and boots again; arg: how many times so far */
    VMMHPC_EVENT_MODULE_FAILED = 3, /* a module failed and was unloaded; arg: its id */
};

/** A record on the event socket. */
struct vmmhpc_event {
    uint32_t type; /* enum vmmhpc_event_type */
    uint32_t reserved;
    uint64_t arg;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
};

/**
 * Open the machine's event stream: a UNIX stream socket that carries struct vmmhpc_event records
 * and ends (EOF) when the machine is destroyed. The caller owns *fd. At most 8 a machine (E_LIMIT);
 * one whose reader has gone is given back at the next event.
 */
VMMHPC_API int32_t vmmhpc_open_events(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err);

/* ------------------------------------------------------------------ console (16550 at 0x3f8) */

/**
 * Connect the UART to descriptors; the machine duplicates them. -1 means none: output is dropped
 * (and counted), there is no input. A slow reader holds the guest back; nothing is lost.
 */
VMMHPC_API int32_t vmmhpc_console_attach(struct vmmhpc *vm, int32_t in_fd, int32_t out_fd,
                                         struct vmmhpc_error *err);

/** Make a UNIX stream socket pair, attach the machine to one end, give the other to the caller. Of
 *  a machine in a monitor up to 8 are attached at once (E_LIMIT), each gets what was kept of the
 * past first, and all may type. */
VMMHPC_API int32_t vmmhpc_console_open(struct vmmhpc *vm, int32_t *fd, struct vmmhpc_error *err);

/** Nobody is attached any more; the guest goes on. */
VMMHPC_API int32_t vmmhpc_console_detach(struct vmmhpc *vm, struct vmmhpc_error *err);

/* ------------------------------------------------------------------ guest memory */

/** The one gate: host pointer for [gpa, gpa + bytes), which must lie in one RAM slot, or NULL. */
VMMHPC_API void *vmmhpc_memory_at(const struct vmmhpc *vm, uint64_t gpa, uint64_t bytes);

/** A contiguous piece of guest RAM as KVM sees it. */
struct vmmhpc_slot {
    uint64_t gpa;
    uint64_t bytes;
    uint64_t host; /* host virtual address */
    int32_t fd;    /* memfd or hugetlbfs descriptor, owned by the machine, or -1 */
    uint32_t reserved;
    uint64_t fd_offset;
};

/** Number of slots, or one of them. */
VMMHPC_API uint32_t vmmhpc_slot_count(const struct vmmhpc *vm);
VMMHPC_API int32_t vmmhpc_get_slot(const struct vmmhpc *vm, uint32_t index,
                                   struct vmmhpc_slot *slot);

/* ------------------------------------------------------------------ devices */

enum vmmhpc_space { VMMHPC_SPACE_PIO = 0, VMMHPC_SPACE_MMIO = 1 };

#define VMMHPC_ACCESS_READ 0u
#define VMMHPC_ACCESS_WRITE 1u

/**
 * One access by the guest, called in the thread of the vCPU while that vCPU is stopped.
 * offset: from the start of the device's range. bytes: 1, 2, 4 or 8. value: what is written, zero
 * extended; for a read the result is the return value (the low `bytes` bytes are used).
 */
typedef uint64_t (*vmmhpc_handler)(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                                   uint32_t direction, uint64_t value);

/** Claim [base, base + bytes) of a space; may be called while the guest runs. */
VMMHPC_API int32_t vmmhpc_device_add(struct vmmhpc *vm, uint32_t space, uint64_t base,
                                     uint64_t bytes, vmmhpc_handler handler, void *opaque,
                                     uint32_t *id, struct vmmhpc_error *err);

/**
 * As vmmhpc_device_add(), with a handler for each vCPU (handlers[0 ... cpus)), so that every vCPU
 * can be answered in its own thread by code that belongs to that thread.
 */
VMMHPC_API int32_t vmmhpc_device_add_each(struct vmmhpc *vm, uint32_t space, uint64_t base,
                                          uint64_t bytes, const vmmhpc_handler *handlers,
                                          uint32_t count, void *opaque, uint32_t *id,
                                          struct vmmhpc_error *err);

/** Give the range back. When it returns, the handler does not run and will not be called again.
 *  Must not be called from a device handler of the same machine. */
VMMHPC_API int32_t vmmhpc_device_remove(struct vmmhpc *vm, uint32_t id, struct vmmhpc_error *err);

/** Set the level of an IOAPIC pin (GSI 0 ... 23). */
VMMHPC_API int32_t vmmhpc_irq_set(struct vmmhpc *vm, uint32_t gsi, uint32_t level,
                                  struct vmmhpc_error *err);

/* ------------------------------------------------------------------ statistics */

#define VMMHPC_STATS_MAGIC 0x53544148504d4d56ull /* "VMMPHATS" */
#define VMMHPC_STATS_EXITS 48u /* exit reasons counted apart; the last takes all higher ones */
#define VMMHPC_STATS_BUCKETS                                                                       \
    32u /* bucket b counts times in [2^b, 2^(b+1)) ns; the last is open                            \
         */

/** Per exit reason (KVM_EXIT_*): handling time outside KVM_RUN. */
struct vmmhpc_exit_stats {
    uint64_t count;
    uint64_t total_ns;
    uint64_t histogram[VMMHPC_STATS_BUCKETS];
};

/** Per vCPU. Written by one thread only; each field is read and written whole. */
struct vmmhpc_vcpu_stats {
    uint64_t runs;       /* returns from KVM_RUN */
    uint64_t run_ns;     /* time inside KVM_RUN */
    uint64_t outside_ns; /* time outside KVM_RUN while the machine runs */
    uint64_t kicks;      /* returns forced by a kick */
    uint64_t unclaimed_pio;
    uint64_t unclaimed_mmio;
    uint64_t reserved[10];
    struct vmmhpc_exit_stats exits[VMMHPC_STATS_EXITS];
};

/** The statistics page: this header, then vcpus * struct vmmhpc_vcpu_stats at vcpu_offset. */
struct vmmhpc_stats_page {
    uint64_t magic;
    uint32_t version; /* 1 */
    uint32_t vcpus;
    uint32_t vcpu_offset;
    uint32_t vcpu_stride;
    uint32_t exits;        /* VMMHPC_STATS_EXITS */
    uint32_t buckets;      /* VMMHPC_STATS_BUCKETS */
    uint64_t start_ns;     /* CLOCK_MONOTONIC at vmmhpc_start(), or 0 */
    uint64_t first_run_ns; /* CLOCK_MONOTONIC at the first KVM_RUN, or 0 */
    uint64_t resets;
    uint64_t console_out;     /* bytes that the guest wrote to the UART */
    uint64_t console_dropped; /* of these, dropped because nothing was attached */
    uint64_t console_in;      /* bytes given to the guest */
    uint64_t reserved[4];
};

/** The page (shared memory, valid until destroy) and its length. */
VMMHPC_API const struct vmmhpc_stats_page *vmmhpc_stats(const struct vmmhpc *vm, uint64_t *bytes);

/** The memfd behind the page, owned by the machine: another process may map it read-only. */
VMMHPC_API int32_t vmmhpc_stats_fd(const struct vmmhpc *vm);

/** One of KVM's own counters (KVM_GET_STATS_FD). */
struct vmmhpc_kvm_stat {
    char name[48];
    uint64_t value;
};

/**
 * Read KVM's counters of one vCPU (vcpu >= 0) or of the VM (vcpu < 0) into out[0 ... capacity).
 * *count is how many there are, also when that is more than capacity. Counters go on over a reset.
 */
VMMHPC_API int32_t vmmhpc_kvm_stats(struct vmmhpc *vm, int32_t vcpu, struct vmmhpc_kvm_stat *out,
                                    uint32_t capacity, uint32_t *count, struct vmmhpc_error *err);

/** Guest-caused exits of all vCPUs: KVM's exits less irq_exits. */
VMMHPC_API int32_t vmmhpc_guest_exits(struct vmmhpc *vm, uint64_t *exits, struct vmmhpc_error *err);

/* ------------------------------------------------------------------ host facts */

/** What the host offers; for doctors and for choosing defaults. Filled even without /dev/kvm. */
struct vmmhpc_host {
    uint32_t size;       /* sizeof(struct vmmhpc_host) */
    int32_t kvm_status;  /* VMMHPC_OK, E_NO_KVM, E_PERMISSION, E_UNSUPPORTED */
    int32_t api_version; /* KVM_GET_API_VERSION */
    uint32_t max_vcpus;  /* KVM_CAP_MAX_VCPUS, 0 if unknown */
    uint32_t recommended_vcpus;
    uint32_t max_slots;
    uint32_t has_vmx, has_svm; /* CPUID flags */
    uint32_t tcg;              /* 1: this machine is itself emulated by QEMU's TCG */
    uint32_t xsave_broken;     /* 1: XSAVE is hidden from guests here */
    uint64_t tsc_khz;          /* of a new vCPU, 0 if unknown */
    char vendor[16];           /* CPUID vendor string */
    char hypervisor[16];       /* CPUID 0x40000000 signature, "" on bare metal */
};

VMMHPC_API int32_t vmmhpc_host_info(const char *kvm_path, struct vmmhpc_host *host,
                                    struct vmmhpc_error *err);

/* ------------------------------------------------------------------ raw KVM, for prototyping
 *
 * Thin wrappers for a caller that drives KVM by itself. They return a non-negative result or -errno
 * and know nothing of struct vmmhpc.
 */

VMMHPC_API int64_t vmmhpc_raw_open(const char *path);
VMMHPC_API int64_t vmmhpc_raw_close(int32_t fd);
VMMHPC_API int64_t vmmhpc_raw_ioctl(int32_t fd, uint64_t request, void *arg);
VMMHPC_API int64_t vmmhpc_raw_ioctl_value(int32_t fd, uint64_t request, uint64_t value);
VMMHPC_API int64_t vmmhpc_raw_run(int32_t vcpu_fd); /* KVM_RUN */
/** Zeroed memory aligned to 2 MiB; backing: enum vmmhpc_backing. From MEMFD on, the result is the
 *  descriptor behind it, owned by the caller. */
VMMHPC_API int64_t vmmhpc_raw_memory(uint64_t bytes, uint32_t backing, void **address);
VMMHPC_API int64_t vmmhpc_raw_map(int32_t fd, uint64_t bytes, uint64_t offset, void **address);
VMMHPC_API int64_t vmmhpc_raw_unmap(void *address, uint64_t bytes);
VMMHPC_API int64_t vmmhpc_raw_eventfd(uint32_t initial);
/** Non-blocking. */
VMMHPC_API int64_t vmmhpc_raw_eventfd_read(int32_t fd, uint64_t *value);
VMMHPC_API int64_t vmmhpc_raw_eventfd_write(int32_t fd, uint64_t value);
/** Make the vCPU thread that is, or will next be, in vmmhpc_raw_run() on this mapping come back
 * with -EINTR: sets kvm_run->immediate_exit (for the runner to clear) and, where tid is not 0,
 * sends that thread the kick signal. tid comes from vmmhpc_raw_prepare_kicks(). */
VMMHPC_API int64_t vmmhpc_raw_kick(void *kvm_run, int32_t tid);
/** Let kicks reach the calling thread while it is in vmmhpc_raw_run(vcpu_fd), and there only:
 * blocks the kick signal in this thread and unblocks it inside KVM_RUN. No handler runs, and the
 * signal stays blocked in this thread: a late kick is never acted upon. Returns the thread's id. */
VMMHPC_API int64_t vmmhpc_raw_prepare_kicks(int32_t vcpu_fd);
VMMHPC_API int64_t vmmhpc_raw_gettid(void);

#ifdef __cplusplus
}
#endif

#endif /* VMMHPC_H */
