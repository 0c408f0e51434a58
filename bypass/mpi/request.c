// SPDX-License-Identifier: Apache-2.0
/*
 * Waiting for requests, and testing them. A program that does nothing but test in a loop sleeps a
 * little now and then, until a doorbell rings: others may need this CPU to answer.
 */
#include "internal.h"

static void no_request(MPI_Status *status)
{
    if (status != MPI_STATUS_IGNORE) {
        *status = (MPI_Status){.MPI_SOURCE = MPI_ANY_SOURCE, .MPI_TAG = MPI_ANY_TAG};
    }
}

/* End a request that is complete, and return its error as a function of this name. */
static int finish(MPI_Request *request, MPI_Status *status, const char *name)
{
    MPI_Comm comm = (*request)->comm;
    return mpi_fail(comm, name, mpi_finish(request, status));
}

int MPI_Wait(MPI_Request *request, MPI_Status *status)
{
    if (*request == MPI_REQUEST_NULL) {
        no_request(status);
        return MPI_SUCCESS;
    }
    bypass_wait(v3m_mpi.bypass, &(*request)->core, BYPASS_FOREVER);
    return finish(request, status, "MPI_Wait");
}

int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status)
{
    *flag = 1;
    if (*request == MPI_REQUEST_NULL) {
        no_request(status);
        return MPI_SUCCESS;
    }
    if ((*request)->core.result == BYPASS_PENDING) {
        bypass_rest(v3m_mpi.bypass, TEST_SLEEP);
    }
    if ((*request)->core.result == BYPASS_PENDING) {
        *flag = 0;
        return MPI_SUCCESS;
    }
    return finish(request, status, "MPI_Test");
}

int MPI_Waitall(int count, MPI_Request *requests, MPI_Status *statuses)
{
    int code = MPI_SUCCESS;
    for (int i = 0; i < count; i++) {
        MPI_Status *status = statuses == MPI_STATUSES_IGNORE ? MPI_STATUS_IGNORE : &statuses[i];
        if (MPI_Wait(&requests[i], status) != MPI_SUCCESS) {
            code = MPI_ERR_IN_STATUS;
        }
    }
    return code;
}

int MPI_Testall(int count, MPI_Request *requests, int *flag, MPI_Status *statuses)
{
    *flag = 1;
    bypass_rest(v3m_mpi.bypass, TEST_SLEEP);
    for (int i = 0; i < count; i++) {
        if (requests[i] != MPI_REQUEST_NULL && requests[i]->core.result == BYPASS_PENDING) {
            *flag = 0;
            return MPI_SUCCESS;
        }
    }
    return MPI_Waitall(count, requests, statuses);
}

/* The first that is complete; MPI_UNDEFINED: none is; *active: whether one may be. */
static int complete_one(int count, MPI_Request *requests, int *active)
{
    *active = 0;
    for (int i = 0; i < count; i++) {
        if (requests[i] != MPI_REQUEST_NULL) {
            *active = 1;
            if (requests[i]->core.result != BYPASS_PENDING) {
                return i;
            }
        }
    }
    return MPI_UNDEFINED;
}

int MPI_Waitany(int count, MPI_Request *requests, int *index, MPI_Status *status)
{
    int active = 0;
    while ((*index = complete_one(count, requests, &active)) == MPI_UNDEFINED) {
        if (!active) {
            no_request(status);
            return MPI_SUCCESS;
        }
        bypass_rest(v3m_mpi.bypass, BYPASS_FOREVER);
    }
    return finish(&requests[*index], status, "MPI_Waitany");
}

int MPI_Testany(int count, MPI_Request *requests, int *index, int *flag, MPI_Status *status)
{
    int active = 0;
    bypass_rest(v3m_mpi.bypass, TEST_SLEEP);
    *index = complete_one(count, requests, &active);
    *flag = *index != MPI_UNDEFINED || !active;
    if (*index == MPI_UNDEFINED) {
        if (!active) {
            no_request(status);
        }
        return MPI_SUCCESS;
    }
    return finish(&requests[*index], status, "MPI_Testany");
}

/* Only receives that have not begun can be cancelled; the standard allows no more to be. */
int MPI_Cancel(MPI_Request *request)
{
    if (*request == MPI_REQUEST_NULL) {
        return mpi_fail(MPI_COMM_WORLD, "MPI_Cancel", MPI_ERR_REQUEST);
    }
    if (bypass_cancel(v3m_mpi.bypass, &(*request)->core) == BYPASS_OK) {
        (*request)->cancelled = 1;
    }
    return MPI_SUCCESS;
}

int MPI_Test_cancelled(const MPI_Status *status, int *flag)
{
    *flag = status->v3m_cancelled;
    return MPI_SUCCESS;
}

/* A request that goes on without anybody waiting for it: waited for here. */
int MPI_Request_free(MPI_Request *request)
{
    return *request == MPI_REQUEST_NULL
               ? mpi_fail(MPI_COMM_WORLD, "MPI_Request_free", MPI_ERR_REQUEST)
               : MPI_Wait(request, MPI_STATUS_IGNORE);
}
