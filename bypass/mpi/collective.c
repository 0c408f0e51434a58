// SPDX-License-Identifier: Apache-2.0
/* Collective operations that move data: simple algorithms, of messages in a context of their own.
 */
#include "internal.h"

#include <stdlib.h>

enum {
    TAG_BARRIER = 3,
    TAG_BCAST,
    TAG_GATHER,
    TAG_SCATTER,
    TAG_ALLGATHER,
    TAG_ALLTOALL,
};

static void *at(const void *base, MPI_Aint elements, MPI_Datatype type)
{
    return (uint8_t *)(uintptr_t)base + elements * type->extent;
}

/* A message from this rank to itself, between types that may differ. */
static int copy_own(const void *data, int count, MPI_Datatype type, void *buffer, int room,
                    MPI_Datatype room_type, MPI_Comm comm, int tag)
{
    return mpi_exchange(data, count, type, comm->rank, buffer, room, room_type, comm->rank, tag,
                        comm);
}

/* What of their arguments all of these functions check. */
static int check(int root, MPI_Comm comm)
{
    return mpi_check(NULL, 0, MPI_BYTE, root, 0, comm, 0);
}

/* In each round every rank hears of twice as many others. */
static int barrier(MPI_Comm comm)
{
    int code = check(0, comm);
    for (int step = 1; code == MPI_SUCCESS && step < comm->size; step *= 2) {
        code = mpi_exchange(NULL, 0, MPI_BYTE, (comm->rank + step) % comm->size, NULL, 0, MPI_BYTE,
                            (comm->rank - step + comm->size) % comm->size, TAG_BARRIER, comm);
    }
    return code;
}

int MPI_Barrier(MPI_Comm comm)
{
    return mpi_fail(comm, "MPI_Barrier", barrier(comm));
}

/* A binomial tree whose root is the rank 0 of numbers that begin at the root. */
static int bcast(void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm)
{
    int self = (comm->rank - root + comm->size) % comm->size;
    int step = 1;
    int code = MPI_SUCCESS;
    while (step < comm->size && (self & step) == 0) {
        step *= 2;
    }
    if (self != 0) {
        code = mpi_recv(buffer, count, type, (self - step + root) % comm->size, TAG_BCAST, comm,
                        COLLECTIVE, MPI_STATUS_IGNORE);
    }
    for (step /= 2; step > 0 && code == MPI_SUCCESS; step /= 2) {
        if (self + step < comm->size) {
            code = mpi_send(buffer, count, type, (self + step + root) % comm->size, TAG_BCAST, comm,
                            COLLECTIVE);
        }
    }
    return code;
}

int MPI_Bcast(void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm)
{
    int code = mpi_check(buffer, count, type, root, 0, comm, 0);
    return mpi_fail(comm, "MPI_Bcast",
                    code != MPI_SUCCESS ? code : bcast(buffer, count, type, root, comm));
}

/* How many elements a rank has, and where: as arrays say, or each the same. */
struct parts {
    const int *counts;
    const int *displacements;
    int each;
    MPI_Datatype type;
};

static int count_of(const struct parts *parts, int rank)
{
    return parts->counts == NULL ? parts->each : parts->counts[rank];
}

static void *place_of(const void *base, const struct parts *parts, int rank)
{
    return at(base,
              parts->displacements == NULL ? (MPI_Aint)rank * parts->each
                                           : parts->displacements[rank],
              parts->type);
}

static int gather(const void *data, int count, MPI_Datatype type, void *all,
                  const struct parts *parts, int root, MPI_Comm comm)
{
    int code = check(root, comm);
    if (code == MPI_SUCCESS && comm->rank != root) {
        return mpi_send(data, count, type, root, TAG_GATHER, comm, COLLECTIVE);
    }
    for (int rank = 0; code == MPI_SUCCESS && rank < comm->size; rank++) {
        void *place = place_of(all, parts, rank);
        if (rank != root) {
            code = mpi_recv(place, count_of(parts, rank), parts->type, rank, TAG_GATHER, comm,
                            COLLECTIVE, MPI_STATUS_IGNORE);
        } else if (data != MPI_IN_PLACE) {
            code = copy_own(data, count, type, place, count_of(parts, rank), parts->type, comm,
                            TAG_GATHER);
        }
    }
    return code;
}

int MPI_Gatherv(const void *data, int count, MPI_Datatype type, void *all, const int *counts,
                const int *displacements, MPI_Datatype each_type, int root, MPI_Comm comm)
{
    struct parts parts = {.counts = counts, .displacements = displacements, .type = each_type};
    return mpi_fail(comm, "MPI_Gatherv", gather(data, count, type, all, &parts, root, comm));
}

int MPI_Gather(const void *data, int count, MPI_Datatype type, void *all, int each,
               MPI_Datatype each_type, int root, MPI_Comm comm)
{
    struct parts parts = {.each = each, .type = each_type};
    return mpi_fail(comm, "MPI_Gather", gather(data, count, type, all, &parts, root, comm));
}

static int scatter(const void *all, const struct parts *parts, void *buffer, int count,
                   MPI_Datatype type, int root, MPI_Comm comm)
{
    int code = check(root, comm);
    if (code == MPI_SUCCESS && comm->rank != root) {
        return mpi_recv(buffer, count, type, root, TAG_SCATTER, comm, COLLECTIVE,
                        MPI_STATUS_IGNORE);
    }
    for (int rank = 0; code == MPI_SUCCESS && rank < comm->size; rank++) {
        void *place = place_of(all, parts, rank);
        if (rank != root) {
            code = mpi_send(place, count_of(parts, rank), parts->type, rank, TAG_SCATTER, comm,
                            COLLECTIVE);
        } else if (buffer != MPI_IN_PLACE) {
            code = copy_own(place, count_of(parts, rank), parts->type, buffer, count, type, comm,
                            TAG_SCATTER);
        }
    }
    return code;
}

int MPI_Scatterv(const void *all, const int *counts, const int *displacements,
                 MPI_Datatype each_type, void *buffer, int count, MPI_Datatype type, int root,
                 MPI_Comm comm)
{
    struct parts parts = {.counts = counts, .displacements = displacements, .type = each_type};
    return mpi_fail(comm, "MPI_Scatterv", scatter(all, &parts, buffer, count, type, root, comm));
}

int MPI_Scatter(const void *all, int each, MPI_Datatype each_type, void *buffer, int count,
                MPI_Datatype type, int root, MPI_Comm comm)
{
    struct parts parts = {.each = each, .type = each_type};
    return mpi_fail(comm, "MPI_Scatter", scatter(all, &parts, buffer, count, type, root, comm));
}

/* Round the ring: each rank hands on what it got last. */
static int allgather(const void *data, int count, MPI_Datatype type, void *all,
                     const struct parts *parts, MPI_Comm comm)
{
    int code = check(0, comm);
    if (code == MPI_SUCCESS && data != MPI_IN_PLACE) {
        code = copy_own(data, count, type, place_of(all, parts, comm->rank),
                        count_of(parts, comm->rank), parts->type, comm, TAG_ALLGATHER);
    }
    for (int i = 0; code == MPI_SUCCESS && i < comm->size - 1; i++) {
        int size = comm->size;
        int self = comm->rank;
        int out = (self - i + size) % size;
        int in = (self - i - 1 + size) % size;
        code = mpi_exchange(place_of(all, parts, out), count_of(parts, out), parts->type,
                            (self + 1) % size, place_of(all, parts, in), count_of(parts, in),
                            parts->type, (self - 1 + size) % size, TAG_ALLGATHER, comm);
    }
    return code;
}

int MPI_Allgatherv(const void *data, int count, MPI_Datatype type, void *all, const int *counts,
                   const int *displacements, MPI_Datatype each_type, MPI_Comm comm)
{
    struct parts parts = {.counts = counts, .displacements = displacements, .type = each_type};
    return mpi_fail(comm, "MPI_Allgatherv", allgather(data, count, type, all, &parts, comm));
}

int MPI_Allgather(const void *data, int count, MPI_Datatype type, void *all, int each,
                  MPI_Datatype each_type, MPI_Comm comm)
{
    struct parts parts = {.each = each, .type = each_type};
    return mpi_fail(comm, "MPI_Allgather", allgather(data, count, type, all, &parts, comm));
}

/* With each other rank in turn. */
static int alltoall(const void *data, const struct parts *out, void *all, const struct parts *in,
                    MPI_Comm comm)
{
    int code = data == MPI_IN_PLACE ? MPI_ERR_UNSUPPORTED_OPERATION : check(0, comm);
    for (int i = 0; code == MPI_SUCCESS && i < comm->size; i++) {
        int to = (comm->rank + i) % comm->size;
        int from = (comm->rank - i + comm->size) % comm->size;
        code = mpi_exchange(place_of(data, out, to), count_of(out, to), out->type, to,
                            place_of(all, in, from), count_of(in, from), in->type, from,
                            TAG_ALLTOALL, comm);
    }
    return code;
}

int MPI_Alltoall(const void *data, int count, MPI_Datatype type, void *all, int each,
                 MPI_Datatype each_type, MPI_Comm comm)
{
    struct parts out = {.each = count, .type = type};
    struct parts in = {.each = each, .type = each_type};
    return mpi_fail(comm, "MPI_Alltoall", alltoall(data, &out, all, &in, comm));
}

int MPI_Alltoallv(const void *data, const int *counts, const int *displacements, MPI_Datatype type,
                  void *all, const int *each, const int *each_displacements, MPI_Datatype each_type,
                  MPI_Comm comm)
{
    struct parts out = {.counts = counts, .displacements = displacements, .type = type};
    struct parts in = {.counts = each, .displacements = each_displacements, .type = each_type};
    return mpi_fail(comm, "MPI_Alltoallv", alltoall(data, &out, all, &in, comm));
}
