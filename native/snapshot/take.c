/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's state in memory, for its clones. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot.h"

int32_t vh_snap_memory_file(const char *name, int *fd, struct vmmhpc_error *err)
{
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return *fd >= 0 ? VMMHPC_OK
                    : vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "no file in memory: %s",
                              vh_errno_text(errno));
}

/* A clone maps it: whoever could write to it would write to all of them. */
static int32_t seal(int fd, struct vmmhpc_error *err)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    return fcntl(fd, F_ADD_SEALS, seals) == 0
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "a file in memory cannot be sealed: %s",
                         vh_errno_text(errno));
}

int32_t vmmhpc_snapshot_take(struct vmmhpc *vm, int32_t *state_fd, int32_t *memory_fd,
                             struct vmmhpc_error *err)
{
    int fds[2] = {-1, -1};
    if (vm == NULL || state_fd == NULL || memory_fd == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no machine, or nowhere to put descriptors");
    }
    int32_t status = vh_snap_memory_file("v3m-state", &fds[0], err);
    if (status == VMMHPC_OK) {
        status = vh_snap_memory_file("v3m-memory", &fds[1], err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_snapshot_write(vm, fds[0], fds[1], NULL, 0, err);
    }
    for (int i = 0; status == VMMHPC_OK && i < 2; i++) {
        status = seal(fds[i], err);
    }
    if (status == VMMHPC_OK) {
        *state_fd = fds[0];
        *memory_fd = fds[1];
        return VMMHPC_OK;
    }
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    return status;
}
