/* SPDX-License-Identifier: Apache-2.0 */
#include "yod_rig.h"

#include <ftw.h>
#include <sys/mman.h>
#include <time.h>

static void *memory_at(void *opaque, uint64_t gpa, uint64_t bytes)
{
    struct yod_rig *rig = opaque;
    return gpa <= RIG_RAM && bytes <= RIG_RAM - gpa ? rig->ram + gpa : NULL;
}

static void interrupt(void *opaque, uint32_t level)
{
    struct yod_rig *rig = opaque;
    if (level == 1 && rig->level == 0) {
        (void)atomic_fetch_add(&rig->pulses, 1);
    }
    rig->level = level;
}

static uint64_t exits(void *opaque)
{
    (void)opaque;
    return 42;
}

const char *yod_path(struct yod_rig *rig, const char *name)
{
    static uint32_t turn;
    char *text = rig->text + (size_t)(turn++ % 8) * 1024;
    (void)snprintf(text, 1024, "%s/%s", rig->tree, name);
    return text;
}

void yod_make(struct yod_rig *rig, const char *name, const char *text)
{
    FILE *file = fopen(yod_path(rig, name), "w");
    if (CHECK(file != NULL)) {
        (void)fputs(text, file);
        (void)fclose(file);
    }
}

bool yod_holds(struct yod_rig *rig, const char *name, const char *text)
{
    char found[4096] = "";
    FILE *file = fopen(yod_path(rig, name), "r");
    size_t bytes = file == NULL ? 0 : fread(found, 1, sizeof(found) - 1, file);
    if (file != NULL) {
        (void)fclose(file);
    }
    found[bytes] = '\0';
    return file != NULL && strcmp(found, text) == 0;
}

struct yod_rig *yod_rig_tree(void)
{
    static const char *const directories[] = {"ro", "ro/sub", "rw", "rw/sub", "out"};
    struct yod_rig *rig = calloc(1, sizeof(*rig));
    char real[256];
    const char *where = getenv("TMPDIR");
    (void)snprintf(rig->tree, sizeof(rig->tree), "%s/yod-test-XXXXXX",
                   where != NULL ? where : "/tmp");
    CHECK(mkdtemp(rig->tree) != NULL && realpath(rig->tree, real) != NULL);
    (void)snprintf(rig->tree, sizeof(rig->tree), "%s", real);
    for (size_t i = 0; i < VH_COUNT(directories); i++) {
        CHECK(mkdir(yod_path(rig, directories[i]), 0755) == 0);
    }
    yod_make(rig, "ro/file", "read only\n");
    yod_make(rig, "ro/sub/deep", "deep\n");
    yod_make(rig, "rw/file", "writable\n");
    yod_make(rig, "out/secret", "secret\n");
    rig->ram = mmap(NULL, RIG_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    rig->queue = (struct yod_queue *)(rig->ram + RIG_QUEUE);
    rig->queue->version = YOD_LAUNCH_VERSION;
    rig->queue->slots = YOD_SLOTS;
    rig->roots[0] = (struct vmmhpc_yod_root){.path = strdup(yod_path(rig, "ro"))};
    rig->roots[1] = (struct vmmhpc_yod_root){.path = strdup(yod_path(rig, "rw")), .writable = 1};
    rig->config = (struct vmmhpc_yod_config){.size = sizeof(rig->config),
                                             .root_count = 2,
                                             .roots = rig->roots,
                                             .cwd = rig->roots[1].path,
                                             .cmdline = "app\0one",
                                             .cmdline_bytes = 8,
                                             .fds = {-1, -1, -1},
                                             .cpus = 2,
                                             .memory_bytes = 128u << 20};
    return rig;
}

void yod_rig_start(struct yod_rig *rig)
{
    struct yd_machine machine = {rig, memory_at, interrupt, exits};
    struct vmmhpc_error err = {.size = sizeof(err)};
    CHECK_OK(yd_create(&machine, &rig->config, &rig->yod, &err), &err);
    yod_out(rig, YOD_REG_QUEUE, RIG_QUEUE >> 12);
}

struct yod_rig *yod_rig_new(void)
{
    struct yod_rig *rig = yod_rig_tree();
    yod_rig_start(rig);
    return rig;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void yod_rig_free(struct yod_rig *rig)
{
    if (rig->yod != NULL) {
        yd_destroy(rig->yod);
    }
    (void)nftw(rig->tree, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    (void)munmap(rig->ram, RIG_RAM);
    for (uint32_t i = 0; i < 8; i++) {
        free((void *)(uintptr_t)rig->roots[i].path);
    }
    free(rig);
}

void yod_out(struct yod_rig *rig, uint64_t reg, uint64_t value)
{
    (void)yd_port(rig->yod, 0, reg, 4, VMMHPC_ACCESS_WRITE, value);
}

struct yod_arg yod_string(struct yod_rig *rig, const char *text)
{
    size_t bytes = strlen(text) + 1;
    uint32_t at = RIG_STRINGS + rig->strings;
    memcpy(rig->ram + at, text, bytes);
    rig->strings = (uint32_t)((rig->strings + bytes) % 0x80000);
    return (struct yod_arg){at, bytes};
}

bool yod_post(struct yod_rig *rig, uint32_t slot, uint32_t call, const struct yod_arg args[6])
{
    struct yod_slot *shared = &rig->queue->slot[slot];
    shared->call = call;
    shared->result = INT64_MIN;
    for (uint32_t i = 0; i < 6; i++) {
        shared->args[i] = args[i].value;
        shared->extent[i] = args[i].extent;
    }
    __atomic_store_n(&shared->state, YOD_SLOT_POSTED, __ATOMIC_RELEASE);
    yod_out(rig, YOD_REG_DOORBELL, slot);
    return __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == YOD_SLOT_DONE;
}

bool yod_await(struct yod_rig *rig, uint32_t slot, uint32_t ms)
{
    struct timespec pause = {0, 1000000};
    for (uint32_t i = 0; i <= ms; i++) {
        if (__atomic_load_n(&rig->queue->slot[slot].state, __ATOMIC_ACQUIRE) == YOD_SLOT_DONE) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

int64_t yod_call(struct yod_rig *rig, uint32_t call, const struct yod_arg args[6])
{
    (void)yod_post(rig, RIG_SLOT, call, args);
    CHECK(yod_await(rig, RIG_SLOT, 10000));
    return RESULT(RIG_SLOT);
}
