/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shipped calls by a hostile guest: sequences of slots against a small tree of directories, one of
 * them read-only, one writable, one outside. Whatever is called, every descriptor stays beneath a
 * root, and what is read-only or outside is as it was.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "yod_internal.h"

#define RAM ((size_t)1 << 20)
#define QUEUE 0x10000u
#define SCRATCH 0x40000u
#define SCRATCH_BYTES 0x40000u
#define STEPS_MAX 48u
#define FILE_MAX (1u << 20)

/* How the arguments of a call are made: p path, f descriptor, b buffer, s structure, n small
 * number, l any number. A buffer's size is the next argument where that is a number. */
static const struct {
    uint32_t call;
    const char *args;
} calls[] = {
    {SYS_open, "pln"},        {SYS_openat, "fpln"},    {SYS_creat, "pn"},
    {SYS_close, "f"},         {SYS_read, "fbn"},       {SYS_write, "fbn"},
    {SYS_pread64, "fbnl"},    {SYS_pwrite64, "fbnn"},  {SYS_lseek, "fln"},
    {SYS_stat, "ps"},         {SYS_lstat, "ps"},       {SYS_fstat, "fs"},
    {SYS_newfstatat, "fpsl"}, {SYS_statx, "fplls"},    {SYS_statfs, "ps"},
    {SYS_fstatfs, "fs"},      {SYS_access, "pn"},      {SYS_faccessat, "fpn"},
    {SYS_faccessat2, "fpnl"}, {SYS_readlink, "pbn"},   {SYS_readlinkat, "fpbn"},
    {SYS_getdents, "fbn"},    {SYS_getdents64, "fbn"}, {SYS_dup, "f"},
    {SYS_dup2, "ff"},         {SYS_dup3, "ffl"},       {SYS_pipe, "s"},
    {SYS_pipe2, "sl"},        {SYS_fcntl, "fnl"},      {SYS_fcntl, "fns"},
    {SYS_ioctl, "fls"},       {SYS_truncate, "pn"},    {SYS_ftruncate, "fn"},
    {SYS_fallocate, "fnnn"},  {SYS_fsync, "f"},        {SYS_fdatasync, "f"},
    {SYS_flock, "fn"},        {SYS_rename, "pp"},      {SYS_renameat, "fpfp"},
    {SYS_renameat2, "fpfpn"}, {SYS_mkdir, "pn"},       {SYS_mkdirat, "fpn"},
    {SYS_rmdir, "p"},         {SYS_unlink, "p"},       {SYS_unlinkat, "fpl"},
    {SYS_link, "pp"},         {SYS_linkat, "fpfpl"},   {SYS_symlink, "pp"},
    {SYS_symlinkat, "pfp"},   {SYS_chmod, "pn"},       {SYS_fchmod, "fn"},
    {SYS_fchmodat, "fpn"},    {SYS_chown, "pnn"},      {SYS_lchown, "pnn"},
    {SYS_fchown, "fnn"},      {SYS_fchownat, "fpnnl"}, {SYS_utime, "ps"},
    {SYS_utimes, "ps"},       {SYS_futimesat, "fps"},  {SYS_utimensat, "fpsl"},
    {SYS_chdir, "p"},         {SYS_fchdir, "f"},       {SYS_getcwd, "bn"},
    {SYS_umask, "n"},         {SYS_poll, "snn"},       {SYS_ppoll, "snssn"},
    {SYS_socket, "nnn"},      {YOD_CALL_CANCEL, "n"},  {UINT32_MAX, "lll"},
};

/* Pieces of paths; TREE is put in their place. */
static const char *const pieces[] = {"file",
                                     "sub",
                                     "..",
                                     ".",
                                     "/",
                                     "",
                                     "link",
                                     "new",
                                     "deep",
                                     "fifo",
                                     "ro",
                                     "rw",
                                     "out",
                                     "secret",
                                     "proc",
                                     "self",
                                     "exe",
                                     "fd",
                                     "TREE",
                                     "TREE/rw",
                                     "TREE/ro",
                                     "TREE/out",
                                     "/proc/self/fd",
                                     "/dev/null",
                                     "/dev/stdin",
                                     "/sys",
                                     "devices/system/cpu",
                                     "cpuinfo",
                                     "/proc/self/root",
                                     "app",
                                     "inner",
                                     "kept",
                                     "TREE/rw/kept",
                                     "/proc/cpuinfo",
                                     "/proc/self/cmdline",
                                     "/proc/stat",
                                     "/proc/self/status",
                                     "/sys/devices/system/cpu",
                                     "/proc/self/exe",
                                     "TREE/out/app"};

static struct {
    char tree[128];
    uint8_t *ram;
    struct yod_queue *queue;
    struct rlimit files;
} world;

struct input {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t scratch;
    uint32_t successes;
};

static uint8_t next(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static uint64_t number(struct input *in)
{
    static const uint64_t usual[] = {
        0,
        1,
        2,
        O_CREAT | O_RDWR,
        O_DIRECTORY,
        O_PATH,
        O_NONBLOCK | O_WRONLY,
        AT_EMPTY_PATH,
        AT_SYMLINK_NOFOLLOW,
        AT_REMOVEDIR,
        (uint64_t)-1,
        INT64_MAX,
        0x5401,
        0x5421,
        4096,
        O_TMPFILE | O_RDWR,
        O_CREAT | O_TRUNC | O_WRONLY,
        O_NOFOLLOW,
        (uint64_t)AT_FDCWD,
        0777,
    };
    uint8_t kind = next(in);
    uint64_t value = 0;
    if (kind < 0xf0) {
        return usual[kind % VH_COUNT(usual)];
    }
    for (uint32_t i = 0; i < 8; i++) {
        value = value << 8 | next(in);
    }
    return value;
}

/* A path in guest memory. */
static void path(struct input *in, uint64_t *address, uint64_t *extent)
{
    char text[1024] = "";
    uint32_t count = next(in);
    if (count >= 0xf8) { /* raw: whatever is there */
        *address = number(in);
        *extent = number(in);
        return;
    }
    for (uint32_t i = 0; i <= count % 4; i++) {
        const char *piece = pieces[next(in) % VH_COUNT(pieces)];
        size_t used = strlen(text);
        if (strncmp(piece, "TREE", 4) == 0) {
            (void)snprintf(text + used, sizeof(text) - used, "%s%s%s", i == 0 ? "" : "/",
                           world.tree, piece + 4);
        } else {
            (void)snprintf(text + used, sizeof(text) - used, "%s%s", i == 0 ? "" : "/", piece);
        }
    }
    if ((count & 0x80) != 0) {
        (void)strncat(text, "/", sizeof(text) - strlen(text) - 1);
    }
    size_t bytes = strlen(text) + 1;
    *address = SCRATCH + in->scratch;
    *extent = bytes;
    memcpy(world.ram + *address, text, bytes);
    in->scratch = (uint32_t)((in->scratch + bytes) % (SCRATCH_BYTES / 2));
}

static void memory(struct input *in, uint64_t *address, uint64_t *extent)
{
    static const uint64_t sizes[] = {0,   1,   8,   16,   32,    36,        64,
                                     120, 144, 256, 4096, 70000, UINT64_MAX};
    uint8_t kind = next(in);
    *extent = sizes[kind % VH_COUNT(sizes)];
    *address = SCRATCH + SCRATCH_BYTES + (uint64_t)(kind & 0xe0) * 16;
    if (kind == 0xff) {
        *address = number(in);
        *extent = number(in);
    } else if (kind == 0xfe) {
        *address = YOD_NO_ADDRESS;
        *extent = 0;
    } else if (kind >= 0xf0) { /* something in it */
        for (uint32_t i = 0; i < 32; i++) {
            world.ram[*address + i] = next(in);
        }
    }
}

static void fill_slot(struct input *in, struct yod_slot *slot)
{
    uint8_t which = next(in);
    const char *args = calls[which % VH_COUNT(calls)].args;
    memset(slot, 0, sizeof(*slot));
    slot->call = calls[which % VH_COUNT(calls)].call;
    for (uint32_t i = 0; args[i] != '\0'; i++) {
        switch (args[i]) {
        case 'p':
            path(in, &slot->args[i], &slot->extent[i]);
            break;
        case 'f': {
            uint8_t fd = next(in);
            slot->args[i] = fd < 0x40 ? (uint64_t)AT_FDCWD : fd < 0xf0 ? fd % 12u : number(in);
            break;
        }
        case 'b':
        case 's':
            memory(in, &slot->args[i], &slot->extent[i]);
            break;
        case 'n':
            slot->args[i] = i > 0 && args[i - 1] == 'b' ? slot->extent[i - 1] : next(in);
            break;
        default:
            slot->args[i] = number(in);
            break;
        }
    }
    slot->state = YOD_SLOT_POSTED;
}

/* ------------------------------------------------------------------------ the world */

static void *memory_at(void *opaque, uint64_t gpa, uint64_t bytes)
{
    (void)opaque;
    return gpa <= RAM && bytes <= RAM - gpa ? world.ram + gpa : NULL;
}

static void interrupt(void *opaque, uint32_t level)
{
    (void)opaque;
    (void)level;
}

static uint64_t exits(void *opaque)
{
    (void)opaque;
    return 0;
}

static const char *in_tree(const char *name)
{
    static char text[4][512];
    static uint32_t turn;
    char *at = text[turn++ % 4];
    (void)snprintf(at, 512, "%s/%s", world.tree, name);
    return at;
}

static void put(const char *name, const char *text)
{
    int fd = open(in_tree(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

static int wipe(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)type;
    if (S_ISDIR(st->st_mode)) {
        (void)chmod(name, 0755);
    }
    return ftw->level == 0 ? 0 : remove(name);
}

static int open_up(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)type;
    (void)ftw;
    return S_ISDIR(st->st_mode) ? chmod(name, 0755) : 0;
}

static void make_writable(void)
{
    (void)nftw(in_tree("rw"), open_up, 16, FTW_PHYS);
    (void)nftw(in_tree("rw"), wipe, 16, FTW_DEPTH | FTW_PHYS);
    MUST(mkdir(in_tree("rw/sub"), 0755) == 0 && mkdir(in_tree("rw/kept"), 0755) == 0);
    put("rw/file", "file\n");
    put("rw/kept/file", "kept\n");
    MUST(mkfifo(in_tree("rw/fifo"), 0666) == 0);
    MUST(symlink("../out", in_tree("rw/link")) == 0);
    MUST(symlink(in_tree("ro/file"), in_tree("rw/inner")) == 0);
}

static void unmake_world(void)
{
    (void)nftw(world.tree, wipe, 16, FTW_DEPTH | FTW_PHYS);
    (void)rmdir(world.tree);
}

static void make_world(void)
{
    char real[128];
    (void)snprintf(world.tree, sizeof(world.tree), "%s/yod-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    MUST(mkdtemp(world.tree) != NULL && realpath(world.tree, real) != NULL);
    (void)snprintf(world.tree, sizeof(world.tree), "%s", real);
    (void)atexit(unmake_world);
    MUST(mkdir(in_tree("ro"), 0755) == 0 && mkdir(in_tree("ro/sub"), 0755) == 0);
    MUST(mkdir(in_tree("rw"), 0755) == 0 && mkdir(in_tree("out"), 0755) == 0);
    put("ro/file", "read only\n");
    put("ro/sub/deep", "deep\n");
    put("out/secret", "secret\n");
    put("out/app", "app\n");
    world.ram = malloc(RAM); /* not mapped: ASan sees its end */
    MUST(world.ram != NULL && getrlimit(RLIMIT_FSIZE, &world.files) == 0);
    world.queue = (struct yod_queue *)(world.ram + QUEUE);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit = {bytes, world.files.rlim_max};
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

/* --------------------------------------------------------------- what must always hold */

static void check_same(const char *name, struct stat *before)
{
    struct stat now;
    MUST(lstat(in_tree(name), &now) == 0);
    if (before->st_ino == 0) {
        *before = now;
    }
    MUST(now.st_ino == before->st_ino && now.st_mode == before->st_mode &&
         now.st_nlink == before->st_nlink && now.st_size == before->st_size &&
         now.st_mtim.tv_sec == before->st_mtim.tv_sec &&
         now.st_mtim.tv_nsec == before->st_mtim.tv_nsec &&
         now.st_ctim.tv_sec == before->st_ctim.tv_sec &&
         now.st_ctim.tv_nsec == before->st_ctim.tv_nsec);
}

static void check_world(void)
{
    static struct stat before[7];
    static const char *const names[] = {"ro",  "ro/file",    "ro/sub", "ro/sub/deep",
                                        "out", "out/secret", "out/app"};
    for (size_t i = 0; i < VH_COUNT(names); i++) {
        check_same(names[i], &before[i]);
    }
}

static void check_file(const struct yd_file *file)
{
    char link[32];
    char target[4096];
    if (file == NULL || file->fd < 0 || file->root == NULL) {
        return;
    }
    yd_proc_fd(file->fd, link);
    ssize_t bytes = readlink(link, target, sizeof(target) - 1);
    MUST(bytes > 0);
    target[bytes] = '\0';
    size_t length = strlen(world.tree);
    MUST(strncmp(target, world.tree, length) == 0);
    bool kept = strncmp(target + length, "/rw/kept/", 9) == 0;
    bool writable = strncmp(target + length, "/rw", 3) == 0 &&
                    (target[length + 3] == '/' || target[length + 3] == '\0') && !kept;
    MUST(writable || kept || strncmp(target + length, "/ro", 3) == 0);
    if (!writable) {
        MUST(file->read_only);
        MUST((fcntl(file->fd, F_GETFL) & (O_ACCMODE | O_PATH)) == O_RDONLY ||
             (fcntl(file->fd, F_GETFL) & O_PATH) != 0);
    }
}

static void check_files(const struct vmmhpc_yod *yod)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < YD_FDS; i++) {
        check_file(yod->fds[i].file);
        used += yod->fds[i].file != NULL ? 1 : 0;
    }
    check_file(yod->cwd);
    MUST(used <= yod->fd_limit);
}

static void run(struct input *in, struct vmmhpc_yod *yod)
{
    for (uint32_t step = 0; step < STEPS_MAX && in->at < in->end; step++) {
        uint32_t index = next(in) % 8; /* so that some are still busy */
        struct yod_slot *slot = &world.queue->slot[index];
        fill_slot(in, slot);
        (void)yd_port(yod, 0, YOD_REG_DOORBELL, 4, VMMHPC_ACCESS_WRITE, index);
        if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == YOD_SLOT_DONE) {
            MUST(slot->result >= -4095);
            in->successes += slot->result >= 0 ? 1 : 0;
        }
        check_files(yod);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct yd_machine machine = {NULL, memory_at, interrupt, exits};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_yod *yod = NULL;
    struct input in = {.at = data, .end = data + bytes};
    int stdin_pipe[2];

    if (world.ram == NULL) {
        make_world();
    }
    make_writable();
    memset(world.ram, 0, RAM);
    world.queue->version = YOD_LAUNCH_VERSION;
    world.queue->slots = YOD_SLOTS;
    MUST(pipe2(stdin_pipe, O_CLOEXEC) == 0);
    const struct vmmhpc_yod_root roots[] = {{.path = in_tree("ro")},
                                            {.path = in_tree("rw"), .writable = 1},
                                            {.path = in_tree("rw/kept")}};
    const struct vmmhpc_yod_config config = {.size = sizeof(config),
                                             .root_count = 3,
                                             .roots = roots,
                                             .cwd = roots[1].path,
                                             .exe = in_tree("out/app"),
                                             .cmdline = "app",
                                             .cmdline_bytes = 4,
                                             .fds = {stdin_pipe[0], stdin_pipe[1], -1},
                                             .cpus = 2,
                                             .memory_bytes = RAM};
    MUST(yd_create(&machine, &config, &yod, &err) == VMMHPC_OK);
    limit_files(FILE_MAX);
    (void)yd_port(yod, 0, YOD_REG_QUEUE, 4, VMMHPC_ACCESS_WRITE, QUEUE >> 12);
    run(&in, yod);
    yd_destroy(yod);
    limit_files(world.files.rlim_cur);
    (void)close(stdin_pipe[0]);
    (void)close(stdin_pipe[1]);
    check_world();
    fuzz_count(in.successes > 2);
    return 0;
}
