// SPDX-License-Identifier: Apache-2.0
/* Operations of reductions: the result is the second operand combined after the first. */
#include "internal.h"

#include <complex.h>
#include <stdlib.h>

struct float_index {
    float value;
    int index;
};
struct double_index {
    double value;
    int index;
};
struct int_index {
    int value;
    int index;
};

/* NOLINTBEGIN(bugprone-macro-parentheses): types cannot be in parentheses */
#define EACH(type, expression)                                                                     \
    {                                                                                              \
        const type *a = in;                                                                        \
        type *b = inout;                                                                           \
        for (size_t i = 0; i < count; i++) {                                                       \
            b[i] = (type)(expression);                                                             \
        }                                                                                          \
        return MPI_SUCCESS;                                                                        \
    }

#define INTEGERS(expression)                                                                       \
    case KIND_INT8:                                                                                \
        EACH(int8_t, expression)                                                                   \
    case KIND_UINT8:                                                                               \
        EACH(uint8_t, expression)                                                                  \
    case KIND_INT16:                                                                               \
        EACH(int16_t, expression)                                                                  \
    case KIND_UINT16:                                                                              \
        EACH(uint16_t, expression)                                                                 \
    case KIND_INT32:                                                                               \
        EACH(int32_t, expression)                                                                  \
    case KIND_UINT32:                                                                              \
        EACH(uint32_t, expression)                                                                 \
    case KIND_INT64:                                                                               \
        EACH(int64_t, expression)                                                                  \
    case KIND_UINT64:                                                                              \
        EACH(uint64_t, expression)

#define REALS(expression)                                                                          \
    case KIND_FLOAT:                                                                               \
        EACH(float, expression)                                                                    \
    case KIND_DOUBLE:                                                                              \
        EACH(double, expression)                                                                   \
    case KIND_LONG_DOUBLE:                                                                         \
        EACH(long double, expression)

#define COMPLEXES(expression)                                                                      \
    case KIND_FLOAT_COMPLEX:                                                                       \
        EACH(float complex, expression)                                                            \
    case KIND_DOUBLE_COMPLEX:                                                                      \
        EACH(double complex, expression)

#define OPERATION(name, ...)                                                                       \
    static int combine_##name(enum kind kind, const void *in, void *inout, size_t count)           \
    {                                                                                              \
        switch (kind) {                                                                            \
            __VA_ARGS__                                                                            \
        default:                                                                                   \
            return MPI_ERR_OP;                                                                     \
        }                                                                                          \
    }                                                                                              \
    struct v3m_mpi_op v3m_mpi_##name = {.combine = combine_##name};

/* Sums wrap round, as they do in other implementations: by way of unsigned numbers. */
OPERATION(sum, INTEGERS((uint64_t)a[i] + (uint64_t)b[i]) REALS(a[i] + b[i]) COMPLEXES(a[i] + b[i]))
OPERATION(prod, INTEGERS((uint64_t)a[i] * (uint64_t)b[i]) REALS(a[i] * b[i]) COMPLEXES(a[i] * b[i]))
OPERATION(max, INTEGERS(a[i] > b[i] ? a[i] : b[i]) REALS(a[i] > b[i] ? a[i] : b[i]))
OPERATION(min, INTEGERS(a[i] < b[i] ? a[i] : b[i]) REALS(a[i] < b[i] ? a[i] : b[i]))
OPERATION(land, INTEGERS(a[i] && b[i]))
OPERATION(lor, INTEGERS(a[i] || b[i]))
OPERATION(lxor, INTEGERS(!a[i] != !b[i]))
OPERATION(band, INTEGERS(a[i] & b[i]))
OPERATION(bor, INTEGERS(a[i] | b[i]))
OPERATION(bxor, INTEGERS(a[i] ^ b[i]))

/* Of equal values the one with the lower index. */
#define PAIR(type, than)                                                                           \
    {                                                                                              \
        const struct type *a = in;                                                                 \
        struct type *b = inout;                                                                    \
        for (size_t i = 0; i < count; i++) {                                                       \
            if (a[i].value than b[i].value ||                                                      \
                (a[i].value == b[i].value && a[i].index < b[i].index)) {                           \
                b[i] = a[i];                                                                       \
            }                                                                                      \
        }                                                                                          \
        return MPI_SUCCESS;                                                                        \
    }
#define PAIRS(than)                                                                                \
    case KIND_FLOAT_INT:                                                                           \
        PAIR(float_index, than)                                                                    \
    case KIND_DOUBLE_INT:                                                                          \
        PAIR(double_index, than)                                                                   \
    case KIND_2INT:                                                                                \
        PAIR(int_index, than)

OPERATION(maxloc, PAIRS(>))
OPERATION(minloc, PAIRS(<))

/* NOLINTEND(bugprone-macro-parentheses) */

int MPI_Op_create(MPI_User_function *function, int commutes, MPI_Op *op)
{
    (void)commutes; /* results are always combined in the order of ranks */
    struct v3m_mpi_op *made = calloc(1, sizeof(*made));
    if (made == NULL || function == NULL) {
        free(made);
        return mpi_fail(MPI_COMM_WORLD, "MPI_Op_create",
                        function == NULL ? MPI_ERR_ARG : MPI_ERR_NO_MEM);
    }
    made->function = function;
    *op = made;
    return MPI_SUCCESS;
}

int MPI_Op_free(MPI_Op *op)
{
    if (*op == NULL || (*op)->function == NULL) {
        return mpi_fail(MPI_COMM_WORLD, "MPI_Op_free", MPI_ERR_OP);
    }
    free(*op);
    *op = MPI_OP_NULL;
    return MPI_SUCCESS;
}
