/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring from open files, whatever of them is compressed. */
#include "snapshot_packed.h"

int32_t vh_snap_load_plain(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                           const char *name, struct vmmhpc_error *err)
{
    struct vh_snap_plain plain;
    if (vm == NULL || (flags & ~VMMHPC_RESTORE_CLONE) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, flags, "no machine, or unknown flags 0x%x", flags);
    }
    int32_t status = vh_snap_plain(&plain, vm, files, err);
    if (status == VMMHPC_OK) {
        flags |= plain.fd >= 0 ? VH_RESTORE_TAKE : 0;
        status = vh_snap_load(vm, &plain.files, flags, name, err);
    }
    vh_snap_plain_close(&plain);
    return status;
}

int32_t vmmhpc_snapshot_load(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd, uint32_t flags,
                             struct vmmhpc_error *err)
{
    const struct vh_snapshot_files files = {
        .state_fd = state_fd, .layers = 1, .memory_fds = {memory_fd}};
    return vh_snap_load_plain(vm, &files, flags, NULL, err);
}

int32_t vmmhpc_snapshot_clone(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd,
                              const char *name, struct vmmhpc_error *err)
{
    const struct vh_snapshot_files files = {
        .state_fd = state_fd, .layers = 1, .memory_fds = {memory_fd}};
    return vh_snap_load_plain(vm, &files, VMMHPC_RESTORE_CLONE, name == NULL ? "" : name, err);
}
