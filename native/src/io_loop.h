/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the machine's I/O thread watches for its devices. */
#ifndef VH_IO_LOOP_H
#define VH_IO_LOOP_H

#include <sys/epoll.h>

#include "internal.h"

/** Lives as long as the device that it belongs to. */
struct vh_io_source {
    int fd;
    void (*ready)(void *opaque, uint32_t events); /* EPOLL*; in the I/O thread, no lock held */
    void *opaque;
};

/** Watch source->fd (level-triggered) for `events`, which may be 0 for later. Before the machine is
 *  started; watched until vh_io_remove() or the machine's end. While the machine is paused nothing
 * is called. */
int32_t vh_io_add(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events,
                  struct vmmhpc_error *err);

/** Change what is waited for; any thread. A call that is under way is not waited for, so ready()
 *  looks whether it still applies. */
void vh_io_watch(struct vmmhpc *vm, struct vh_io_source *source, uint32_t events);

/** The I/O thread has ended, or was never started. */
void vh_io_remove(struct vmmhpc *vm, struct vh_io_source *source);

/* ---- for the I/O thread */

/** What to poll for devices, or -1 where there are none or the machine does not run. */
int vh_io_poll_fd(const struct vmmhpc *vm);
/** Serve what is ready. */
void vh_io_dispatch(struct vmmhpc *vm);
/** The state is no longer RUNNING: wait until no device is being served. */
void vh_io_quiesce(struct vmmhpc *vm);

#endif
