/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor: one machine, its control socket, its status page. */
#ifndef VH_MONITOR_H
#define VH_MONITOR_H

#include <sys/types.h>

#include "machine.h"
#include "monitor/threads.h"
#include "protocol.h"
#include "remote_ops.h"
#include "wire.h"

#define VH_CLIENTS 16u

/* A shared object that was named at the start, opened before the jail was entered. */
struct vh_monitor_module {
    const char *path;
    const struct vmmhpc_module *descriptor;
};

struct vh_monitor {
    struct vmmhpc *vm; /* NULL until it is created */
    struct vmmhpc_status_page *page;
    int status_fd;           /* the file of the page; -1 until the starter has sent it */
    int history_fd;          /* likewise */
    int log_fd;              /* of the console; -1: none */
    int listener;            /* likewise */
    int clients[VH_CLIENTS]; /* -1: free; the first is the starter's until the start */
    int wake_fd;             /* written at events of the machine */
    int signal_fd;           /* SIGTERM and SIGINT: end in order */
    uid_t owner;
    struct vh_history *history;
    uint32_t disks;             /* that will be added, at most */
    bool confine;               /* with seccomp */
    struct vh_threads *threads; /* of the machine; made before it */
    struct vh_monitor_module modules[VMMHPC_MONITOR_MODULES];
    uint32_t module_count;
    bool started;
    bool quit;   /* end now, whatever the machine does */
    uint8_t *in; /* payloads of the message at hand, VH_WIRE_PAYLOAD bytes each */
    uint8_t *out;
};

/* server.c */
/** Read one message and answer it. False: the client has gone, or talks nonsense. */
bool vh_monitor_message(struct vh_monitor *monitor, int fd, bool starter);
/** Serve the starter's socket, then all clients, until the machine has ended. */
void vh_monitor_serve(struct vh_monitor *monitor);

/* requests.c: the answer's payload and descriptors go to `out`; the descriptors are closed when it
 * was sent. */
int32_t vh_monitor_request(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                           struct vmmhpc_error *err);

/* The descriptors that a message has left, as those of a snapshot; to be closed. */
void vh_monitor_get_files(struct vh_wire *in, struct vh_snapshot_files *files);
void vh_monitor_close_files(struct vh_snapshot_files *files);

/* setup.c: requests from HELLO on. */
int32_t vh_monitor_setup(struct vh_monitor *monitor, struct vh_wire *in, struct vh_wire *out,
                         struct vmmhpc_error *err);

/* place.c */
int32_t vh_monitor_place(struct vh_monitor *monitor, struct vh_wire *in, struct vmmhpc_error *err);

/* footprint.c */
/** The machine was started: give back what only that needed. */
void vh_footprint_trim(const struct vh_monitor *monitor);

/* history.c */
struct vh_history;
/** Keep the guest's last output in `fd`, a file with struct vmmhpc_console_history, and append it
 * to log_fd (-1: nowhere). Before the start; both descriptors stay the caller's. */
int32_t vh_history_keep(struct vmmhpc *vm, int fd, int log_fd, struct vh_history **history,
                        struct vmmhpc_error *err);
/** After the machine was destroyed. NULL is allowed. */
void vh_history_free(struct vh_history *history);

/* modules.c */
/** Open what vmmhpc_module_load() may be asked for: outside of the jail, with the starter's rights.
 *  E_UNSUPPORTED: this is the static monitor. */
int32_t vh_monitor_open_modules(struct vh_monitor *monitor, char *const *paths, uint32_t count,
                                struct vmmhpc_error *err);
int32_t vh_monitor_module_request(struct vh_monitor *monitor, struct vh_wire *in,
                                  struct vh_wire *out, struct vmmhpc_error *err);

#ifdef VH_DEBUG_MONITOR
/* break_out.c: VH_REQUEST_TEST, the number of an attempt; how it went, its name, what stopped it.
 */
int32_t vh_monitor_break_out(struct vh_wire *in, struct vh_wire *out, struct vmmhpc_error *err);
#endif

/* words.c: what is left in the status page when the process ends. */
/** From now on a fatal signal leaves its reason in the page. One monitor a process: handlers have
 * nothing but a global to look at. */
void vh_words_watch(struct vh_monitor *monitor);
/** For struct vh_threads_config: gives the calling thread its name in those words. */
void vh_words_thread(void *opaque, enum vh_thread_kind kind);
/** The machine has ended in order. */
void vh_words_ended(struct vmmhpc_status_page *page);

#endif
