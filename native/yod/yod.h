/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The launcher's half of function shipping: serves the system calls that an application on the
 * lightweight kernel ships (include/vmmhpc_yod.h), beneath the directories it was given and nowhere
 * else.
 *
 * A library of its own on top of libvmmhpc's public interface. Nothing here prints, exits or
 * aborts; any number of them may be in one process.
 */
#ifndef VMMHPC_YOD_SERVER_H
#define VMMHPC_YOD_SERVER_H

#include "vmmhpc.h"
#include "vmmhpc_yod.h"

struct vmmhpc_yod;

/** A directory that the application may see, under the same name as on the host. */
struct vmmhpc_yod_root {
    const char *path; /* absolute */
    uint32_t writable;
    uint32_t reserved;
};

struct vmmhpc_yod_config {
    uint32_t size;
    uint32_t root_count;
    const struct vmmhpc_yod_root *roots;
    const char *cwd;     /* absolute; beneath a root, or relative paths fail with ENOENT */
    const char *exe;     /* absolute path of the executable, for /proc/self/exe; readable always */
    const char *cmdline; /* for /proc/self/cmdline: NUL-separated */
    uint64_t cmdline_bytes;
    int32_t fds[3]; /* standard input, output, error: duplicated */
    uint32_t cpus;  /* what /proc and /sys describe */
    uint64_t memory_bytes;
    const char *hostname; /* for /proc/sys/kernel/hostname; NULL: "lwk" */
    uint32_t pid;         /* for /proc/self/status; 0: 1 */
    uint32_t reserved;
};

/** Attach to a machine that was created and not started. Everything is copied. Destroy before the
 * machine. */
VMMHPC_API int32_t vmmhpc_yod_create(struct vmmhpc *vm, const struct vmmhpc_yod_config *config,
                                     struct vmmhpc_yod **out, struct vmmhpc_error *err);
VMMHPC_API void vmmhpc_yod_destroy(struct vmmhpc_yod *yod);

/** Send a signal (1 … 64) to the application. VMMHPC_E_STATE before the guest gave its queue. */
VMMHPC_API int32_t vmmhpc_yod_signal(struct vmmhpc_yod *yod, uint32_t signal,
                                     struct vmmhpc_error *err);

/** The report that the guest left, copied and made safe (texts end in NUL, counts within their
 * arrays). VMMHPC_E_STATE if it left none. */
VMMHPC_API int32_t vmmhpc_yod_get_report(struct vmmhpc_yod *yod, struct yod_report *report,
                                         struct vmmhpc_error *err);

struct vmmhpc_yod_stats {
    uint32_t size;
    uint32_t reserved;
    uint64_t entry_ns; /* CLOCK_MONOTONIC at YOD_TRACE_ENTRY and YOD_TRACE_APP; 0: not reached */
    uint64_t app_ns;
    uint64_t app_exits; /* guest-caused exits until YOD_TRACE_APP */
    uint64_t served;    /* shipped calls that ended */
    uint64_t waited;    /* of these: not done on return from the doorbell */
    uint64_t bytes_read;
    uint64_t bytes_written;
};

VMMHPC_API int32_t vmmhpc_yod_get_stats(const struct vmmhpc_yod *yod,
                                        struct vmmhpc_yod_stats *stats);

/** Where the guest has its queue (GPA), or UINT64_MAX where it did not say so yet: to be kept with
 * a snapshot of the machine. */
VMMHPC_API uint64_t vmmhpc_yod_queue(const struct vmmhpc_yod *yod);

/**
 * Serve a machine that was restored from a snapshot: the guest does not say again where its queue
 * is. After the restore, before the start. Calls that were under way are made again; of the
 * application's files only standard streams are open.
 * @return VMMHPC_E_RANGE: there is no queue at gpa; VMMHPC_E_STATE: the guest gave one
 */
VMMHPC_API int32_t vmmhpc_yod_adopt(struct vmmhpc_yod *yod, uint64_t gpa, struct vmmhpc_error *err);

#endif
