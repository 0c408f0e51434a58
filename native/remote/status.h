/* SPDX-License-Identifier: Apache-2.0 */
/* The status page of a monitor: reading it, and saying in words what became of the monitor. */
#ifndef VH_STATUS_H
#define VH_STATUS_H

#include "vmmhpc_monitor.h"

#include "internal.h"

/** How it ended, in one sentence; nothing while `alive`. */
void vh_status_text(const struct vmmhpc_status_page *page, bool alive, char *text, size_t bytes);
/** Start time of a process (field 22 of /proc/PID/stat), or 0 where there is no such process, or
 * one that has ended and is only waited for. */
uint64_t vh_process_start(uint32_t pid);

#endif
