/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to a monitor: one request and its answer at a time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "remote.h"
#include "status.h"

/* A monitor answers within milliseconds; only making and loading a large machine takes longer. */
#define PATIENCE_S 120
#define STALE_MAX 64

int32_t vh_remote_new(int fd, struct vmmhpc **out, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = calloc(1, sizeof(*vm));
    struct vh_client *remote = calloc(1, sizeof(*remote));
    if (vm == NULL || remote == NULL || pthread_mutex_init(&remote->lock, NULL) != 0) {
        free(vm);
        free(remote);
        (void)close(fd);
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*vm), "no memory for a machine");
    }
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    remote->fd = fd;
    remote->page_fd = -1;
    remote->stats_fd = -1;
    remote->events_fd = -1;
    remote->remote.ops = &vh_client_ops;
    vm->remote = &remote->remote;
    *out = vm;
    return VMMHPC_OK;
}

void vh_remote_destroy(struct vmmhpc *vm)
{
    struct vh_client *remote = vh_client_of(vm);
    if (remote->starter) {
        (void)vh_remote_simple(vm, VH_REQUEST_QUIT, NULL); /* nobody else can know of it */
    }
    (void)close(remote->fd);
    if (remote->page_fd >= 0) {
        (void)close(remote->page_fd);
    }
    if (remote->stats != NULL) {
        (void)munmap(remote->stats, remote->stats_bytes);
    }
    if (remote->stats_fd >= 0) {
        (void)close(remote->stats_fd);
    }
    if (remote->events_fd >= 0) {
        (void)close(remote->events_fd);
    }
    (void)pthread_mutex_destroy(&remote->lock);
    free(remote);
    free(vm);
}

bool vh_remote_page(const struct vmmhpc *vm, struct vmmhpc_status_page *page)
{
    int fd = vh_client_of(vm)->page_fd;
    if (fd < 0 || pread(fd, page, sizeof(*page), 0) != (ssize_t)sizeof(*page)) {
        memset(page, 0, sizeof(*page));
        return false;
    }
    return true;
}

static int32_t gone(const struct vmmhpc *vm, int failed, struct vmmhpc_error *err)
{
    char text[160] = "";
    struct vmmhpc_status_page page;
    if (vh_remote_page(vm, &page)) {
        vh_status_text(&page, false, text, sizeof(text));
    }
    if (failed == EAGAIN || failed == EWOULDBLOCK) {
        return vh_fail(err, VMMHPC_E_TIMEOUT, failed, 0, "the monitor does not answer");
    }
    return vh_fail(err, VMMHPC_E_STATE, failed, 0, "the monitor is gone%s%s",
                   text[0] == '\0' ? "" : ": ", text);
}

/* Answers to requests that were given up come late and are passed over; a monitor that its guest
 * has taken over may send them for ever. */
static int receive(struct vh_client *remote, uint32_t type, struct vh_wire *in)
{
    for (uint32_t stale = 0; stale < STALE_MAX; stale++) {
        int failed = vh_wire_receive(remote->fd, in, true);
        if (failed != 0 || (in->head.sequence == remote->sequence && in->head.type == type)) {
            return failed;
        }
        vh_wire_close_fds(in);
    }
    return EBADMSG;
}

static int32_t check_answer(struct vh_wire *in, struct vmmhpc_error *err)
{
    if (in->head.major != VMMHPC_PROTOCOL_MAJOR) {
        vh_wire_close_fds(in);
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, in->head.major,
                       "the monitor speaks version %u.%u of the control protocol, this is %u.%u: "
                       "use the version that started it",
                       in->head.major, in->head.minor, VMMHPC_PROTOCOL_MAJOR,
                       VMMHPC_PROTOCOL_MINOR);
    }
    if (in->head.status == VMMHPC_OK) {
        return VMMHPC_OK;
    }
    const char *text = vh_get_text(in);
    int32_t status = in->head.status < 0 ? in->head.status : VMMHPC_E_SYSCALL;
    vh_wire_close_fds(in);
    return vh_fail(err, status, in->head.sys_errno, in->head.value, "%s",
                   text == NULL ? "the monitor refused" : text);
}

int32_t vh_remote_call(struct vmmhpc *vm, uint32_t type, const struct vh_wire *out,
                       struct vh_wire *in, struct vmmhpc_error *err)
{
    struct vh_client *remote = vh_client_of(vm);
    struct vh_wire request;
    struct vh_wire none;
    uint8_t text[512];
    if (out == NULL) {
        vh_wire_init(&request, NULL, 0);
    } else {
        request = *out;
    }
    if (in == NULL) {
        vh_wire_init(&none, text, sizeof(text));
        in = &none;
    }
    (void)pthread_mutex_lock(&remote->lock);
    request.head = (struct vh_message){
        .magic = VH_WIRE_MAGIC,
        .major = VMMHPC_PROTOCOL_MAJOR,
        .minor = VMMHPC_PROTOCOL_MINOR,
        .type = type,
        .sequence = ++remote->sequence,
    };
    int failed = vh_wire_send(remote->fd, &request, true);
    if (failed == 0) {
        failed = receive(remote, type, in);
    }
    (void)pthread_mutex_unlock(&remote->lock);
    if (failed == EMSGSIZE) {
        return vh_fail(err, VMMHPC_E_LIMIT, failed, request.bytes,
                       "too much for one message to a monitor");
    }
    if (failed != 0) {
        return gone(vm, failed, err);
    }
    int32_t status = check_answer(in, err);
    if (in == &none) {
        vh_wire_close_fds(in);
    }
    return status;
}

int32_t vh_remote_simple(struct vmmhpc *vm, uint32_t type, struct vmmhpc_error *err)
{
    return vh_remote_call(vm, type, NULL, NULL, err);
}

int32_t vh_remote_nonsense(struct vh_wire *in, struct vmmhpc_error *err)
{
    vh_wire_close_fds(in);
    return vh_fail(err, VMMHPC_E_IO, EBADMSG, in->head.type, "the monitor's answer makes no sense");
}

int32_t vh_remote_fd(struct vmmhpc *vm, uint32_t type, const struct vh_wire *out, int32_t *fd,
                     uint64_t *number, struct vmmhpc_error *err)
{
    struct vh_wire in;
    uint8_t data[512];
    vh_wire_init(&in, data, sizeof(data));
    int32_t status = vh_remote_call(vm, type, out, &in, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    int got = vh_get_fd(&in);
    uint64_t value = number == NULL ? 0 : vh_get_u64(&in);
    if (!vh_wire_done(&in)) {
        if (got >= 0) {
            (void)close(got);
        }
        return vh_remote_nonsense(&in, err);
    }
    if (number != NULL) {
        *number = value;
    }
    *fd = got;
    return VMMHPC_OK;
}
