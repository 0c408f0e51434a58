/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmmhpc: machines in processes of their own. A monitor is the program vmm-hpc: the same library
 * in a jail (docs/reference/jail.md), started by vmmhpc_spawn(), which outlives its starter and
 * cannot take other machines down. The handle is like that of a machine in this process, and so are
 * the calls: what a monitor needs is opened here and passed to it, what it cannot do from afar
 * (device handlers in C, debuggers, external vCPUs, yod) answers E_UNSUPPORTED.
 *
 *     vmmhpc_spawn() -> vmmhpc_add_*() -> vmmhpc_load() -> vmmhpc_start() -> vmmhpc_destroy()
 *
 * Until vmmhpc_start() the machine belongs to the handle and goes with it. Afterwards it is on its
 * own: vmmhpc_destroy() gives the handle back, vmmhpc_connect() makes another, also in other
 * processes.
 *
 * A monitor's directory, made by the caller, has these files:
 *     control   a UNIX socket of type SOCK_SEQPACKET (docs/reference/control-protocol.md)
 *     status    struct vmmhpc_status_page, also after the machine's end, however it came
 *     console   struct vmmhpc_console_history: what the guest wrote last
 */
#ifndef VMMHPC_MONITOR_H
#define VMMHPC_MONITOR_H

#include "vmmhpc.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the control protocol: another major one is refused, a newer minor one adds to it. */
#define VMMHPC_PROTOCOL_MAJOR 1u
#define VMMHPC_PROTOCOL_MINOR 4u

#define VMMHPC_MONITOR_MODULES 16u     /* that a monitor can be given */
#define VMMHPC_HISTORY_MAX (16u << 20) /* bytes of scroll-back that can be kept */

/** How a monitor is started. */
struct vmmhpc_monitor {
    uint32_t size;          /* sizeof(struct vmmhpc_monitor) */
    uint32_t jail_without;  /* parts of the jail to go without: enum vmmhpc_jail_part, or-ed */
    const char *program;    /* path of vmm-hpc */
    const char *directory;  /* exists and is empty, or holds what an ended monitor left */
    const char *name;       /* of the machine, for people: at most 63 bytes */
    uint32_t history_bytes; /* scroll-back of the console, at most VMMHPC_HISTORY_MAX; 0: 16 KiB */
    uint32_t disks; /* how many disks will be added, at most: their threads are made beforehand */
    /** Shared objects that vmmhpc_module_load() may be asked for, by these absolute paths: they are
     *  opened before the jail is. Needs vmm-hpc-modules as program; NULL, 0: none. */
    const char *const *modules;
    uint32_t module_count; /* at most VMMHPC_MONITOR_MODULES */
    uint32_t reserved;
    const char *console_log; /* a file to which all output of the console is appended; or NULL */
};

/** Parts of the jail, as bits; docs/reference/jail.md says what each does. */
enum vmmhpc_jail_part {
    VMMHPC_JAIL_USER_NS = 1,
    VMMHPC_JAIL_ROOT = 2, /* mount namespace with an empty root */
    VMMHPC_JAIL_PID_NS = 4,
    VMMHPC_JAIL_NET_NS = 8,
    VMMHPC_JAIL_IPC_NS = 16,
    VMMHPC_JAIL_UTS_NS = 32,
    VMMHPC_JAIL_CGROUP_NS = 64,
    VMMHPC_JAIL_CAPABILITIES = 128,
    VMMHPC_JAIL_NO_NEW_PRIVS = 256,
    VMMHPC_JAIL_RLIMITS = 512,
    VMMHPC_JAIL_SECCOMP = 1024,
};

#define VMMHPC_STATUS_MAGIC 0x535554415453334dull  /* "M3STATUS" */
#define VMMHPC_CONSOLE_MAGIC 0x4c4f534e4f43334dull /* "M3CONSOL" */

enum vmmhpc_monitor_phase {
    VMMHPC_PHASE_STARTING = 0, /* the machine is being made */
    VMMHPC_PHASE_ALIVE = 1,
    VMMHPC_PHASE_ENDED = 2,  /* the machine has ended in order: see stop */
    VMMHPC_PHASE_FAILED = 3, /* the monitor ended by a fault of its own: see words */
};

/** The file `status`: written by the monitor while it lives, readable by anyone at any time. */
struct vmmhpc_status_page {
    uint64_t magic;
    uint32_t version; /* 1 */
    uint32_t bytes;   /* sizeof(struct vmmhpc_status_page) */
    uint32_t phase;   /* enum vmmhpc_monitor_phase */
    uint32_t state;   /* enum vmmhpc_state */
    uint32_t pid;     /* of the monitor, as its starter sees it */
    uint32_t resets;
    uint64_t pid_start;   /* start time of that process: field 22 of /proc/PID/stat */
    uint64_t started_ns;  /* CLOCK_REALTIME at the start of the monitor */
    uint64_t ended_ns;    /* likewise at its end in order, or by a fault that it noticed; else 0 */
    int32_t signal;       /* FAILED: the signal that ended it */
    uint32_t system_call; /* FAILED by SIGSYS: which one was refused */
    char thread[16];      /* FAILED: in which thread */
    char name[64];
    char words[128];              /* FAILED: what happened, for people */
    struct vmmhpc_stop_info stop; /* ENDED */
};

/** The file `console`: this header, then a ring; its newest byte is at (total - 1) % capacity. */
struct vmmhpc_console_history {
    uint64_t magic;
    uint32_t version; /* 1 */
    uint32_t offset;  /* of the ring in the file */
    uint64_t capacity;
    uint64_t total; /* bytes that the guest has written so far */
};

/** What became of a monitor, in the words of its status page and of this host. */
struct vmmhpc_monitor_status {
    uint32_t size;  /* sizeof(struct vmmhpc_monitor_status) */
    uint32_t state; /* enum vmmhpc_state: CRASHED also where the monitor itself is gone */
    uint32_t alive; /* 1: there is a monitor */
    uint32_t pid;
    struct vmmhpc_status_page page;
    char text[256]; /* one sentence on how it ended; empty while it lives */
};

/**
 * Start a monitor and make a machine in it, as vmmhpc_create() does here. *out is a handle for all
 * calls; the caller destroys it. Nothing is left behind on failure but the files in the directory.
 * E_UNSUPPORTED: a part of the jail cannot be set up (the text names it), or there is no vmm-hpc.
 */
VMMHPC_API int32_t vmmhpc_spawn(const struct vmmhpc_config *config,
                                const struct vmmhpc_monitor *monitor, struct vmmhpc **out,
                                struct vmmhpc_error *err);

/** Another handle on a machine that was started. E_STATE: its monitor has ended (see
 * vmmhpc_monitor_status()); E_PERMISSION: it is somebody else's; E_UNSUPPORTED: another protocol.
 */
VMMHPC_API int32_t vmmhpc_connect(const char *directory, struct vmmhpc **out,
                                  struct vmmhpc_error *err);

/** What is, or was, in a directory; without talking to anybody. E_IO: there was no monitor. */
VMMHPC_API int32_t vmmhpc_monitor_status(const char *directory,
                                         struct vmmhpc_monitor_status *status,
                                         struct vmmhpc_error *err);

/** What a monitor says of itself. */
struct vmmhpc_monitor_info {
    uint32_t size; /* sizeof(struct vmmhpc_monitor_info) */
    uint32_t protocol_major, protocol_minor;
    uint32_t library_version; /* as vmmhpc_version() */
    uint32_t state;           /* enum vmmhpc_state */
    uint32_t pid;
    uint32_t cpus;
    uint32_t image_kind;
    uint32_t console_attached; /* 1: somebody is attached */
    uint32_t clients;
    uint64_t memory_bytes;
    uint64_t started_ns; /* CLOCK_REALTIME */
    char name[64];
};
VMMHPC_API int32_t vmmhpc_monitor_info(struct vmmhpc *vm, struct vmmhpc_monitor_info *info,
                                       struct vmmhpc_error *err);

/** Is the monitor there and answering? */
VMMHPC_API int32_t vmmhpc_ping(struct vmmhpc *vm, struct vmmhpc_error *err);

/** End the machine and its monitor at once, whatever they do. The handle stays to be destroyed. */
VMMHPC_API int32_t vmmhpc_quit(struct vmmhpc *vm, struct vmmhpc_error *err);

#ifdef __cplusplus
}
#endif

#endif /* VMMHPC_MONITOR_H */
