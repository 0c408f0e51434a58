/* SPDX-License-Identifier: Apache-2.0 */
/* What a process brings along from whoever started it, and is better off without. */
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "monitor/jail_parts.h"

static void ended(int signal)
{
    _exit(128 + signal);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signal = 1; signal < _NSIG; signal++) {
        (void)sigaction(signal, &action, NULL); /* some are not for us to set */
    }
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
    action.sa_handler = ended;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int32_t vh_jail_tidy(struct vmmhpc_error *err)
{
    if (syscall(SYS_close_range, VH_JAIL_FD + 1, ~0u, 0) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0,
                       "jail: cannot close descriptors: close_range() needs Linux 5.9");
    }
    reset_signals();
    (void)umask(077);
    (void)clearenv();
    return VMMHPC_OK;
}
