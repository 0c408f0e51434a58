// SPDX-License-Identifier: Apache-2.0
/*
 * Uses each function of the MPI subset and checks what it does; any number of ranks. Rank 0 says "N
 * ranks: all is well". An MPI program like others: it compiles and runs with other MPIs, too.
 *
 *   mpi_check           the checks
 *   mpi_check abort     rank 1 ends with MPI_Abort(…, 7) while the others wait for it
 *   mpi_check survive   rank 1 exits without a word; the others handle the error
 *   mpi_check stay      likewise, but rank 1 has to be ended
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int self;
static int size;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "mpi_check.c:%d: rank %d: %s\n", __LINE__, self, #condition);          \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
        }                                                                                          \
    } while (0)

static void check_messages(void)
{
    int next = (self + 1) % size;
    int before = (self + size - 1) % size;
    double out[1000];
    double in[1000];
    MPI_Status status;
    MPI_Request requests[4];
    int count = 0;
    int flag = 0;
    for (int i = 0; i < 1000; i++) {
        out[i] = self * 1000.0 + i;
    }
    for (int length = 0; length <= 1000; length += 111) {
        MPI_Sendrecv(out, length, MPI_DOUBLE, next, 5, in, 1000, MPI_DOUBLE, before, 5,
                     MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_DOUBLE, &count);
        CHECK(count == length && status.MPI_SOURCE == before && status.MPI_TAG == 5);
        CHECK(length == 0 || in[length - 1] == before * 1000.0 + length - 1);
    }
    MPI_Irecv(in, 10, MPI_DOUBLE, MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(in + 10, 10, MPI_DOUBLE, before, MPI_ANY_TAG, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(out, 10, MPI_DOUBLE, next, 1, MPI_COMM_WORLD, &requests[2]);
    MPI_Issend(out + 10, 10, MPI_DOUBLE, next, 2, MPI_COMM_WORLD, &requests[3]);
    MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
    CHECK(in[3] == before * 1000.0 + 3 && in[13] == before * 1000.0 + 13);
    CHECK(requests[0] == MPI_REQUEST_NULL);
    /* Found, measured, and then received. */
    MPI_Isend(out, 37, MPI_DOUBLE, next, 3, MPI_COMM_WORLD, &requests[0]);
    MPI_Probe(MPI_ANY_SOURCE, 3, MPI_COMM_WORLD, &status);
    MPI_Get_count(&status, MPI_DOUBLE, &count);
    CHECK(count == 37 && status.MPI_SOURCE == before);
    MPI_Iprobe(before, 3, MPI_COMM_WORLD, &flag, &status);
    CHECK(flag);
    MPI_Recv(in, count, MPI_DOUBLE, status.MPI_SOURCE, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Wait(&requests[0], &status);
    MPI_Iprobe(before, 3, MPI_COMM_WORLD, &flag, &status);
    CHECK(!flag);
    MPI_Send(out, 10, MPI_DOUBLE, MPI_PROC_NULL, 1, MPI_COMM_WORLD);
    MPI_Recv(in, 10, MPI_DOUBLE, MPI_PROC_NULL, 1, MPI_COMM_WORLD, &status);
    CHECK(status.MPI_SOURCE == MPI_PROC_NULL);
}

static void check_requests(void)
{
    MPI_Request requests[3];
    MPI_Status status;
    int in[3] = {0};
    int index = 0;
    int flag = 0;
    int other = (self + size / 2) % size;
    for (int i = 0; i < 3; i++) {
        MPI_Irecv(&in[i], 1, MPI_INT, MPI_ANY_SOURCE, 20 + i, MPI_COMM_WORLD, &requests[i]);
    }
    MPI_Testany(3, requests, &index, &flag, &status);
    CHECK(!flag);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 2; i >= 1; i--) {
        int value = i * 10;
        MPI_Send(&value, 1, MPI_INT, other, 20 + i, MPI_COMM_WORLD);
        MPI_Waitany(3, requests, &index, &status);
        CHECK((index == 1 || index == 2) && in[index] == index * 10);
        CHECK(status.MPI_TAG == 20 + index && requests[index] == MPI_REQUEST_NULL);
    }
    MPI_Test(&requests[0], &flag, &status);
    CHECK(!flag);
    MPI_Cancel(&requests[0]);
    MPI_Wait(&requests[0], &status);
    MPI_Test_cancelled(&status, &flag);
    CHECK(flag);
    MPI_Testall(3, requests, &flag, MPI_STATUSES_IGNORE);
    CHECK(flag);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Longer than any buffer on the way, in both directions at once. */
static void check_long(void)
{
    int count = 1 << 20;
    int *out = malloc((size_t)count * sizeof(int));
    int *in = malloc((size_t)count * sizeof(int));
    CHECK(out != NULL && in != NULL);
    for (int i = 0; i < count; i++) {
        out[i] = self ^ i;
    }
    MPI_Sendrecv(out, count, MPI_INT, (self + 1) % size, 9, in, count, MPI_INT,
                 (self + size - 1) % size, 9, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < count; i++) {
        CHECK(in[i] == (((self + size - 1) % size) ^ i));
    }
    free(out);
    free(in);
}

static void check_types(void)
{
    struct particle {
        char kind;
        double place[3];
        int number;
    };
    int lengths[3] = {1, 3, 1};
    MPI_Aint places[3] = {offsetof(struct particle, kind), offsetof(struct particle, place),
                          offsetof(struct particle, number)};
    MPI_Datatype types[3] = {MPI_CHAR, MPI_DOUBLE, MPI_INT};
    MPI_Datatype unsized;
    MPI_Datatype particle;
    MPI_Datatype column;
    MPI_Aint lower = 0;
    MPI_Aint extent = 0;
    int bytes = 0;
    int next = (self + 1) % size;
    int before = (self + size - 1) % size;
    MPI_Type_create_struct(3, lengths, places, types, &unsized);
    MPI_Type_create_resized(unsized, 0, sizeof(struct particle), &particle);
    MPI_Type_commit(&particle);
    MPI_Type_size(particle, &bytes);
    MPI_Type_get_extent(particle, &lower, &extent);
    CHECK(bytes == 29 && lower == 0 && extent == (MPI_Aint)sizeof(struct particle));
    struct particle out[50];
    struct particle in[50];
    memset(in, 0x55, sizeof(in));
    for (int i = 0; i < 50; i++) {
        out[i] = (struct particle){(char)i, {self, i, -1}, self * i};
    }
    MPI_Sendrecv(out, 50, particle, next, 1, in, 50, particle, before, 1, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    CHECK(in[49].kind == 49 && in[49].place[0] == before && in[49].number == before * 49);
    CHECK(((char *)&in[49])[2] == 0x55); /* the gap is nobody's */
    /* A column of a matrix becomes a row. */
    int matrix[10][12];
    int row[10];
    for (int i = 0; i < 120; i++) {
        matrix[i / 12][i % 12] = i + self;
    }
    MPI_Type_vector(10, 1, 12, MPI_INT, &column);
    MPI_Type_commit(&column);
    MPI_Sendrecv(&matrix[0][3], 1, column, next, 2, row, 10, MPI_INT, before, 2, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    CHECK(row[0] == 3 + before && row[9] == 111 + before);
    MPI_Bcast(&matrix[0][5], 1, column, size - 1, MPI_COMM_WORLD);
    CHECK(matrix[2][5] == 29 + size - 1 && matrix[2][6] == 30 + self);
    MPI_Type_free(&column);
    MPI_Type_free(&particle);
    MPI_Type_free(&unsized);
    CHECK(column == MPI_DATATYPE_NULL);
}

/* Not commutative: a chain of two digits a rank has to come out in order. */
static void append(void *in, void *inout, int *count, MPI_Datatype *type)
{
    (void)type;
    for (int i = 0; i < *count; i++) {
        double *first = (double *)in + (ptrdiff_t)i * 2;
        double *second = (double *)inout + (ptrdiff_t)i * 2;
        second[0] += first[0] * second[1]; /* value, and what to multiply by to append it */
        second[1] *= first[1];
    }
}

static void check_reductions(void)
{
    int sum = 0;
    int ranks = size * (size - 1) / 2;
    long each[3] = {self, -self, 7};
    long all[3] = {0};
    struct {
        double value;
        int rank;
    } mine = {self % 3, self}, best = {0, 0};
    double pair[2] = {self + 1, 10};
    double chain[2] = {0, 0};
    double expected = 0;
    MPI_Op chaining;
    MPI_Datatype pairs;
    for (int root = 0; root < size; root++) {
        sum = -1;
        MPI_Reduce(&self, &sum, 1, MPI_INT, MPI_SUM, root, MPI_COMM_WORLD);
        CHECK(sum == (self == root ? ranks : -1));
    }
    MPI_Allreduce(each, all, 3, MPI_LONG, MPI_MAX, MPI_COMM_WORLD);
    CHECK(all[0] == size - 1 && all[1] == 0 && all[2] == 7);
    MPI_Allreduce(MPI_IN_PLACE, each, 3, MPI_LONG, MPI_MIN, MPI_COMM_WORLD);
    CHECK(each[0] == 0 && each[1] == -(size - 1) && each[2] == 7);
    MPI_Allreduce(&mine, &best, 1, MPI_DOUBLE_INT, MPI_MAXLOC, MPI_COMM_WORLD);
    CHECK(best.rank == (size >= 3 ? 2 : size - 1));
    MPI_Scan(&self, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(sum == self * (self + 1) / 2);
    int bits = 1 << self % 30;
    MPI_Allreduce(&bits, &sum, 1, MPI_INT, MPI_BOR, MPI_COMM_WORLD);
    CHECK((sum & 1) != 0 && (sum & bits) != 0);
    MPI_Op_create(append, 0, &chaining);
    MPI_Type_contiguous(2, MPI_DOUBLE, &pairs);
    MPI_Type_commit(&pairs);
    MPI_Allreduce(pair, chain, 1, pairs, chaining, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++) {
        expected = expected * 10 + i + 1;
    }
    CHECK(size > 10 || chain[0] == expected);
    MPI_Type_free(&pairs);
    MPI_Op_free(&chaining);
}

static void check_collectives(void)
{
    int *out = calloc((size_t)size * 3, sizeof(int));
    int *in = calloc((size_t)size * 3, sizeof(int));
    int *counts = calloc((size_t)size, sizeof(int));
    int *places = calloc((size_t)size, sizeof(int));
    int mine[3];
    CHECK(out != NULL && in != NULL && counts != NULL && places != NULL);
    for (int i = 0; i < size * 3; i++) {
        out[i] = self * 1000 + i;
    }
    MPI_Alltoall(out, 3, MPI_INT, in, 3, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++) {
        CHECK(in[i * 3 + 2] == i * 1000 + self * 3 + 2);
    }
    MPI_Allgather(out, 3, MPI_INT, in, 3, MPI_INT, MPI_COMM_WORLD);
    CHECK(in[size * 3 - 1] == (size - 1) * 1000 + 2);
    MPI_Gather(out, 3, MPI_INT, in, 3, MPI_INT, size - 1, MPI_COMM_WORLD);
    MPI_Scatter(in, 3, MPI_INT, mine, 3, MPI_INT, size - 1, MPI_COMM_WORLD);
    CHECK(mine[0] == self * 1000 && mine[2] == self * 1000 + 2);
    /* Rank i has i % 3 + 1 elements, at the end of its three places. */
    for (int i = 0; i < size; i++) {
        counts[i] = i % 3 + 1;
        places[i] = i * 3 + 2 - i % 3;
    }
    memset(in, 0xff, (size_t)size * 3 * sizeof(int));
    MPI_Allgatherv(out, counts[self], MPI_INT, in, counts, places, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++) {
        CHECK(in[places[i]] == i * 1000 && in[i * 3 + 2] == i * 1000 + i % 3);
        CHECK(i % 3 == 2 || in[i * 3] == -1);
    }
    MPI_Gatherv(out, counts[self], MPI_INT, in, counts, places, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Scatterv(in, counts, places, MPI_INT, mine, 3, MPI_INT, 0, MPI_COMM_WORLD);
    CHECK(mine[0] == self * 1000);
    for (int i = 0; i < size; i++) {
        counts[i] = 1 + (self + i) % 2; /* the same seen from both sides */
        places[i] = i * 3;
    }
    MPI_Alltoallv(out, counts, places, MPI_INT, in, counts, places, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size; i++) {
        CHECK(in[i * 3] == i * 1000 + self * 3);
    }
    free(out);
    free(in);
    free(counts);
    free(places);
}

static void check_communicators(void)
{
    MPI_Comm half;
    MPI_Comm copy;
    MPI_Comm none;
    int rank = -1;
    int members = -1;
    int sum = 0;
    int value = self;
    int compared = 0;
    MPI_Comm_split(MPI_COMM_WORLD, self % 2, -self, &half);
    MPI_Comm_rank(half, &rank);
    MPI_Comm_size(half, &members);
    CHECK(members == (size + 1 - self % 2) / 2);
    CHECK(rank == members - 1 - self / 2); /* the other way round */
    MPI_Allreduce(&self, &sum, 1, MPI_INT, MPI_SUM, half);
    CHECK(sum == members * (members - 1) + self % 2 * members);
    MPI_Bcast(&value, 1, MPI_INT, 0, half);
    CHECK(value == (members - 1) * 2 + self % 2);
    /* Messages of one communicator are not another's. */
    MPI_Comm_dup(MPI_COMM_WORLD, &copy);
    MPI_Comm_compare(copy, MPI_COMM_WORLD, &compared);
    CHECK(compared == MPI_CONGRUENT);
    MPI_Request requests[4];
    int in[2] = {0};
    int out[2] = {1, 2};
    int next = (self + 1) % size;
    int before = (self + size - 1) % size;
    MPI_Irecv(&in[1], 1, MPI_INT, before, 0, copy, &requests[0]);
    MPI_Irecv(&in[0], 1, MPI_INT, before, 0, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(&out[0], 1, MPI_INT, next, 0, MPI_COMM_WORLD, &requests[2]);
    MPI_Isend(&out[1], 1, MPI_INT, next, 0, copy, &requests[3]);
    MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
    CHECK(in[0] == 1 && in[1] == 2);
    MPI_Comm_split(MPI_COMM_WORLD, self == 0 ? MPI_UNDEFINED : 1, 0, &none);
    CHECK((none == MPI_COMM_NULL) == (self == 0));
    if (none != MPI_COMM_NULL) {
        MPI_Comm_free(&none);
    }
    MPI_Comm_free(&copy);
    MPI_Comm_free(&half);
    MPI_Comm_size(MPI_COMM_SELF, &members);
    CHECK(members == 1);
    MPI_Barrier(MPI_COMM_SELF);
}

static void check_errors(void)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    int in = 0;
    int out[2] = {1, 2};
    MPI_Request request;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    CHECK(MPI_Send(&in, 1, MPI_INT, size, 0, MPI_COMM_WORLD) != MPI_SUCCESS);
    CHECK(MPI_Send(&in, -1, MPI_INT, 0, 0, MPI_COMM_WORLD) != MPI_SUCCESS);
    MPI_Isend(out, 2, MPI_INT, (self + 1) % size, 4, MPI_COMM_WORLD, &request);
    int code =
        MPI_Recv(&in, 1, MPI_INT, (self + size - 1) % size, 4, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int error_class = 0;
    MPI_Error_class(code, &error_class);
    MPI_Error_string(code, text, &length);
    CHECK(error_class == MPI_ERR_TRUNCATE && length == (int)strlen(text) && in == 1);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

static void end_badly(const char *how)
{
    int value = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    if (self == 1) {
        usleep(50000);
        while (strcmp(how, "stay") == 0) {
            puts("rank 1 stays");
            fflush(stdout);
            sleep(1000);
        }
        if (strcmp(how, "abort") == 0) {
            MPI_Abort(MPI_COMM_WORLD, 7);
        }
        _exit(3);
    }
    if (strcmp(how, "abort") != 0) {
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    }
    int code = MPI_Recv(&value, 1, MPI_INT, self % 2 == 0 ? 1 : MPI_ANY_SOURCE, 1, MPI_COMM_WORLD,
                        MPI_STATUS_IGNORE);
    printf("rank %d: %s\n", self, code == MPI_SUCCESS ? "a message" : "the sender is gone");
}

int main(int argc, char **argv)
{
    char name[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    int flag = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &self);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc == 2) {
        end_badly(argv[1]);
        return 0;
    }
    double begin = MPI_Wtime();
    MPI_Initialized(&flag);
    CHECK(flag);
    MPI_Get_processor_name(name, &length);
    CHECK(length == (int)strlen(name));
    check_messages();
    check_requests();
    check_long();
    check_types();
    check_reductions();
    check_collectives();
    check_communicators();
    check_errors();
    CHECK(MPI_Wtime() > begin && MPI_Wtick() > 0);
    if (self == 0) {
        printf("%d ranks: all is well\n", size);
    }
    MPI_Finalize();
    MPI_Finalized(&flag);
    return flag ? 0 : 1;
}
