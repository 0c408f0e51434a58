/* SPDX-License-Identifier: Apache-2.0 */
/* Where a machine's files come from: this process opens them, or whoever asks passes them. */
#ifndef VH_FILES_H
#define VH_FILES_H

#include "internal.h"

/** A file that was opened by somebody else, who may reach it where this process may not. */
struct vh_file {
    const char *path;
    int flags; /* as it was opened */
    int fd;    /* -1: could not be opened, because of ... */
    int error; /* ... this errno */
};

/** All files that this process may use; it opens none by itself then. */
struct vh_files {
    const struct vh_file *list;
    uint32_t count;
};

/** open(2), without creating. With `files` (NULL: open it here): a duplicate of the descriptor that
 *  was passed for this path and access mode; the open file, and its lock, are shared. -1 and errno
 *  where there is none: as its opener met it, or ENOENT. O_CLOEXEC is implied. */
int vh_open(const struct vh_files *files, const char *path, int flags);

#endif
