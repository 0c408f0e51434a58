/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A subset of MPI's C bindings, on libbypass. Rank = id of the peer in the channel. What is here
 * has the meaning of the MPI standard, version 3.1; docs/reference/bypass.md lists it, with the
 * limits.
 */
#ifndef V3M_MPI_H
#define V3M_MPI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MPI_VERSION 3
#define MPI_SUBVERSION 1

typedef struct v3m_mpi_comm *MPI_Comm;
typedef struct v3m_mpi_type *MPI_Datatype;
typedef struct v3m_mpi_op *MPI_Op;
typedef struct v3m_mpi_request *MPI_Request;
typedef int MPI_Errhandler;
typedef int MPI_Info;
typedef intptr_t MPI_Aint;
typedef long long MPI_Count;
typedef void MPI_User_function(void *in, void *inout, int *count, MPI_Datatype *type);

typedef struct {
    int MPI_SOURCE;
    int MPI_TAG;
    int MPI_ERROR;
    int v3m_cancelled;
    uint64_t v3m_bytes;
} MPI_Status;

#define MPI_STATUS_IGNORE ((MPI_Status *)0)
#define MPI_STATUSES_IGNORE ((MPI_Status *)0)
#define MPI_REQUEST_NULL ((MPI_Request)0)
#define MPI_COMM_NULL ((MPI_Comm)0)
#define MPI_DATATYPE_NULL ((MPI_Datatype)0)
#define MPI_OP_NULL ((MPI_Op)0)
#define MPI_INFO_NULL 0
#define MPI_BOTTOM ((void *)0)
#define MPI_IN_PLACE ((void *)-1)

#define MPI_ANY_SOURCE (-1)
#define MPI_PROC_NULL (-2)
#define MPI_ANY_TAG (-1)
#define MPI_UNDEFINED (-32766)
#define MPI_MAX_PROCESSOR_NAME 256
#define MPI_MAX_ERROR_STRING 256
#define MPI_MAX_OBJECT_NAME 64
#define MPI_BSEND_OVERHEAD 128

#define MPI_ERRORS_ARE_FATAL 0
#define MPI_ERRORS_RETURN 1

enum {
    MPI_SUCCESS = 0,
    MPI_ERR_BUFFER,
    MPI_ERR_COUNT,
    MPI_ERR_TYPE,
    MPI_ERR_TAG,
    MPI_ERR_COMM,
    MPI_ERR_RANK,
    MPI_ERR_ROOT,
    MPI_ERR_OP,
    MPI_ERR_ARG,
    MPI_ERR_TRUNCATE,
    MPI_ERR_REQUEST,
    MPI_ERR_PROC_FAILED, /* a rank is gone */
    MPI_ERR_NO_MEM,
    MPI_ERR_UNSUPPORTED_OPERATION,
    MPI_ERR_IN_STATUS,
    MPI_ERR_OTHER,
    MPI_ERR_LASTCODE = MPI_ERR_OTHER
};

enum { MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED, MPI_THREAD_SERIALIZED, MPI_THREAD_MULTIPLE };
enum { MPI_IDENT, MPI_CONGRUENT, MPI_SIMILAR, MPI_UNEQUAL };

extern struct v3m_mpi_comm v3m_mpi_world, v3m_mpi_self;
#define MPI_COMM_WORLD (&v3m_mpi_world)
#define MPI_COMM_SELF (&v3m_mpi_self)

extern struct v3m_mpi_type v3m_mpi_char, v3m_mpi_schar, v3m_mpi_uchar, v3m_mpi_byte, v3m_mpi_short,
    v3m_mpi_ushort, v3m_mpi_int, v3m_mpi_uint, v3m_mpi_long, v3m_mpi_ulong, v3m_mpi_float,
    v3m_mpi_double, v3m_mpi_ldouble, v3m_mpi_float_int, v3m_mpi_double_int, v3m_mpi_2int,
    v3m_mpi_dcomplex, v3m_mpi_fcomplex;
#define MPI_CHAR (&v3m_mpi_char)
#define MPI_SIGNED_CHAR (&v3m_mpi_schar)
#define MPI_UNSIGNED_CHAR (&v3m_mpi_uchar)
#define MPI_BYTE (&v3m_mpi_byte)
#define MPI_PACKED MPI_BYTE
#define MPI_SHORT (&v3m_mpi_short)
#define MPI_UNSIGNED_SHORT (&v3m_mpi_ushort)
#define MPI_INT (&v3m_mpi_int)
#define MPI_UNSIGNED (&v3m_mpi_uint)
#define MPI_LONG (&v3m_mpi_long)
#define MPI_UNSIGNED_LONG (&v3m_mpi_ulong)
#define MPI_LONG_LONG_INT MPI_LONG
#define MPI_LONG_LONG MPI_LONG
#define MPI_UNSIGNED_LONG_LONG MPI_UNSIGNED_LONG
#define MPI_FLOAT (&v3m_mpi_float)
#define MPI_DOUBLE (&v3m_mpi_double)
#define MPI_LONG_DOUBLE (&v3m_mpi_ldouble)
#define MPI_INT8_T MPI_SIGNED_CHAR
#define MPI_UINT8_T MPI_UNSIGNED_CHAR
#define MPI_INT16_T MPI_SHORT
#define MPI_UINT16_T MPI_UNSIGNED_SHORT
#define MPI_INT32_T MPI_INT
#define MPI_UINT32_T MPI_UNSIGNED
#define MPI_INT64_T MPI_LONG
#define MPI_UINT64_T MPI_UNSIGNED_LONG
#define MPI_AINT MPI_LONG
#define MPI_C_BOOL MPI_UNSIGNED_CHAR
#define MPI_C_FLOAT_COMPLEX (&v3m_mpi_fcomplex)
#define MPI_C_DOUBLE_COMPLEX (&v3m_mpi_dcomplex)
#define MPI_FLOAT_INT (&v3m_mpi_float_int)
#define MPI_DOUBLE_INT (&v3m_mpi_double_int)
#define MPI_2INT (&v3m_mpi_2int)

extern struct v3m_mpi_op v3m_mpi_sum, v3m_mpi_prod, v3m_mpi_max, v3m_mpi_min, v3m_mpi_land,
    v3m_mpi_lor, v3m_mpi_lxor, v3m_mpi_band, v3m_mpi_bor, v3m_mpi_bxor, v3m_mpi_maxloc,
    v3m_mpi_minloc;
#define MPI_SUM (&v3m_mpi_sum)
#define MPI_PROD (&v3m_mpi_prod)
#define MPI_MAX (&v3m_mpi_max)
#define MPI_MIN (&v3m_mpi_min)
#define MPI_LAND (&v3m_mpi_land)
#define MPI_LOR (&v3m_mpi_lor)
#define MPI_LXOR (&v3m_mpi_lxor)
#define MPI_BAND (&v3m_mpi_band)
#define MPI_BOR (&v3m_mpi_bor)
#define MPI_BXOR (&v3m_mpi_bxor)
#define MPI_MAXLOC (&v3m_mpi_maxloc)
#define MPI_MINLOC (&v3m_mpi_minloc)

/* Begin and end. */
int MPI_Init(int *argc, char ***argv);
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided);
int MPI_Initialized(int *flag);
int MPI_Finalize(void);
int MPI_Finalized(int *flag);
int MPI_Abort(MPI_Comm comm, int code);
double MPI_Wtime(void);
double MPI_Wtick(void);
int MPI_Get_processor_name(char *name, int *length);
int MPI_Get_version(int *version, int *subversion);

/* Errors. */
int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler);
int MPI_Errhandler_set(MPI_Comm comm, MPI_Errhandler handler);
int MPI_Error_string(int code, char *text, int *length);
int MPI_Error_class(int code, int *error_class);

/* Communicators. */
int MPI_Comm_rank(MPI_Comm comm, int *rank);
int MPI_Comm_size(MPI_Comm comm, int *size);
int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *out);
int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *out);
int MPI_Comm_free(MPI_Comm *comm);
int MPI_Comm_compare(MPI_Comm a, MPI_Comm b, int *result);

/* Types. */
int MPI_Type_size(MPI_Datatype type, int *size);
int MPI_Type_get_extent(MPI_Datatype type, MPI_Aint *lower, MPI_Aint *extent);
int MPI_Type_extent(MPI_Datatype type, MPI_Aint *extent);
int MPI_Type_contiguous(int count, MPI_Datatype old, MPI_Datatype *type);
int MPI_Type_vector(int count, int length, int stride, MPI_Datatype old, MPI_Datatype *type);
int MPI_Type_create_hvector(int count, int length, MPI_Aint stride, MPI_Datatype old,
                            MPI_Datatype *type);
int MPI_Type_indexed(int count, const int *lengths, const int *displacements, MPI_Datatype old,
                     MPI_Datatype *type);
int MPI_Type_create_struct(int count, const int *lengths, const MPI_Aint *displacements,
                           const MPI_Datatype *types, MPI_Datatype *type);
int MPI_Type_struct(int count, int *lengths, MPI_Aint *displacements, MPI_Datatype *types,
                    MPI_Datatype *type);
int MPI_Type_create_resized(MPI_Datatype old, MPI_Aint lower, MPI_Aint extent, MPI_Datatype *type);
int MPI_Type_commit(MPI_Datatype *type);
int MPI_Type_free(MPI_Datatype *type);
int MPI_Get_address(const void *location, MPI_Aint *address);
int MPI_Address(void *location, MPI_Aint *address);

/* Messages. */
int MPI_Send(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm);
int MPI_Ssend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm);
int MPI_Rsend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm);
int MPI_Isend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request);
int MPI_Issend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
               MPI_Request *request);
int MPI_Recv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
             MPI_Status *status);
int MPI_Irecv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request);
int MPI_Sendrecv(const void *data, int count, MPI_Datatype type, int to, int tag, void *buffer,
                 int room, MPI_Datatype room_type, int from, int from_tag, MPI_Comm comm,
                 MPI_Status *status);
int MPI_Probe(int from, int tag, MPI_Comm comm, MPI_Status *status);
int MPI_Iprobe(int from, int tag, MPI_Comm comm, int *flag, MPI_Status *status);
int MPI_Get_count(const MPI_Status *status, MPI_Datatype type, int *count);

/* Requests. */
int MPI_Wait(MPI_Request *request, MPI_Status *status);
int MPI_Waitall(int count, MPI_Request *requests, MPI_Status *statuses);
int MPI_Waitany(int count, MPI_Request *requests, int *index, MPI_Status *status);
int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status);
int MPI_Testall(int count, MPI_Request *requests, int *flag, MPI_Status *statuses);
int MPI_Testany(int count, MPI_Request *requests, int *index, int *flag, MPI_Status *status);
int MPI_Cancel(MPI_Request *request);
int MPI_Test_cancelled(const MPI_Status *status, int *flag);
int MPI_Request_free(MPI_Request *request);

/* Collective operations. */
int MPI_Barrier(MPI_Comm comm);
int MPI_Bcast(void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm);
int MPI_Reduce(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op, int root,
               MPI_Comm comm);
int MPI_Allreduce(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm);
int MPI_Scan(const void *data, void *result, int count, MPI_Datatype type, MPI_Op op,
             MPI_Comm comm);
int MPI_Gather(const void *data, int count, MPI_Datatype type, void *all, int each,
               MPI_Datatype each_type, int root, MPI_Comm comm);
int MPI_Gatherv(const void *data, int count, MPI_Datatype type, void *all, const int *counts,
                const int *displacements, MPI_Datatype each_type, int root, MPI_Comm comm);
int MPI_Scatter(const void *all, int each, MPI_Datatype each_type, void *buffer, int count,
                MPI_Datatype type, int root, MPI_Comm comm);
int MPI_Scatterv(const void *all, const int *counts, const int *displacements,
                 MPI_Datatype each_type, void *buffer, int count, MPI_Datatype type, int root,
                 MPI_Comm comm);
int MPI_Allgather(const void *data, int count, MPI_Datatype type, void *all, int each,
                  MPI_Datatype each_type, MPI_Comm comm);
int MPI_Allgatherv(const void *data, int count, MPI_Datatype type, void *all, const int *counts,
                   const int *displacements, MPI_Datatype each_type, MPI_Comm comm);
int MPI_Alltoall(const void *data, int count, MPI_Datatype type, void *all, int each,
                 MPI_Datatype each_type, MPI_Comm comm);
int MPI_Alltoallv(const void *data, const int *counts, const int *displacements, MPI_Datatype type,
                  void *all, const int *each, const int *each_displacements, MPI_Datatype each_type,
                  MPI_Comm comm);
int MPI_Op_create(MPI_User_function *function, int commutes, MPI_Op *op);
int MPI_Op_free(MPI_Op *op);

#ifdef __cplusplus
}
#endif

#endif
