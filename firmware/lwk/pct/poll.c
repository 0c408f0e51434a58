/* SPDX-License-Identifier: Apache-2.0 */
/* poll(2), ppoll(2), select(2), pselect6(2): all are shipped as poll. The QK sees to signal masks.
 */
#include <asm/poll.h>
#include <linux/time.h>
#include <linux/time_types.h>

#include "shm.h"

#define SET_BITS 1024u
#define SET_WORDS (SET_BITS / 64)
#define POLL_MOST 1024u /* RLIMIT_NOFILE, and what yod takes */

/* As <sys/select.h> and select_tut(2) say: what makes a descriptor a member of each set. */
static const uint32_t wanted[3] = {POLLIN, POLLOUT, POLLPRI};
static const uint32_t members[3] = {POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI};

/* Milliseconds, rounded up, of a timespec (fraction of 10^9) or timeval (10^6); -1: for ever. */
static int64_t milliseconds(uint64_t va, int64_t fraction, int64_t *out)
{
    int64_t time[2];

    *out = -1;
    if (va == 0) {
        return 0;
    }
    if (!user_read(time, va, sizeof(time))) {
        return -EFAULT;
    }
    if (time[0] < 0 || time[1] < 0 || (fraction == 1000000000 && time[1] >= fraction)) {
        return -EINVAL;
    }
    int64_t unit = fraction / 1000;
    int64_t below = time[1] / unit + (time[1] % unit != 0 ? 1 : 0);
    *out =
        time[0] >= INT32_MAX / 1000 || below > INT32_MAX / 2 ? INT32_MAX : time[0] * 1000 + below;
    *out = *out > INT32_MAX ? INT32_MAX : *out;
    return 0;
}

static uint64_t set_bytes(const struct job *job)
{
    return (job->selection.count + 63ull) / 64 * 8;
}

static int64_t select_done(struct job *job, int64_t result)
{
    const struct pollfd *fds = (const struct pollfd *)(const void *)job_bounce(job);
    uint64_t sets[3][SET_WORDS] = {{0}};
    uint32_t entry = 0;
    int64_t count = 0;

    if (result < 0) {
        return result;
    }
    for (; entry < job_slot(job)->args[1]; entry++) {
        uint32_t fd = (uint32_t)fds[entry].fd;
        if ((fds[entry].revents & POLLNVAL) != 0) {
            return -EBADF;
        }
        for (uint32_t i = 0; i < 3; i++) {
            if ((fds[entry].events & (short)wanted[i]) != 0 &&
                (fds[entry].revents & (short)members[i]) != 0) {
                sets[i][fd / 64] |= 1ull << fd % 64;
                count++;
            }
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t va = job->selection.sets[i];
        if (va != 0 && !user_write(va, sets[i], set_bytes(job))) {
            return -EFAULT;
        }
    }
    return count;
}

static int64_t prepare_select(struct job *job, const uint64_t args[6], int64_t timeout)
{
    struct pollfd *fds = (struct pollfd *)(void *)job_bounce(job);
    uint64_t sets[3][SET_WORDS] = {{0}};
    uint32_t entries = 0;

    if ((uint32_t)args[0] > SET_BITS) {
        return -EINVAL;
    }
    job->selection = (struct selection){{args[1], args[2], args[3]}, (uint32_t)args[0]};
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t va = job->selection.sets[i];
        if (va != 0 && !user_read(sets[i], va, set_bytes(job))) {
            return -EFAULT;
        }
    }
    for (uint32_t fd = 0; fd < job->selection.count; fd++) {
        uint32_t events = 0;
        for (uint32_t i = 0; i < 3; i++) {
            events |= (sets[i][fd / 64] >> fd % 64 & 1) != 0 ? wanted[i] : 0;
        }
        if (events != 0 && shm_has(fd)) {
            return -EINVAL; /* poll() it, alone */
        }
        if (events != 0) {
            fds[entries++] = (struct pollfd){.fd = (int)fd, .events = (short)events};
        }
    }
    uint64_t bytes = entries * sizeof(fds[0]);
    job_memory(job, 0, bytes == 0 ? YOD_NO_ADDRESS : job_bounce_pa(job), bytes);
    job_value(job, 1, entries);
    job_value(job, 2, (uint64_t)timeout);
    job->step = select_done;
    return PENDING;
}

int64_t poll_prepare(struct job *job, const struct pct_event *event)
{
    const uint64_t *args = event->args;
    int64_t timeout = (int32_t)args[2];
    int64_t failed = 0;

    job_call(job, __NR_poll);
    if (event->call == __NR_select || event->call == __NR_pselect6) {
        failed = milliseconds(args[4], event->call == __NR_select ? 1000000 : 1000000000, &timeout);
        return failed != 0 ? failed : prepare_select(job, args, timeout);
    }
    if (event->call == __NR_ppoll) {
        failed = milliseconds(args[2], 1000000000, &timeout);
    }
    if (failed == 0 && (uint32_t)args[1] > POLL_MOST) {
        failed = -EINVAL;
    }
    if (failed == 0) {
        uint64_t bytes = (uint32_t)args[1] * sizeof(struct pollfd);
        failed = job_buffer(job, 0, args[0], bytes, TO_YOD | FROM_YOD);
    }
    job_value(job, 1, (uint32_t)args[1]);
    job_value(job, 2, (uint64_t)timeout);
    return failed != 0 ? failed : PENDING;
}
