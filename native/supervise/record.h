/* SPDX-License-Identifier: Apache-2.0 */
/* What others read about the supervised program, in files of the present directory. */
#ifndef SUPERVISE_RECORD_H
#define SUPERVISE_RECORD_H

#include <sys/types.h>

/**
 * `process`: the supervisor and the program, each by its number, the time of its start and the
 * host's boot, as src/v3m/store/process-id.ts wants them. @return 0 or an errno
 */
int record_start(pid_t supervisor, pid_t program);

/** `exit`: how the program ended. @param status as of waitpid(). @return 0 or an errno */
int record_exit(int status);

#endif
