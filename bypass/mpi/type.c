// SPDX-License-Identifier: Apache-2.0
/* Datatypes: a list of the bytes of an element that belong to the message. */
#include "internal.h"

#include <complex.h>
#include <stdlib.h>
#include <string.h>

struct float_int {
    float value;
    int index;
};
struct double_int {
    double value;
    int index;
};

#define BASIC(name, type, arithmetic)                                                              \
    struct v3m_mpi_type v3m_mpi_##name = {                                                         \
        .size = sizeof(type), .extent = sizeof(type), .kind = (arithmetic)}

BASIC(char, char, KIND_INT8);
BASIC(schar, signed char, KIND_INT8);
BASIC(uchar, unsigned char, KIND_UINT8);
BASIC(byte, unsigned char, KIND_UINT8);
BASIC(short, short, KIND_INT16);
BASIC(ushort, unsigned short, KIND_UINT16);
BASIC(int, int, KIND_INT32);
BASIC(uint, unsigned, KIND_UINT32);
BASIC(long, long, KIND_INT64);
BASIC(ulong, unsigned long, KIND_UINT64);
BASIC(float, float, KIND_FLOAT);
BASIC(double, double, KIND_DOUBLE);
BASIC(ldouble, long double, KIND_LONG_DOUBLE);
BASIC(fcomplex, float complex, KIND_FLOAT_COMPLEX);
BASIC(dcomplex, double complex, KIND_DOUBLE_COMPLEX);
BASIC(2int, int[2], KIND_2INT);
BASIC(float_int, struct float_int, KIND_FLOAT_INT);
/* Its padding is sent, too: both sides have the same. */
BASIC(double_int, struct double_int, KIND_DOUBLE_INT);

int mpi_contiguous(const struct v3m_mpi_type *type)
{
    return type->segment_count == 0 && type->extent == (MPI_Aint)type->size;
}

static const struct segment *segments_of(const struct v3m_mpi_type *type, struct segment *one,
                                         uint32_t *count)
{
    *one = (struct segment){.bytes = type->size};
    *count = type->segment_count == 0 ? 1 : type->segment_count;
    return type->segment_count == 0 ? one : type->segments;
}

void mpi_pack(void *out, const void *in, int count, const struct v3m_mpi_type *type)
{
    struct segment one;
    uint32_t segments = 0;
    const struct segment *list = segments_of(type, &one, &segments);
    uint8_t *to = out;
    for (int element = 0; element < count; element++) {
        const uint8_t *from = (const uint8_t *)in + element * type->extent;
        for (uint32_t i = 0; i < segments; i++) {
            memcpy(to, from + list[i].offset, list[i].bytes);
            to += list[i].bytes;
        }
    }
}

/* What came may be less than there is room for. */
void mpi_unpack(void *out, const void *in, uint64_t bytes, const struct v3m_mpi_type *type)
{
    struct segment one;
    uint32_t segments = 0;
    const struct segment *list = segments_of(type, &one, &segments);
    const uint8_t *from = in;
    for (uint8_t *to = out; bytes != 0 && type->size != 0; to += type->extent) {
        for (uint32_t i = 0; i < segments && bytes != 0; i++) {
            uint64_t part = list[i].bytes < bytes ? list[i].bytes : bytes;
            memcpy(to + list[i].offset, from, part);
            from += part;
            bytes -= part;
        }
    }
}

void mpi_type_keep(MPI_Datatype type)
{
    type->users += type->users != 0;
}

void mpi_type_drop(MPI_Datatype type)
{
    if (type->users != 0 && --type->users == 0) {
        free(type->segments);
        free(type);
    }
}

/* Blocks of another type, each at its place, as one type. */
struct building {
    struct v3m_mpi_type *type;
    size_t room;
    MPI_Aint upper;
    int begun;
};

static int add_segment(struct building *building, MPI_Aint offset, size_t bytes)
{
    struct v3m_mpi_type *type = building->type;
    struct segment *last =
        type->segment_count == 0 ? NULL : &type->segments[type->segment_count - 1];
    type->size += bytes;
    if (last != NULL && last->offset + (MPI_Aint)last->bytes == offset) {
        last->bytes += bytes;
        return MPI_SUCCESS;
    }
    if (type->segment_count == building->room) {
        building->room = building->room * 2 + 8;
        struct segment *more = realloc(type->segments, building->room * sizeof(*type->segments));
        if (more == NULL) {
            return MPI_ERR_NO_MEM;
        }
        type->segments = more;
    }
    type->segments[type->segment_count++] = (struct segment){.offset = offset, .bytes = bytes};
    return MPI_SUCCESS;
}

static int add_block(struct building *building, MPI_Aint at, int length, MPI_Datatype old)
{
    struct segment one;
    uint32_t segments = 0;
    const struct segment *list = segments_of(old, &one, &segments);
    int code = MPI_SUCCESS;
    for (int element = 0; element < length; element++) {
        MPI_Aint base = at + element * old->extent;
        MPI_Aint begin = base + old->lower;
        MPI_Aint end = begin + old->extent;
        for (uint32_t i = 0; i < segments && code == MPI_SUCCESS; i++) {
            code = add_segment(building, base + list[i].offset, list[i].bytes);
        }
        building->type->lower =
            !building->begun || begin < building->type->lower ? begin : building->type->lower;
        building->upper = !building->begun || end > building->upper ? end : building->upper;
        building->begun = 1;
    }
    return code;
}

static int begin(struct building *building)
{
    *building = (struct building){.type = calloc(1, sizeof(struct v3m_mpi_type))};
    if (building->type == NULL) {
        return MPI_ERR_NO_MEM;
    }
    building->type->users = 1;
    return MPI_SUCCESS;
}

static int end(struct building *building, int code, const char *function, MPI_Datatype *out)
{
    struct v3m_mpi_type *type = building->type;
    if (code != MPI_SUCCESS) {
        if (type != NULL) {
            mpi_type_drop(type);
        }
        return mpi_fail(MPI_COMM_WORLD, function, code);
    }
    type->extent = building->upper - type->lower;
    if (type->segment_count == 1 && type->segments[0].offset == 0 && type->lower == 0) {
        type->segment_count = 0;
    } else if (type->segment_count == 0) {
        type->size = 0;
    }
    *out = type;
    return MPI_SUCCESS;
}

int MPI_Type_create_hvector(int count, int length, MPI_Aint stride, MPI_Datatype old,
                            MPI_Datatype *type)
{
    struct building building = {0};
    int code = count < 0 || length < 0 ? MPI_ERR_COUNT
               : old == NULL           ? MPI_ERR_TYPE
                                       : begin(&building);
    for (int i = 0; i < count && code == MPI_SUCCESS; i++) {
        code = add_block(&building, i * stride, length, old);
    }
    return end(&building, code, "MPI_Type_create_hvector", type);
}

int MPI_Type_contiguous(int count, MPI_Datatype old, MPI_Datatype *type)
{
    return MPI_Type_create_hvector(1, count, 0, old, type);
}

int MPI_Type_vector(int count, int length, int stride, MPI_Datatype old, MPI_Datatype *type)
{
    return MPI_Type_create_hvector(count, length, old == NULL ? 0 : stride * old->extent, old,
                                   type);
}

int MPI_Type_indexed(int count, const int *lengths, const int *displacements, MPI_Datatype old,
                     MPI_Datatype *type)
{
    struct building building = {0};
    int code = old == NULL ? MPI_ERR_TYPE : begin(&building);
    for (int i = 0; i < count && code == MPI_SUCCESS; i++) {
        code = add_block(&building, displacements[i] * old->extent, lengths[i], old);
    }
    return end(&building, code, "MPI_Type_indexed", type);
}

int MPI_Type_create_struct(int count, const int *lengths, const MPI_Aint *displacements,
                           const MPI_Datatype *types, MPI_Datatype *type)
{
    struct building building = {0};
    int code = begin(&building);
    for (int i = 0; i < count && code == MPI_SUCCESS; i++) {
        code = types[i] == NULL ? MPI_ERR_TYPE
                                : add_block(&building, displacements[i], lengths[i], types[i]);
    }
    return end(&building, code, "MPI_Type_create_struct", type);
}

int MPI_Type_struct(int count, int *lengths, MPI_Aint *displacements, MPI_Datatype *types,
                    MPI_Datatype *type)
{
    return MPI_Type_create_struct(count, lengths, displacements, types, type);
}

int MPI_Type_create_resized(MPI_Datatype old, MPI_Aint lower, MPI_Aint extent, MPI_Datatype *type)
{
    int code = MPI_Type_contiguous(1, old, type);
    if (code == MPI_SUCCESS) {
        (*type)->lower = lower;
        (*type)->extent = extent;
    }
    return code;
}

int MPI_Type_commit(MPI_Datatype *type)
{
    return *type == NULL ? mpi_fail(MPI_COMM_WORLD, "MPI_Type_commit", MPI_ERR_TYPE) : MPI_SUCCESS;
}

int MPI_Type_free(MPI_Datatype *type)
{
    if (*type == NULL || (*type)->users == 0) {
        return mpi_fail(MPI_COMM_WORLD, "MPI_Type_free", MPI_ERR_TYPE);
    }
    mpi_type_drop(*type);
    *type = MPI_DATATYPE_NULL;
    return MPI_SUCCESS;
}

int MPI_Type_size(MPI_Datatype type, int *size)
{
    *size = (int)type->size;
    return MPI_SUCCESS;
}

int MPI_Type_get_extent(MPI_Datatype type, MPI_Aint *lower, MPI_Aint *extent)
{
    *lower = type->lower;
    *extent = type->extent;
    return MPI_SUCCESS;
}

int MPI_Type_extent(MPI_Datatype type, MPI_Aint *extent)
{
    *extent = type->extent;
    return MPI_SUCCESS;
}

int MPI_Get_address(const void *location, MPI_Aint *address)
{
    *address = (MPI_Aint)location;
    return MPI_SUCCESS;
}

int MPI_Address(void *location, MPI_Aint *address)
{
    return MPI_Get_address(location, address);
}
