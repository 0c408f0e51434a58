/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as open files, for whoever has these: the monitor, fuzz targets, tests. */
#ifndef VH_SNAPSHOT_FILES_H
#define VH_SNAPSHOT_FILES_H

#include "remote_ops.h"
#include "vmmhpc_snapshot.h"

/** As vmmhpc_snapshot_write(); with a base only what differs from it goes to memory_fd. */
int32_t vh_snap_write(struct vmmhpc *vm, int state_fd, int memory_fd,
                      const struct vh_snapshot_files *base, const void *note, uint64_t note_bytes,
                      struct vmmhpc_error *err);

/** Of vh_snap_load(), a flag beside VMMHPC_RESTORE_*: the files of memory are this machine's alone,
 *  and its pages are taken out of them, and not mapped. */
#define VH_RESTORE_TAKE 0x100u

/** As vmmhpc_snapshot_load(), or with a name vmmhpc_snapshot_clone(), of files that are not
 *  compressed. */
int32_t vh_snap_load(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                     const char *name, struct vmmhpc_error *err);

#endif
