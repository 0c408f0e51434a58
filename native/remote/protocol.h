/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of the control protocol, docs/reference/control-protocol.md. A number never gets
 * another meaning within a major version. Payloads are written and read in one place each:
 * remote/client*.c, and native/monitor/requests.c and setup.c.
 */
#ifndef VH_PROTOCOL_H
#define VH_PROTOCOL_H

#include "vmmhpc_monitor.h"

enum vh_request {
    /* For everyone whose uid is the machine's owner's, or 0. */
    VH_REQUEST_PING = 1,
    VH_REQUEST_INFO = 2,
    VH_REQUEST_PAUSE = 3,
    VH_REQUEST_RESUME = 4,
    VH_REQUEST_RESET = 5,
    VH_REQUEST_STOP = 6,
    VH_REQUEST_QUIT = 7,
    VH_REQUEST_CONSOLE_OPEN = 8,
    VH_REQUEST_CONSOLE_DETACH = 9, /* all who are attached */
    VH_REQUEST_EVENTS = 10,
    VH_REQUEST_STATS = 11,
    VH_REQUEST_KVM_STATS = 12,
    VH_REQUEST_IRQ_SET = 13,
    VH_REQUEST_BALLOON_SET = 14,
    VH_REQUEST_BALLOON_GET = 15,
    VH_REQUEST_GENERATION_SET = 16,
    VH_REQUEST_STATUS_PAGE = 17,
    VH_REQUEST_MODULE_ADD = 18,
    VH_REQUEST_MODULE_REMOVE = 19,
    VH_REQUEST_MODULE_LIST = 20,
    VH_REQUEST_SNAPSHOT = 21, /* since 1.1 */
    /* Before the start, for the starter only, and in this order. */
    VH_REQUEST_HELLO = 64,  /* sent by the monitor, once it is in its jail */
    VH_REQUEST_ADOPT = 65,  /* socket, status page, history, name, owner */
    VH_REQUEST_CREATE = 66, /* struct vmmhpc_config */
    VH_REQUEST_ADD_BLK = 67,
    VH_REQUEST_ADD_NET = 68,
    VH_REQUEST_ADD_RNG = 69,
    VH_REQUEST_ADD_HVC = 70,
    VH_REQUEST_ADD_BALLOON = 71,
    VH_REQUEST_ADD_VSOCK = 72,
    VH_REQUEST_ADD_PMEM = 73,
    VH_REQUEST_ADD_GENERATION = 74,
    VH_REQUEST_LOAD = 75,
    VH_REQUEST_START = 76,
    VH_REQUEST_RESTORE = 77,  /* since 1.1: before LOAD */
    VH_REQUEST_ADD_SHM = 80,  /* since 1.2: a place in a channel */
    VH_REQUEST_ADD_VFIO = 81, /* since 1.3: container, group, device */
    VH_REQUEST_PLACE = 82,    /* since 1.4: right after CREATE; struct vmmhpc_placement */
    VH_REQUEST_SETUP_LAST = VH_REQUEST_PLACE,
    /* In a debug build of the monitor only (native/monitor/breakout.h). */
    VH_REQUEST_TEST = 128,
};

#endif
