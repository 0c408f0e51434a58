/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the MPI subset share. MPI has one world for each process, and so has this. */
#ifndef V3M_MPI_INTERNAL_H
#define V3M_MPI_INTERNAL_H

#include "bypass.h"
#include "mpi.h"

/* What arithmetic a type is for. */
enum kind {
    KIND_NONE,
    KIND_INT8,
    KIND_UINT8,
    KIND_INT16,
    KIND_UINT16,
    KIND_INT32,
    KIND_UINT32,
    KIND_INT64,
    KIND_UINT64,
    KIND_FLOAT,
    KIND_DOUBLE,
    KIND_LONG_DOUBLE,
    KIND_FLOAT_COMPLEX,
    KIND_DOUBLE_COMPLEX,
    KIND_FLOAT_INT,
    KIND_DOUBLE_INT,
    KIND_2INT,
};

/* Bytes of an element that belong to the message. */
struct segment {
    MPI_Aint offset;
    size_t bytes;
};

struct v3m_mpi_type {
    size_t size; /* bytes of the message */
    MPI_Aint lower;
    MPI_Aint extent;
    enum kind kind;
    uint32_t segment_count; /* 0: one that begins at 0, without gaps */
    struct segment *segments;
    uint32_t users; /* of one that was made; 0: it is built in */
};

struct v3m_mpi_comm {
    uint32_t context; /* even; that of collective operations is one more */
    int size;
    int rank;
    int *peers; /* of each rank; NULL: the rank itself */
    int returns_errors;
    int made;
};

struct v3m_mpi_op {
    MPI_User_function *function; /* of the user's */
    int (*combine)(enum kind kind, const void *in, void *inout, size_t count);
};

enum purpose { SENDING, RECEIVING };

struct v3m_mpi_request {
    struct bypass_request core;
    enum purpose purpose;
    int cancelled;
    MPI_Comm comm;
    void *packed; /* of a type with gaps */
    void *user;
    int count;
    MPI_Datatype type;
};

/* The world: one for each process. */
struct mpi {
    struct bypass *bypass; /* NULL: not begun, or ended */
    int initialized;
    int finalized;
    uint32_t next_context;
};
extern struct mpi v3m_mpi;

/* error.c: what a function returns; ends the program, if errors are fatal. */
int mpi_fail(MPI_Comm comm, const char *function, int code);
int mpi_code(int32_t bypass_code);

/* type.c */
int mpi_contiguous(const struct v3m_mpi_type *type);
void mpi_pack(void *out, const void *in, int count, const struct v3m_mpi_type *type);
void mpi_unpack(void *out, const void *in, uint64_t bytes, const struct v3m_mpi_type *type);
void mpi_type_keep(MPI_Datatype type);
void mpi_type_drop(MPI_Datatype type);

/* comm.c */
int mpi_peer(MPI_Comm comm, int rank);
int mpi_rank_of(MPI_Comm comm, int peer);

/* message.c: without the check of arguments; `context` is added to the communicator's. */
int mpi_send(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
             uint32_t context);
int mpi_recv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
             uint32_t context, MPI_Status *status);
int mpi_exchange(const void *data, int count, MPI_Datatype type, int to, void *buffer, int room,
                 MPI_Datatype room_type, int from, int tag, MPI_Comm comm);
int mpi_start(enum purpose purpose, void *buffer, int count, MPI_Datatype type, int other, int tag,
              MPI_Comm comm, uint32_t context, uint32_t flags, MPI_Request *out);
int mpi_finish(MPI_Request *request, MPI_Status *status);
int mpi_check(const void *buffer, int count, MPI_Datatype type, int rank, int tag, MPI_Comm comm,
              int any);

#define COLLECTIVE 1u    /* the context of collective operations */
#define TEST_SLEEP 1000u /* µs that a test may sleep, after many for nothing */

#endif
