// SPDX-License-Identifier: Apache-2.0
/* Communicators: which peers, in which order, and a context that keeps their messages apart. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

int mpi_peer(MPI_Comm comm, int rank)
{
    return comm->peers == NULL ? rank : comm->peers[rank];
}

int mpi_rank_of(MPI_Comm comm, int peer)
{
    if (comm->peers == NULL) {
        return peer;
    }
    for (int rank = 0; rank < comm->size; rank++) {
        if (comm->peers[rank] == peer) {
            return rank;
        }
    }
    return MPI_UNDEFINED;
}

int MPI_Comm_rank(MPI_Comm comm, int *rank)
{
    if (comm == NULL) {
        return mpi_fail(comm, "MPI_Comm_rank", MPI_ERR_COMM);
    }
    *rank = comm->rank;
    return MPI_SUCCESS;
}

int MPI_Comm_size(MPI_Comm comm, int *size)
{
    if (comm == NULL) {
        return mpi_fail(comm, "MPI_Comm_size", MPI_ERR_COMM);
    }
    *size = comm->size;
    return MPI_SUCCESS;
}

/* Where a rank wants to be in the new communicator. */
struct place {
    int color;
    int key;
    int rank; /* in the old one */
    int context;
};

static int by_key(const void *a, const void *b)
{
    const struct place *left = a;
    const struct place *right = b;
    return left->key != right->key ? (left->key > right->key) - (left->key < right->key)
                                   : left->rank - right->rank;
}

/* The ranks of one color, in order. A context that nobody among the old ranks has used. */
static int build(MPI_Comm comm, struct place *places, int color, MPI_Comm *out)
{
    struct v3m_mpi_comm *made = calloc(1, sizeof(*made));
    int *peers = calloc((size_t)comm->size, sizeof(int));
    uint32_t context = 0;
    if (made == NULL || peers == NULL) {
        free(made);
        free(peers);
        return MPI_ERR_NO_MEM;
    }
    for (int i = 0; i < comm->size; i++) {
        context = (uint32_t)places[i].context > context ? (uint32_t)places[i].context : context;
    }
    v3m_mpi.next_context = context + 2;
    *made = (struct v3m_mpi_comm){
        .context = context, .peers = peers, .returns_errors = comm->returns_errors, .made = 1};
    int mine = places[comm->rank].rank;
    qsort(places, (size_t)comm->size, sizeof(*places), by_key);
    for (int i = 0; i < comm->size; i++) {
        if (places[i].color == color) {
            made->rank = places[i].rank == mine ? made->size : made->rank;
            peers[made->size++] = mpi_peer(comm, places[i].rank);
        }
    }
    if (color == MPI_UNDEFINED) {
        free(peers);
        free(made);
        made = MPI_COMM_NULL;
    }
    *out = made;
    return MPI_SUCCESS;
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *out)
{
    if (comm == NULL) {
        return mpi_fail(comm, "MPI_Comm_split", MPI_ERR_COMM);
    }
    struct place *places = calloc((size_t)comm->size, sizeof(*places));
    if (places == NULL) {
        return mpi_fail(comm, "MPI_Comm_split", MPI_ERR_NO_MEM);
    }
    struct place mine = {
        .color = color, .key = key, .rank = comm->rank, .context = (int)v3m_mpi.next_context};
    int code = MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, places, sizeof(mine), MPI_BYTE, comm);
    if (code == MPI_SUCCESS) {
        code = build(comm, places, color, out);
    }
    free(places);
    return mpi_fail(comm, "MPI_Comm_split", code);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *out)
{
    return comm == NULL ? mpi_fail(comm, "MPI_Comm_dup", MPI_ERR_COMM)
                        : MPI_Comm_split(comm, 0, comm->rank, out);
}

int MPI_Comm_free(MPI_Comm *comm)
{
    if (*comm == NULL || !(*comm)->made) {
        return mpi_fail(NULL, "MPI_Comm_free", MPI_ERR_COMM);
    }
    free((*comm)->peers);
    free(*comm);
    *comm = MPI_COMM_NULL;
    return MPI_SUCCESS;
}

int MPI_Comm_compare(MPI_Comm a, MPI_Comm b, int *result)
{
    if (a == NULL || b == NULL) {
        return mpi_fail(NULL, "MPI_Comm_compare", MPI_ERR_COMM);
    }
    int found = 0;
    int same = a->size == b->size;
    for (int rank = 0; rank < a->size && same; rank++) {
        int there = mpi_rank_of(b, mpi_peer(a, rank));
        found += there != MPI_UNDEFINED;
        same = there == rank;
    }
    if (a == b) {
        *result = MPI_IDENT;
    } else if (same) {
        *result = MPI_CONGRUENT;
    } else {
        found = 0;
        for (int rank = 0; rank < a->size; rank++) {
            found += mpi_rank_of(b, mpi_peer(a, rank)) != MPI_UNDEFINED;
        }
        *result = found == a->size && found == b->size ? MPI_SIMILAR : MPI_UNEQUAL;
    }
    return MPI_SUCCESS;
}
