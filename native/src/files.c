/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MODE (O_ACCMODE | O_DIRECT)

int vh_open(const struct vh_files *files, const char *path, int flags)
{
    if (files == NULL) {
        return open(path, flags | O_CLOEXEC);
    }
    for (uint32_t i = 0; i < files->count; i++) {
        const struct vh_file *file = &files->list[i];
        if ((file->flags & MODE) == (flags & MODE) && strcmp(file->path, path) == 0) {
            if (file->fd >= 0) {
                return fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
            }
            errno = file->error;
            return -1;
        }
    }
    errno = ENOENT;
    return -1;
}
