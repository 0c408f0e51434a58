// SPDX-License-Identifier: Apache-2.0
/*
 * Reductions. Operands are always combined in the order of ranks, to rank 0, whatever the root: so
 * the result depends on the number of ranks alone, and operations need not commute.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { TAG_REDUCE = 1, TAG_SCAN = 2 };

/* inout = in op inout. */
static int combine(MPI_Op op, void *in, void *inout, int count, MPI_Datatype type)
{
    if (op->function != NULL) {
        MPI_Datatype copy = type;
        op->function(in, inout, &count, &copy);
        return MPI_SUCCESS;
    }
    return op->combine(type->kind, in, inout, (size_t)count);
}

/* Memory for `count` elements, and where the first of them is: a type may begin below 0. */
static void *space_for(int count, MPI_Datatype type, void **memory)
{
    MPI_Aint bytes = count * type->extent + (MPI_Aint)type->size;
    *memory = calloc(1, (size_t)(bytes > 0 ? bytes : 1));
    return *memory == NULL ? NULL : (uint8_t *)*memory - type->lower;
}

static void copy_elements(void *out, const void *in, int count, MPI_Datatype type)
{
    if (out != in && count != 0) {
        memcpy((uint8_t *)out + type->lower, (const uint8_t *)in + type->lower,
               (size_t)count * (size_t)type->extent);
    }
}

/* Rank by rank in a binomial tree: `mine` holds this rank's operand, and takes the result at rank
 * 0. */
static int to_zero(void *mine, void *other, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    for (int step = 1; step < comm->size; step *= 2) {
        if ((comm->rank & step) != 0) {
            return mpi_send(mine, count, type, comm->rank - step, TAG_REDUCE, comm, COLLECTIVE);
        }
        if (comm->rank + step < comm->size) {
            int code = mpi_recv(other, count, type, comm->rank + step, TAG_REDUCE, comm, COLLECTIVE,
                                MPI_STATUS_IGNORE);
            /* other = mine op other, which comes after it. */
            code = code == MPI_SUCCESS ? combine(op, mine, other, count, type) : code;
            if (code != MPI_SUCCESS) {
                return code;
            }
            copy_elements(mine, other, count, type);
        }
    }
    return MPI_SUCCESS;
}

static int reduce(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op, int root,
                  MPI_Comm comm)
{
    void *memory[2] = {NULL, NULL};
    void *mine = space_for(count, type, &memory[0]);
    void *other = space_for(count, type, &memory[1]);
    int code = mine == NULL || other == NULL ? MPI_ERR_NO_MEM : MPI_SUCCESS;
    if (code == MPI_SUCCESS) {
        copy_elements(mine, data == MPI_IN_PLACE ? result : data, count, type);
        code = to_zero(mine, other, count, type, op, comm);
    }
    if (code == MPI_SUCCESS && comm->rank == 0) {
        if (root == 0) {
            copy_elements(result, mine, count, type);
        } else {
            code = mpi_send(mine, count, type, root, TAG_REDUCE, comm, COLLECTIVE);
        }
    } else if (code == MPI_SUCCESS && comm->rank == root) {
        code = mpi_recv(result, count, type, 0, TAG_REDUCE, comm, COLLECTIVE, MPI_STATUS_IGNORE);
    }
    free(memory[0]);
    free(memory[1]);
    return code;
}

static int check(const void *data, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm)
{
    int code = mpi_check(data, count, type, root, 0, comm, 0);
    return code != MPI_SUCCESS ? code : op == NULL ? MPI_ERR_OP : MPI_SUCCESS;
}

int MPI_Reduce(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op, int root,
               MPI_Comm comm)
{
    int code = check(data, count, type, op, root, comm);
    return mpi_fail(comm, "MPI_Reduce",
                    code != MPI_SUCCESS ? code : reduce(data, result, count, type, op, root, comm));
}

int MPI_Allreduce(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm)
{
    int code = check(data, count, type, op, 0, comm);
    if (code == MPI_SUCCESS) {
        code = reduce(data, result, count, type, op, 0, comm);
    }
    return code == MPI_SUCCESS ? MPI_Bcast(result, count, type, 0, comm)
                               : mpi_fail(comm, "MPI_Allreduce", code);
}

static int scan(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op,
                MPI_Comm comm)
{
    void *memory = NULL;
    void *before = space_for(count, type, &memory);
    int code = before == NULL ? MPI_ERR_NO_MEM : MPI_SUCCESS;
    if (code == MPI_SUCCESS && data != MPI_IN_PLACE) {
        copy_elements(result, data, count, type);
    }
    if (code == MPI_SUCCESS && comm->rank > 0) {
        code = mpi_recv(before, count, type, comm->rank - 1, TAG_SCAN, comm, COLLECTIVE,
                        MPI_STATUS_IGNORE);
        code = code == MPI_SUCCESS ? combine(op, before, result, count, type) : code;
    }
    if (code == MPI_SUCCESS && comm->rank + 1 < comm->size) {
        code = mpi_send(result, count, type, comm->rank + 1, TAG_SCAN, comm, COLLECTIVE);
    }
    free(memory);
    return code;
}

int MPI_Scan(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    int code = check(data, count, type, op, 0, comm);
    return mpi_fail(comm, "MPI_Scan",
                    code != MPI_SUCCESS ? code : scan(data, result, count, type, op, comm));
}
