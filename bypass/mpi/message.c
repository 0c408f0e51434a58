// SPDX-License-Identifier: Apache-2.0
/*
 * Messages from rank to rank. Types without gaps go as they lie; others by a copy that is packed.
 * A tag of libbypass's holds the context in its upper half and MPI's tag in its lower.
 */
#include "internal.h"

#include <stdlib.h>

/* One side of an exchange. */
struct side {
    void *buffer;
    int count;
    MPI_Datatype type;
    int other;
    int tag;
};

static uint64_t tag_of(MPI_Comm comm, uint32_t context, int tag)
{
    return (uint64_t)(comm->context + context) << 32 | (uint32_t)tag;
}

int mpi_check(const void *buffer, int count, MPI_Datatype type, int rank, int tag, MPI_Comm comm,
              int any)
{
    return !v3m_mpi.initialized || v3m_mpi.finalized ? MPI_ERR_OTHER
           : comm == NULL                            ? MPI_ERR_COMM
           : count < 0                               ? MPI_ERR_COUNT
           : type == NULL                            ? MPI_ERR_TYPE
           : rank >= comm->size || rank < MPI_PROC_NULL || (rank == MPI_ANY_SOURCE && !any)
               ? MPI_ERR_RANK
           : tag < 0 && !(any && tag == MPI_ANY_TAG)                             ? MPI_ERR_TAG
           : buffer == NULL && count != 0 && type->size != 0 && type->users == 0 ? MPI_ERR_BUFFER
                                                                                 : MPI_SUCCESS;
}

static void set_status(MPI_Status *status, int source, int tag, uint64_t bytes)
{
    if (status != MPI_STATUS_IGNORE) {
        status->MPI_SOURCE = source;
        status->MPI_TAG = tag;
        status->v3m_bytes = bytes;
        status->v3m_cancelled = 0;
    }
}

static void describe(MPI_Status *status, MPI_Comm comm, const struct bypass_status *what)
{
    set_status(status, mpi_rank_of(comm, what->peer), (int)(uint32_t)what->tag, what->length);
}

/* Give the request to libbypass. */
static int32_t begin(struct v3m_mpi_request *request, void *buffer, int other, int tag,
                     uint32_t context, uint32_t flags)
{
    MPI_Comm comm = request->comm;
    uint64_t bytes = (uint64_t)request->count * request->type->size;
    if (other == MPI_PROC_NULL) {
        request->core.result = BYPASS_OK;
        request->core.status.peer = MPI_PROC_NULL;
        return BYPASS_OK;
    }
    if (request->purpose == SENDING) {
        return bypass_isend(v3m_mpi.bypass, (uint32_t)mpi_peer(comm, other),
                            tag_of(comm, context, tag), buffer, bytes, flags, &request->core);
    }
    return bypass_irecv(v3m_mpi.bypass,
                        other == MPI_ANY_SOURCE ? BYPASS_ANY_PEER : mpi_peer(comm, other),
                        tag_of(comm, context, tag == MPI_ANY_TAG ? 0 : tag),
                        tag == MPI_ANY_TAG ? UINT32_MAX : 0, buffer, bytes, &request->core);
}

int mpi_start(enum purpose purpose, void *buffer, int count, MPI_Datatype type, int other, int tag,
              MPI_Comm comm, uint32_t context, uint32_t flags, MPI_Request *out)
{
    struct v3m_mpi_request *request = calloc(1, sizeof(*request));
    uint64_t bytes = (uint64_t)count * type->size;
    *out = MPI_REQUEST_NULL;
    if (request == NULL) {
        return MPI_ERR_NO_MEM;
    }
    request->purpose = purpose;
    request->comm = comm;
    request->user = buffer;
    request->count = count;
    request->type = type;
    if (!mpi_contiguous(type) && bytes != 0) {
        request->packed = malloc(bytes);
        if (request->packed == NULL) {
            free(request);
            return MPI_ERR_NO_MEM;
        }
        if (purpose == SENDING) {
            mpi_pack(request->packed, buffer, count, type);
        }
    }
    mpi_type_keep(type);
    int32_t code = begin(request, request->packed != NULL ? request->packed : buffer, other, tag,
                         context, flags);
    if (code < 0) {
        /* What is wrong is told when it is waited for. */
        request->core.result = code;
    }
    *out = request;
    return MPI_SUCCESS;
}

/* A request that is complete: what came is the user's, and the request is gone. */
int mpi_finish(MPI_Request *handle, MPI_Status *status)
{
    struct v3m_mpi_request *request = *handle;
    const struct bypass_status *what = bypass_status(&request->core);
    uint64_t room = (uint64_t)request->count * request->type->size;
    int code = request->cancelled ? MPI_SUCCESS : mpi_code(request->core.result);
    if (request->purpose == RECEIVING) {
        if (request->cancelled || what->peer == MPI_PROC_NULL) {
            set_status(status, MPI_PROC_NULL, MPI_ANY_TAG, 0);
        } else {
            describe(status, request->comm, what);
        }
        if (request->packed != NULL && !request->cancelled) {
            mpi_unpack(request->user, request->packed, what->length < room ? what->length : room,
                       request->type);
        }
    } else {
        set_status(status, MPI_PROC_NULL, MPI_ANY_TAG, 0);
    }
    if (status != MPI_STATUS_IGNORE) {
        status->v3m_cancelled = request->cancelled;
        status->MPI_ERROR = code;
    }
    mpi_type_drop(request->type);
    free(request->packed);
    free(request);
    *handle = MPI_REQUEST_NULL;
    return code;
}

int mpi_send(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
             uint32_t context)
{
    if (to == MPI_PROC_NULL) {
        return MPI_SUCCESS;
    }
    if (mpi_contiguous(type)) {
        return mpi_code(bypass_send(v3m_mpi.bypass, (uint32_t)mpi_peer(comm, to),
                                    tag_of(comm, context, tag), data,
                                    (uint64_t)count * type->size));
    }
    MPI_Request request = MPI_REQUEST_NULL;
    int code = mpi_start(SENDING, (void *)(uintptr_t)data, count, type, to, tag, comm, context, 0,
                         &request);
    if (code != MPI_SUCCESS) {
        return code;
    }
    bypass_wait(v3m_mpi.bypass, &request->core, BYPASS_FOREVER);
    return mpi_finish(&request, MPI_STATUS_IGNORE);
}

int mpi_recv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
             uint32_t context, MPI_Status *status)
{
    if (mpi_contiguous(type) && from != MPI_PROC_NULL) {
        struct bypass_status what = {0};
        int any = tag == MPI_ANY_TAG;
        int32_t code = bypass_recv(v3m_mpi.bypass,
                                   from == MPI_ANY_SOURCE ? BYPASS_ANY_PEER : mpi_peer(comm, from),
                                   tag_of(comm, context, any ? 0 : tag), any ? UINT32_MAX : 0,
                                   buffer, (uint64_t)count * type->size, &what);
        describe(status, comm, &what);
        return mpi_code(code);
    }
    MPI_Request request = MPI_REQUEST_NULL;
    int code = mpi_start(RECEIVING, buffer, count, type, from, tag, comm, context, 0, &request);
    if (code != MPI_SUCCESS) {
        return code;
    }
    bypass_wait(v3m_mpi.bypass, &request->core, BYPASS_FOREVER);
    return mpi_finish(&request, status);
}

/* Send and receive at once. */
static int exchange(const struct side *out, const struct side *in, MPI_Comm comm, uint32_t context,
                    MPI_Status *status)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = mpi_start(RECEIVING, in->buffer, in->count, in->type, in->other, in->tag, comm,
                         context, 0, &request);
    if (code != MPI_SUCCESS) {
        return code;
    }
    int sent = mpi_send(out->buffer, out->count, out->type, out->other, out->tag, comm, context);
    if (sent != MPI_SUCCESS && bypass_cancel(v3m_mpi.bypass, &request->core) == BYPASS_OK) {
        request->cancelled = 1;
    }
    bypass_wait(v3m_mpi.bypass, &request->core, BYPASS_FOREVER);
    code = mpi_finish(&request, status);
    return sent != MPI_SUCCESS ? sent : code;
}

int mpi_exchange(const void *data, int count, MPI_Datatype type, int to, void *buffer, int room,
                 MPI_Datatype room_type, int from, int tag, MPI_Comm comm)
{
    struct side out = {(void *)(uintptr_t)data, count, type, to, tag};
    struct side in = {buffer, room, room_type, from, tag};
    return exchange(&out, &in, comm, COLLECTIVE, MPI_STATUS_IGNORE);
}

int MPI_Send(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm)
{
    int code = mpi_check(data, count, type, to, tag, comm, 0);
    return mpi_fail(comm, "MPI_Send",
                    code != MPI_SUCCESS ? code : mpi_send(data, count, type, to, tag, comm, 0));
}

int MPI_Rsend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm)
{
    return MPI_Send(data, count, type, to, tag, comm);
}

int MPI_Recv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
             MPI_Status *status)
{
    int code = mpi_check(buffer, count, type, from, tag, comm, 1);
    return mpi_fail(
        comm, "MPI_Recv",
        code != MPI_SUCCESS ? code : mpi_recv(buffer, count, type, from, tag, comm, 0, status));
}

static int start(enum purpose purpose, void *buffer, int count, MPI_Datatype type, int other,
                 int tag, MPI_Comm comm, uint32_t flags, MPI_Request *request, const char *name)
{
    int code = mpi_check(buffer, count, type, other, tag, comm, purpose == RECEIVING);
    if (code == MPI_SUCCESS) {
        code = mpi_start(purpose, buffer, count, type, other, tag, comm, 0, flags, request);
    }
    return mpi_fail(comm, name, code);
}

int MPI_Isend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    return start(SENDING, (void *)(uintptr_t)data, count, type, to, tag, comm, 0, request,
                 "MPI_Isend");
}

int MPI_Issend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
               MPI_Request *request)
{
    return start(SENDING, (void *)(uintptr_t)data, count, type, to, tag, comm, BYPASS_SYNCHRONOUS,
                 request, "MPI_Issend");
}

int MPI_Ssend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int code = mpi_check(data, count, type, to, tag, comm, 0);
    if (code == MPI_SUCCESS) {
        code = mpi_start(SENDING, (void *)(uintptr_t)data, count, type, to, tag, comm, 0,
                         BYPASS_SYNCHRONOUS, &request);
    }
    if (code == MPI_SUCCESS) {
        bypass_wait(v3m_mpi.bypass, &request->core, BYPASS_FOREVER);
        code = mpi_finish(&request, MPI_STATUS_IGNORE);
    }
    return mpi_fail(comm, "MPI_Ssend", code);
}

int MPI_Irecv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    return start(RECEIVING, buffer, count, type, from, tag, comm, 0, request, "MPI_Irecv");
}

int MPI_Sendrecv(const void *data, int count, MPI_Datatype type, int to, int tag, void *buffer,
                 int room, MPI_Datatype room_type, int from, int from_tag, MPI_Comm comm,
                 MPI_Status *status)
{
    struct side out = {(void *)(uintptr_t)data, count, type, to, tag};
    struct side in = {buffer, room, room_type, from, from_tag};
    int code = mpi_check(data, count, type, to, tag, comm, 0);
    code = code != MPI_SUCCESS ? code : mpi_check(buffer, room, room_type, from, from_tag, comm, 1);
    return mpi_fail(comm, "MPI_Sendrecv",
                    code != MPI_SUCCESS ? code : exchange(&out, &in, comm, 0, status));
}

static int probe(int from, int tag, MPI_Comm comm, uint64_t timeout, int *flag, MPI_Status *status)
{
    struct bypass_status what = {0};
    int any = tag == MPI_ANY_TAG;
    int code = mpi_check(NULL, 0, MPI_BYTE, from, tag, comm, 1);
    *flag = 0;
    if (code != MPI_SUCCESS) {
        return code;
    }
    if (from == MPI_PROC_NULL) {
        *flag = 1;
        set_status(status, MPI_PROC_NULL, MPI_ANY_TAG, 0);
        return MPI_SUCCESS;
    }
    int32_t found = bypass_probe(
        v3m_mpi.bypass, from == MPI_ANY_SOURCE ? BYPASS_ANY_PEER : mpi_peer(comm, from),
        tag_of(comm, 0, any ? 0 : tag), any ? UINT32_MAX : 0, timeout, &what);
    if (found == BYPASS_OK) {
        *flag = 1;
        describe(status, comm, &what);
    }
    return found == BYPASS_PENDING ? MPI_SUCCESS : mpi_code(found);
}

int MPI_Probe(int from, int tag, MPI_Comm comm, MPI_Status *status)
{
    int flag = 0;
    return mpi_fail(comm, "MPI_Probe", probe(from, tag, comm, BYPASS_FOREVER, &flag, status));
}

int MPI_Iprobe(int from, int tag, MPI_Comm comm, int *flag, MPI_Status *status)
{
    int code = probe(from, tag, comm, 0, flag, status);
    if (code == MPI_SUCCESS && !*flag) {
        bypass_rest(v3m_mpi.bypass, TEST_SLEEP);
    }
    return mpi_fail(comm, "MPI_Iprobe", code);
}

int MPI_Get_count(const MPI_Status *status, MPI_Datatype type, int *count)
{
    uint64_t bytes = status->v3m_bytes;
    *count = type->size == 0           ? 0
             : bytes % type->size != 0 ? MPI_UNDEFINED
                                       : (int)(bytes / type->size);
    return MPI_SUCCESS;
}
