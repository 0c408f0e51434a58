// SPDX-License-Identifier: Apache-2.0
/* Errors end the program unless its communicator returns them, as MPI has it. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(int code)
{
    static const char *const TEXTS[] = {
        [MPI_SUCCESS] = "no error",
        [MPI_ERR_BUFFER] = "invalid buffer",
        [MPI_ERR_COUNT] = "invalid count",
        [MPI_ERR_TYPE] = "invalid datatype",
        [MPI_ERR_TAG] = "invalid tag",
        [MPI_ERR_COMM] = "invalid communicator",
        [MPI_ERR_RANK] = "invalid rank",
        [MPI_ERR_ROOT] = "invalid root",
        [MPI_ERR_OP] = "invalid operation for this datatype",
        [MPI_ERR_ARG] = "invalid argument",
        [MPI_ERR_TRUNCATE] = "message truncated",
        [MPI_ERR_REQUEST] = "invalid request",
        [MPI_ERR_PROC_FAILED] = "a rank is gone",
        [MPI_ERR_NO_MEM] = "out of memory",
        [MPI_ERR_UNSUPPORTED_OPERATION] = "unsupported operation",
        [MPI_ERR_IN_STATUS] = "error code in status",
        [MPI_ERR_OTHER] = "unknown error",
    };
    return code >= 0 && code <= MPI_ERR_LASTCODE ? TEXTS[code] : "no such code";
}

int mpi_code(int32_t bypass_code)
{
    switch (bypass_code) {
    case BYPASS_OK:
        return MPI_SUCCESS;
    case BYPASS_E_PEER_GONE:
    case BYPASS_E_PROTOCOL:
    case BYPASS_E_UNCONNECTED:
        return MPI_ERR_PROC_FAILED;
    case BYPASS_E_TRUNCATED:
        return MPI_ERR_TRUNCATE;
    case BYPASS_E_MEMORY:
        return MPI_ERR_NO_MEM;
    case BYPASS_E_INVALID:
        return MPI_ERR_ARG;
    default:
        return MPI_ERR_OTHER;
    }
}

int mpi_fail(MPI_Comm comm, const char *function, int code)
{
    if (code != MPI_SUCCESS && (comm == NULL || !comm->returns_errors)) {
        fprintf(stderr, "rank %d: %s: %s\n", v3m_mpi_world.rank, function, text_of(code));
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return code;
}

int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler)
{
    if (comm == NULL) {
        return mpi_fail(comm, "MPI_Comm_set_errhandler", MPI_ERR_COMM);
    }
    comm->returns_errors = handler == MPI_ERRORS_RETURN;
    return MPI_SUCCESS;
}

int MPI_Errhandler_set(MPI_Comm comm, MPI_Errhandler handler)
{
    return MPI_Comm_set_errhandler(comm, handler);
}

int MPI_Error_string(int code, char *text, int *length)
{
    *length = snprintf(text, MPI_MAX_ERROR_STRING, "%s", text_of(code));
    return MPI_SUCCESS;
}

int MPI_Error_class(int code, int *error_class)
{
    *error_class = code;
    return MPI_SUCCESS;
}
