/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed snapshots of machines without KVM: what comes back, and what is refused. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "snapshot_packed.h"
#include "snapshot_rig.h"
#include "tap.h"

#define NOISE 0x280000 /* where memory is that cannot be compressed */
#define NOISE_BYTES 0x80000

/* A machine with some memory that can be compressed, and some that cannot. */
static struct snapshot_rig filled(void)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    uint32_t *noise = vh_memory_at(&rig.vm->memory, NOISE, NOISE_BYTES);
    uint32_t seed = 1;
    for (size_t i = 0; i < NOISE_BYTES / sizeof(*noise); i++) {
        seed = seed * 1664525 + 1013904223;
        noise[i] = seed ^ seed >> 16;
    }
    memset(vh_memory_at(&rig.vm->memory, 0x230000, 0x20000), 0x5a, 0x20000);
    return rig;
}

static bool same_memory(const struct vmmhpc *a, const struct vmmhpc *b)
{
    return memcmp(a->memory.mappings[0].base, b->memory.mappings[0].base,
                  a->memory.mappings[0].bytes) == 0;
}

/* A machine that was restored has the memory of the rig's. */
static void check_restored(struct snapshot_rig *rig, const char *path)
{
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_verify(path, &rig->err), &rig->err);
    CHECK_OK(vmmhpc_snapshot_restore(vm, path, 0, &rig->err), &rig->err);
    CHECK(same_memory(vm, rig->vm));
    machine_rig_free(vm);
}

/* Everything in it, and nothing else: what is left over makes the last rmdir() fail. */
static void remove_all(char *root, const char *const *names, size_t count)
{
    static const char *const files[] = {"state", "memory", "memory-1", "memory-2"};
    char path[128];
    char file[160];
    for (size_t i = 0; i < count; i++) {
        snapshot_rig_join(path, sizeof(path), root, names[i]);
        for (size_t j = 0; j < VH_COUNT(files); j++) {
            snapshot_rig_join(file, sizeof(file), path, files[j]);
            (void)unlink(file);
        }
        CHECK_EQ(rmdir(path), 0);
    }
    CHECK_EQ(rmdir(root), 0);
    free(root);
}

static void path_of(char path[128], const char *root, const char *name)
{
    snapshot_rig_join(path, 128, root, name);
}

TEST(snapshot_packed)
{
    struct snapshot_rig rig = filled();
    char *root = snapshot_rig_scratch();
    char path[128];
    char memory[160];
    struct stat there;
    struct vmmhpc_snapshot_info info = {.size = sizeof(info)};
    path_of(path, root, "s");
    snapshot_rig_join(memory, sizeof(memory), path, "memory");
    CHECK_ERROR(vmmhpc_snapshot_save_since(rig.vm, path, NULL, 2, NULL, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "unknown flags 0x2");
    CHECK_OK(vmmhpc_snapshot_save_since(rig.vm, path, NULL, VMMHPC_SNAPSHOT_COMPRESS, "a note", 6,
                                        &rig.err),
             &rig.err);
    CHECK_OK(vmmhpc_snapshot_read(path, &info, NULL, 0, &rig.err), &rig.err);
    CHECK_EQ(stat(memory, &there), 0);
    CHECK_EQ(there.st_mode & 0777, 0400);
    CHECK_EQ(info.codec, VMMHPC_SNAPSHOT_ZSTD);
    CHECK_EQ(info.stored_bytes, there.st_size);
    CHECK_EQ(info.note_bytes, 6);
    CHECK(info.own_bytes == info.data_bytes && info.data_bytes >= NOISE_BYTES + 0x20000);
    CHECK(info.stored_bytes > NOISE_BYTES && info.stored_bytes < NOISE_BYTES + 0x8000);
    check_restored(&rig, path);

    /* Its memory is its own, so it can be given back to the host, and read without the file. */
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_restore(vm, path, 0, &rig.err), &rig.err);
    CHECK(!vm->memory.restored);
    const char *const names[] = {"s"};
    remove_all(root, names, 1);
    CHECK(same_memory(vm, rig.vm));
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

/* `zstd -d` gives the pages that are not zeroes. */
TEST(snapshot_packed_is_zstd)
{
    struct snapshot_rig rig = filled();
    char *root = snapshot_rig_scratch();
    char path[128];
    char memory[160];
    size_t bytes = 0;
    struct vmmhpc_snapshot_info info = {.size = sizeof(info)};
    path_of(path, root, "s");
    snapshot_rig_join(memory, sizeof(memory), path, "memory");
    CHECK_OK(
        vmmhpc_snapshot_save_since(rig.vm, path, NULL, VMMHPC_SNAPSHOT_COMPRESS, NULL, 0, &rig.err),
        &rig.err);
    CHECK_OK(vmmhpc_snapshot_read(path, &info, NULL, 0, &rig.err), &rig.err);
    int fd = open(memory, O_RDONLY | O_CLOEXEC);
    uint8_t *data = snapshot_rig_contents(fd, &bytes);
    uint8_t *pages = malloc(info.own_bytes);
    CHECK(pages != NULL);
    CHECK_EQ(ZSTD_decompress(pages, info.own_bytes, data, bytes), info.own_bytes);
    CHECK_EQ(
        memcmp(pages + info.own_bytes - 4096, vh_memory_at(&rig.vm->memory, 0x3ff000, 4096), 4096),
        0);
    free(pages);
    free(data);
    (void)close(fd);
    const char *const names[] = {"s"};
    remove_all(root, names, 1);
    snapshot_rig_release(&rig);
}

/* Whether it is compressed, what it is based on, and the other way round: all go together. */
TEST(snapshot_packed_bases)
{
    static const char *const names[] = {"first", "second", "third"};
    for (unsigned which = 0; which < 8; which++) {
        struct snapshot_rig rig = filled();
        char *root = snapshot_rig_scratch();
        char path[3][128];
        struct vmmhpc_snapshot_info info = {.size = sizeof(info)};
        for (unsigned i = 0; i < 3; i++) {
            const uint32_t flags = (which >> i & 1) != 0 ? VMMHPC_SNAPSHOT_COMPRESS : 0;
            path_of(path[i], root, names[i]);
            CHECK_OK(vmmhpc_snapshot_save_since(rig.vm, path[i], i == 0 ? NULL : path[i - 1], flags,
                                                NULL, 0, &rig.err),
                     &rig.err);
            CHECK_OK(vmmhpc_snapshot_read(path[i], &info, NULL, 0, &rig.err), &rig.err);
            CHECK_EQ(info.layers, i + 1);
            CHECK_EQ(info.codec, flags != 0 ? VMMHPC_SNAPSHOT_ZSTD : VMMHPC_SNAPSHOT_PLAIN);
            CHECK(i == 0 || info.own_bytes <= 0x31000);
            check_restored(&rig, path[i]);
            /* Pages become others, zeroes, and something again: short runs and long ones. */
            memset(vh_memory_at(&rig.vm->memory, NOISE + 0x3000, 4096), (int)i, 4096);
            memset(vh_memory_at(&rig.vm->memory, NOISE + 0x20000, 0x20000), i == 0 ? 0 : 9,
                   0x20000);
            memset(vh_memory_at(&rig.vm->memory, 0x3c0000, 0x10000), i == 0 ? 7 : 0, 0x10000);
        }
        remove_all(root, names, 3);
        snapshot_rig_release(&rig);
    }
}

/* One that is there already is compressed: the same, as a copy. */
TEST(snapshot_packed_later)
{
    struct snapshot_rig rig = filled();
    char *root = snapshot_rig_scratch();
    char first[128];
    char second[128];
    char made[128];
    struct vmmhpc_snapshot_info before = {.size = sizeof(before)};
    struct vmmhpc_snapshot_info after = {.size = sizeof(after)};
    path_of(first, root, "first");
    path_of(second, root, "second");
    path_of(made, root, "made");
    CHECK_OK(vmmhpc_snapshot_save(rig.vm, first, NULL, 0, &rig.err), &rig.err);
    memset(vh_memory_at(&rig.vm->memory, NOISE, 0x20000), 7, 0x20000);
    CHECK_OK(vmmhpc_snapshot_save_since(rig.vm, second, first, 0, "n", 1, &rig.err), &rig.err);
    CHECK_OK(vmmhpc_snapshot_compress(second, made, &rig.err), &rig.err);
    CHECK_OK(vmmhpc_snapshot_read(second, &before, NULL, 0, &rig.err), &rig.err);
    CHECK_OK(vmmhpc_snapshot_read(made, &after, NULL, 0, &rig.err), &rig.err);
    CHECK_EQ(memcmp(before.id, after.id, sizeof(after.id)), 0);
    CHECK_EQ(after.created_ns, before.created_ns);
    CHECK_EQ(after.note_bytes, 1);
    CHECK(after.stored_bytes < before.stored_bytes / 8);
    check_restored(&rig, made);
    check_restored(&rig, second);
    CHECK_ERROR(vmmhpc_snapshot_compress(made, second, &rig.err), &rig.err, VMMHPC_E_IO,
                "File exists");
    path_of(second, root, "again");
    CHECK_ERROR(vmmhpc_snapshot_compress(made, second, &rig.err), &rig.err, VMMHPC_E_INVALID,
                "compressed already");
    CHECK_ERROR(vmmhpc_snapshot_compress(second, second, &rig.err), &rig.err, VMMHPC_E_IO,
                "cannot open the snapshot");
    const char *const names[] = {"first", "second", "made"};
    remove_all(root, names, 3);
    snapshot_rig_release(&rig);
}

/* ------------------------------------------------------------------ damage */

/* A compressed snapshot as two files in memory, and what is in them. */
struct packed {
    int state_fd;
    int memory_fd;
    uint8_t *state;
    size_t state_bytes;
    uint8_t *memory;
    size_t memory_bytes;
    struct vh_snap_packed about;
    struct vmmhpc_error err;
};

static struct packed packed_of(struct snapshot_rig *rig)
{
    struct packed packed = {.err = {.size = sizeof(packed.err)}};
    packed.state_fd = memfd_create("state", MFD_CLOEXEC);
    packed.memory_fd = memfd_create("memory", MFD_CLOEXEC);
    const struct vh_snap_pair from = {rig->state_fd, rig->memory_fd};
    const struct vh_snap_pair to = {packed.state_fd, packed.memory_fd};
    CHECK_OK(vh_snap_compress(&from, &to, false, &rig->err), &rig->err);
    packed.state = snapshot_rig_contents(packed.state_fd, &packed.state_bytes);
    packed.memory = snapshot_rig_contents(packed.memory_fd, &packed.memory_bytes);
    memcpy(&packed.about,
           packed.state + snapshot_rig_payload(packed.state, packed.state_bytes, VH_SNAP_PACKED),
           sizeof(packed.about));
    CHECK_EQ(packed.about.file_bytes, packed.memory_bytes);
    return packed;
}

static void packed_free(struct packed *packed)
{
    (void)close(packed->state_fd);
    (void)close(packed->memory_fd);
    free(packed->state);
    free(packed->memory);
}

static int32_t restored(struct packed *packed)
{
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    int32_t status = vmmhpc_snapshot_load(vm, packed->state_fd, packed->memory_fd, 0, &packed->err);
    machine_rig_free(vm);
    return status;
}

static int32_t verified(struct packed *packed)
{
    const struct vh_snapshot_files files = {
        .state_fd = packed->state_fd, .layers = 1, .memory_fds = {packed->memory_fd}};
    return vh_snap_verify(&files, &packed->err);
}

/* What both say, which is the same. */
static int32_t use(struct packed *packed)
{
    int32_t status = restored(packed);
    CHECK_EQ(verified(packed), status);
    return status;
}

TEST(snapshot_packed_every_damaged_byte)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct packed packed = packed_of(&rig);
    CHECK_OK(use(&packed), &packed.err);
    for (size_t at = 0; at < packed.memory_bytes; at++) {
        uint8_t byte = packed.memory[at] ^ 0x10;
        CHECK_EQ(pwrite(packed.memory_fd, &byte, 1, (off_t)at), 1);
        CHECK_EQ(use(&packed), VMMHPC_E_BAD_IMAGE);
        CHECK_EQ(pwrite(packed.memory_fd, &packed.memory[at], 1, (off_t)at), 1);
    }
    for (size_t length = 0; length < packed.memory_bytes; length++) {
        CHECK_EQ(ftruncate(packed.memory_fd, (off_t)length), 0);
        CHECK_EQ(use(&packed), VMMHPC_E_TRUNCATED);
        snapshot_rig_replace(packed.memory_fd, packed.memory, packed.memory_bytes);
    }
    CHECK_EQ(ftruncate(packed.memory_fd, (off_t)packed.memory_bytes + 1), 0);
    CHECK_EQ(use(&packed), VMMHPC_E_BAD_IMAGE);
    packed_free(&packed);
    snapshot_rig_release(&rig);
}

/* As damage never is: the file as it is now, with checksums and lengths that fit. */
static void put_right(struct packed *packed, const uint8_t *memory, size_t bytes)
{
    struct vh_snap_packed about = packed->about;
    const size_t at = snapshot_rig_payload(packed->state, packed->state_bytes, VH_SNAP_PACKED);
    about.file_bytes = bytes;
    about.index_crc = vh_crc32c(0, memory + bytes - about.index_bytes, about.index_bytes);
    memcpy(packed->state + at, &about, sizeof(about));
    snapshot_rig_patch(packed->state_fd, packed->state, packed->state_bytes, at, about.file_bytes);
    snapshot_rig_replace(packed->memory_fd, memory, bytes);
}

TEST(snapshot_packed_hostile_index)
{
    struct snapshot_rig rig = filled();
    snapshot_rig_replace(rig.state_fd, NULL, 0);
    CHECK_OK(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, NULL, 0, &rig.err),
             &rig.err);
    struct packed packed = packed_of(&rig);
    const size_t index = packed.memory_bytes - packed.about.index_bytes;
    const size_t entry = sizeof(struct vh_packed_entry);
    CHECK(packed.about.index_bytes >= 4 * entry);
    const struct {
        size_t at;
        uint64_t value;
        size_t width;
    } rows[] = {
        {index, 15, 8},                          /* chunks do not ascend */
        {index + entry, 0, 8},                   /* twice the same */
        {index + entry, UINT64_MAX, 8},          /* and behind the end of memory, in many ways */
        {index + entry, UINT64_MAX / 64 + 1, 8}, //
        {packed.memory_bytes - entry, 16, 8},    //
        {index + 8, 0, 8},                       /* a chunk without pages */
        {index + 8, UINT64_MAX, 8},              /* of more pages than the frame gives */
        {index + 8, 1, 8},                       /* of less */
        {index + 16, 0, 4},                      /* frames of no length, of others, of too much */
        {index + 16, 1, 4},                      //
        {index + 16, UINT32_MAX, 4},             //
        {index + 16 + entry, 0x7fffffff, 4},     //
        {index + 20, 0, 4},                      /* another checksum */
        {index - 8, 0, 4},                       /* the tail */
        {index - 4, 0, 4},                       //
        {index - 4, UINT32_MAX, 4},              //
    };
    for (size_t i = 0; i < VH_COUNT(rows); i++) {
        uint8_t *copy = malloc(packed.memory_bytes);
        CHECK(copy != NULL);
        memcpy(copy, packed.memory, packed.memory_bytes);
        memcpy(copy + rows[i].at, &rows[i].value, rows[i].width);
        put_right(&packed, copy, packed.memory_bytes);
        CHECK_EQ(use(&packed), VMMHPC_E_BAD_IMAGE);
        free(copy);
    }
    put_right(&packed, packed.memory, packed.memory_bytes);
    CHECK_OK(use(&packed), &packed.err);
    packed_free(&packed);
    snapshot_rig_release(&rig);
}

/* What the state says of a file. */
TEST(snapshot_packed_hostile_state)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct packed packed = packed_of(&rig);
    const size_t at = snapshot_rig_payload(packed.state, packed.state_bytes, VH_SNAP_PACKED);
    const uint64_t rest = (uint64_t)VMMHPC_SNAPSHOT_ZSTD << 32;
    const struct {
        size_t at;
        uint64_t value;
        int32_t status;
        const char *text;
    } rows[] = {
        {at, packed.memory_bytes + 1, VMMHPC_E_TRUNCATED, "compressed memory has"},
        {at, UINT64_MAX, VMMHPC_E_TRUNCATED, "compressed memory has"},
        {at, 0, VMMHPC_E_BAD_IMAGE, "should have 0"},
        {at + 8, 0, VMMHPC_E_BAD_IMAGE, "makes no sense"},
        {at + 8, 23, VMMHPC_E_BAD_IMAGE, "makes no sense"},
        {at + 8, packed.memory_bytes / 24 * 24, VMMHPC_E_BAD_IMAGE, "makes no sense"},
        {at + 8, UINT64_MAX / 24 * 24, VMMHPC_E_BAD_IMAGE, "makes no sense"},
        {at + 16, rest | (packed.about.index_crc ^ 1), VMMHPC_E_BAD_IMAGE, "checksum of its index"},
        {at + 16, 2ull << 32, VMMHPC_E_UNSUPPORTED, "compressed in a way"},
        {at + 16, 0, VMMHPC_E_TRUNCATED, "the snapshot's memory has"}, /* not compressed */
        {at - 8, 16, VMMHPC_E_BAD_IMAGE, "damaged"},                   /* the section's length */
    };
    for (size_t i = 0; i < VH_COUNT(rows); i++) {
        snapshot_rig_patch(packed.state_fd, packed.state, packed.state_bytes, rows[i].at,
                           rows[i].value);
        CHECK_ERROR(use(&packed), &packed.err, rows[i].status, rows[i].text);
    }
    packed_free(&packed);
    snapshot_rig_release(&rig);
}

/* The last chunk gets another frame. */
static void put_frame(struct packed *packed, const void *frame, size_t bytes)
{
    struct vh_packed_entry last;
    const size_t index = packed->about.index_bytes;
    const size_t frames = packed->memory_bytes - index - sizeof(struct vh_packed_tail);
    memcpy(&last, packed->memory + packed->memory_bytes - sizeof(last), sizeof(last));
    const size_t kept = frames - last.bytes;
    const size_t whole = kept + bytes + sizeof(struct vh_packed_tail) + index;
    uint8_t *copy = malloc(whole);
    CHECK(copy != NULL);
    memcpy(copy, packed->memory, kept);
    memcpy(copy + kept, frame, bytes);
    memcpy(copy + kept + bytes, packed->memory + frames, whole - kept - bytes);
    last.bytes = (uint32_t)bytes;
    last.crc = vh_crc32c(0, frame, bytes);
    memcpy(copy + whole - sizeof(last), &last, sizeof(last));
    put_right(packed, copy, whole);
    free(copy);
}

static void check_bomb(struct packed *packed, const void *frame, size_t bytes)
{
    put_frame(packed, frame, bytes);
    CHECK_ERROR(use(packed), &packed->err, VMMHPC_E_BAD_IMAGE, "");
}

/* Frames that give something else than the index says, whatever they say themselves. */
TEST(snapshot_packed_bombs)
{
    enum { BOMB = 64 << 20, ROOM = 1 << 16 };
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct packed packed = packed_of(&rig);
    struct vh_packed_entry last;
    memcpy(&last, packed.memory + packed.memory_bytes - sizeof(last), sizeof(last));
    const size_t size = (size_t)__builtin_popcountll(last.pages) * 4096;
    uint8_t *zeroes = calloc(1, BOMB);
    uint8_t *frame = malloc(ROOM);
    CHECK(zeroes != NULL && frame != NULL);

    /* As long as it should be: the contents are others, which only the checksum of memory tells. */
    size_t bytes = ZSTD_compress(frame, ROOM, zeroes, size, 1);
    put_frame(&packed, frame, bytes);
    CHECK_OK(restored(&packed), &packed.err);
    CHECK_ERROR(verified(&packed), &packed.err, VMMHPC_E_BAD_IMAGE, "checksum of memory region 0");

    /* Shorter, longer, longer and says that it is not. */
    check_bomb(&packed, frame, ZSTD_compress(frame, ROOM, zeroes, size - 1, 1));
    bytes = ZSTD_compress(frame, ROOM, zeroes, BOMB, 1);
    check_bomb(&packed, frame, bytes);
    const uint32_t says = BOMB;
    uint8_t *where = memmem(frame, 16, &says, sizeof(says));
    CHECK(where != NULL);
    const uint32_t lie = (uint32_t)size;
    memcpy(where, &lie, sizeof(lie));
    check_bomb(&packed, frame, bytes);

    /* It does not say. Two of them. None. */
    ZSTD_CCtx *stream = ZSTD_createCCtx();
    (void)ZSTD_CCtx_setParameter(stream, ZSTD_c_contentSizeFlag, 0);
    check_bomb(&packed, frame, ZSTD_compress2(stream, frame, ROOM, zeroes, size));
    (void)ZSTD_freeCCtx(stream);
    bytes = ZSTD_compress(frame, ROOM, zeroes, size, 1);
    size_t more = ZSTD_compress(frame + bytes, ROOM - bytes, zeroes, 0, 1);
    check_bomb(&packed, frame, bytes + more);
    static const uint8_t skipped[] = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
    check_bomb(&packed, skipped, sizeof(skipped));
    check_bomb(&packed, frame, 3);

    free(zeroes);
    free(frame);
    packed_free(&packed);
    snapshot_rig_release(&rig);
}

/* More than the machine has is not even unpacked. */
TEST(snapshot_packed_of_another_machine)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct packed packed = packed_of(&rig);
    struct vmmhpc *vm = machine_rig_new(2);
    CHECK_ERROR(vmmhpc_snapshot_load(vm, packed.state_fd, packed.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "is of 4 MiB of memory, the machine has 2 MiB");
    machine_rig_free(vm);
    vm = machine_rig_new(8);
    CHECK(machine_rig_echo(vm) != NULL);
    CHECK_ERROR(vmmhpc_snapshot_load(vm, packed.state_fd, packed.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "memory region 0 has 4 MiB in the snapshot, 8 MiB");
    machine_rig_free(vm);
    packed_free(&packed);
    snapshot_rig_release(&rig);
}
