/* SPDX-License-Identifier: Apache-2.0 */
/* poll() and ppoll(): the guest's descriptors become the host's, and wait in the service thread. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "yod_internal.h"

#define NS 1000000000ull

/* The guest's array with the host's descriptors in it; those of ours that are always ready get -1.
 */
static int64_t translate(struct yd_op *op, const struct pollfd *from, uint32_t count)
{
    op->set = calloc(count, sizeof(*op->set));
    op->set_files = calloc(count, sizeof(struct yd_file *));
    if (op->set == NULL || op->set_files == NULL) {
        return -ENOMEM;
    }
    op->set_count = count;
    for (uint32_t i = 0; i < count; i++) {
        op->set[i] = (struct pollfd){.fd = -1, .events = from[i].events};
        if (from[i].fd >= 0) {
            op->set_files[i] = yd_fd_get(op->yod, (uint64_t)from[i].fd);
            op->set[i].fd = op->set_files[i] == NULL ? -1 : op->set_files[i]->fd;
        }
    }
    return 0;
}

static short without_host(const struct yd_file *file, int guest_fd, short events)
{
    if (guest_fd < 0) {
        return 0;
    }
    if (file == NULL) {
        return POLLNVAL;
    }
    int seen = file->fd >= 0 ? 0 : events & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
    return (short)seen;
}

/* Write what is ready to the guest; how many. */
static int64_t answer(struct yd_op *op, struct pollfd *guest)
{
    int64_t ready = 0;
    for (uint32_t i = 0; i < op->set_count; i++) {
        short seen = op->set[i].revents;
        if (op->set[i].fd < 0) {
            seen = without_host(op->set_files[i], guest[i].fd, op->set[i].events);
        }
        guest[i].revents = seen;
        ready += seen != 0 ? 1 : 0;
    }
    return ready;
}

static int64_t look(struct yd_op *op, uint32_t count)
{
    struct pollfd *guest = NULL;
    uint64_t bytes = count * sizeof(*guest);
    if (count > 0) {
        const void *shared = yd_memory(op, 0, bytes);
        guest = shared == NULL ? NULL : malloc(bytes);
        if (guest == NULL) {
            return shared == NULL ? -EFAULT : -ENOMEM;
        }
        memcpy(guest, shared, bytes);
    }
    int64_t result = count > 0 && op->set == NULL ? translate(op, guest, count) : 0;
    if (result == 0 && poll(op->set, op->set_count, 0) < 0) {
        result = -errno;
    }
    if (result == 0) {
        result = count == 0 ? 0 : answer(op, guest);
        for (uint32_t i = 0; i < op->set_count; i++) {
            op->set[i].revents = 0;
        }
        char *shared = count == 0 ? NULL : yd_memory(op, 0, bytes);
        for (uint32_t i = 0; i < count && shared != NULL; i++) { /* aligned or not */
            memcpy(shared + i * sizeof(*guest) + offsetof(struct pollfd, revents),
                   &guest[i].revents, sizeof(guest[i].revents));
        }
    }
    free(guest);
    return result;
}

static int64_t do_poll(struct yd_op *op, uint64_t timeout_ns)
{
    uint32_t count = (uint32_t)op->args[1];
    if (op->args[1] > YD_FDS) {
        return -EINVAL;
    }
    if (!op->resumed && timeout_ns != YD_FOREVER) {
        op->deadline_ns = vh_now_ns() + timeout_ns;
    }
    int64_t ready = look(op, count);
    if (ready != 0 || timeout_ns == 0 || op->deadline_ns <= vh_now_ns()) {
        return ready;
    }
    op->retry_ns = count == 0 ? op->deadline_ns : 0;
    return YD_LATER;
}

int64_t yd_call_poll(struct yd_op *op)
{
    int32_t ms = (int32_t)op->args[2];
    return do_poll(op, ms < 0 ? YD_FOREVER : (uint64_t)ms * 1000000);
}

int64_t yd_call_ppoll(struct yd_op *op)
{
    struct timespec time;
    if (yd_is_null(op, 2)) {
        return do_poll(op, YD_FOREVER);
    }
    int result = yd_get(op, 2, &time, sizeof(time));
    if (result != 0) {
        return result;
    }
    if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= (long)NS) {
        return -EINVAL;
    }
    uint64_t most = 1ull << 32; /* seconds; as good as for ever, and the sum does not wrap */
    uint64_t seconds = (uint64_t)time.tv_sec < most ? (uint64_t)time.tv_sec : most;
    return do_poll(op, seconds * NS + (uint64_t)time.tv_nsec);
}
