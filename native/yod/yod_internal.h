/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside yod. A vCPU's thread rings (server.c), the call is looked up (table.c) and tried at once;
 * what would block is handed to the service thread (service.c), which tries again when poll() says
 * so.
 *
 * Locks: `lock` guards the descriptor table, the current directory, the umask, the flags and
 * positions of files, and who owns an operation; it is never held over a system call that may take
 * long. `irq_lock` makes a pulse of the interrupt line one piece. No other lock is taken under
 * either.
 */
#ifndef YOD_INTERNAL_H
#define YOD_INTERNAL_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "internal.h"
#include "yod.h"

#define YD_FDS 1024u           /* descriptors of the guest, at most */
#define YD_PATH ((size_t)4096) /* PATH_MAX */
#define YD_TEXT (2 * YD_PATH)  /* the current directory and a path */
#define YD_LATER INT64_MIN     /* what a call answers that would block */
#define YD_FOREVER UINT64_MAX

/** The machine as yod sees it; tests put memory of their own in its place. */
struct yd_machine {
    void *opaque;
    void *(*memory_at)(void *opaque, uint64_t gpa, uint64_t bytes);
    void (*interrupt)(void *opaque, uint32_t level);
    uint64_t (*exits)(void *opaque);
};

struct yd_root {
    char *path; /* as the guest names it, without a slash at its end: "/" is "" */
    size_t length;
    int fd; /* O_PATH */
    bool writable;
};

/* ------------------------------------------------------- names that yod makes */

enum yd_node_kind {
    YD_NODE_TEXT,     /* a read-only file; make() writes it */
    YD_NODE_DIR,      /* an empty directory */
    YD_NODE_ROOT,     /* one of the roots: here only so that its ancestors exist */
    YD_NODE_EXE,      /* the executable, where it is */
    YD_NODE_SELF_EXE, /* a symbolic link to it */
    YD_NODE_DEVICE,   /* a harmless device of the host, under the same name */
    YD_NODE_STREAM,   /* another name of standard stream `number` */
    YD_NODE_TTY,      /* standard input if it is a terminal */
};

struct yd_text;
typedef void (*yd_make)(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text);

struct yd_node {
    char *path; /* absolute */
    enum yd_node_kind kind;
    uint32_t number; /* of the CPU, root or stream */
    yd_make make;
    bool changes; /* made afresh at each open */
    int fd;       /* memfd with a text that does not change, or -1 */
};

/** A name in that tree: a node, or a directory above one. */
struct yd_name {
    const struct yd_node *node;
    size_t length; /* of node->path; less than all of it: a directory */
};

/* ------------------------------------------------------------------------ files */

enum yd_kind {
    YD_PLAIN,  /* never blocks: regular files, directories, /dev/null and the like */
    YD_STREAM, /* may block: pipes, FIFOs, terminals */
    YD_SOCKET,
    YD_LISTING /* a directory that yod makes; fd is -1 */
};

/** What a guest's descriptor refers to: an open file description. */
struct yd_file {
    atomic_uint references;
    enum yd_kind kind;
    int fd;
    bool shared;       /* others on the host may use the same description: leave its flags alone */
    bool read_only;    /* beneath a read-only root, or made by yod: nothing about it may change */
    bool standard;     /* a standard stream: its data may change, its metadata may not */
    bool fifo;         /* opened by the guest: there is no end before there was a writer */
    bool made;         /* made by yod: root's, and not the host's business */
    uint32_t flags;    /* as F_GETFL shows them */
    uint64_t position; /* in a listing */
    struct yd_name name;
    const struct yd_root *root; /* or NULL: no directory to start a path from */
};

struct yd_fd {
    struct yd_file *file;
    bool close_on_exec;
};

/* ------------------------------------------------------------------ operations */

enum yd_op_state {
    YD_OP_IDLE,
    YD_OP_BUSY,   /* owned by the thread that runs it */
    YD_OP_WAITING /* owned by the service thread */
};

/** A shipped call, copied from its slot. There is one for each slot. */
struct yd_op {
    struct vmmhpc_yod *yod;
    enum yd_op_state state;
    bool cancelled;
    bool resumed; /* tried before */
    uint32_t call;
    uint64_t args[6];
    uint64_t extent[6];
    /* What a call that answered YD_LATER waits for: a descriptor, a set of them, or time. */
    struct yd_file *file;
    short events; /* 0: only time */
    struct pollfd *set;
    struct yd_file **set_files;
    uint32_t set_count;
    uint64_t deadline_ns; /* YD_FOREVER: none */
    uint64_t retry_ns;    /* not before */
    uint32_t refusals;    /* readiness that led to nothing, in a row */
    uint64_t done;        /* bytes written so far */
    int raised;           /* a signal that a write sent to this thread, or 0 */
};

typedef int64_t (*yd_handler)(struct yd_op *op);

struct yd_identity {
    dev_t dev;
    ino_t ino;
};

struct vmmhpc_yod {
    struct yd_machine machine;
    struct vmmhpc *vm; /* NULL in tests */
    uint32_t device;
    uint64_t created_ns;
    uint64_t created_tsc;

    struct yd_root *roots;
    uint32_t root_count;
    bool nested;                /* some root lies beneath another */
    struct yd_identity *pinned; /* directories that hold a root: not to be moved */
    uint32_t pinned_count;
    struct yd_node *nodes; /* sorted */
    uint32_t node_count;
    char *exe;
    int exe_fd;
    char *cmdline;
    uint64_t cmdline_bytes;
    char *hostname;
    uint32_t pid;
    uint32_t cpus;
    uint64_t memory_bytes;
    uint32_t host_umask;

    pthread_mutex_t lock;
    struct yd_fd fds[YD_FDS];
    uint32_t fd_limit;
    struct yd_file *cwd; /* or NULL */
    uint32_t umask;
    struct yd_op ops[YOD_SLOTS];
    struct yod_report report;
    bool reported;
    atomic_bool closing;

    pthread_mutex_t irq_lock;
    atomic_uint_least64_t queue; /* GPA; UINT64_MAX: none yet */

    pthread_t thread;
    bool has_thread;
    int wake_fd;
    struct pollfd *watch; /* the service thread's */
    uint32_t watch_room;

    atomic_uint_least64_t entry_ns;
    atomic_uint_least64_t app_ns;
    atomic_uint_least64_t app_exits;
    atomic_uint_least64_t served;
    atomic_uint_least64_t waited;
    atomic_uint_least64_t bytes_read;
    atomic_uint_least64_t bytes_written;
};

/* ------------------------------------------------------------- server.c, yod.c */

/** All but the machine's side of vmmhpc_yod_create(). */
int32_t yd_create(const struct yd_machine *machine, const struct vmmhpc_yod_config *config,
                  struct vmmhpc_yod **out, struct vmmhpc_error *err);
void yd_destroy(struct vmmhpc_yod *yod);

/** The handler of the ports. */
uint64_t yd_port(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes, uint32_t direction,
                 uint64_t value);
struct yod_queue *yd_queue(struct vmmhpc_yod *yod);
void yd_pulse(struct vmmhpc_yod *yod);
/** Run a call once; consumes the signals that it may have caused. */
int64_t yd_try(struct yd_op *op);
/** Give up what an operation holds, and tell the guest. The operation is idle afterwards. */
void yd_finish(struct yd_op *op, int64_t result);

/* -------------------------------------------------------------------- service.c */

/** Hand an operation that answered YD_LATER to the service thread; false where there is none. */
bool yd_service_take(struct yd_op *op);
void yd_service_wake(struct vmmhpc_yod *yod);
void yd_service_stop(struct vmmhpc_yod *yod);

/* ---------------------------------------------------------------------- table.c */

/** NULL: not provided. */
yd_handler yd_handler_of(uint32_t call);

/* ---------------------------------------------------------------------- guest.c */

/** Host address of `bytes` bytes of argument i, or NULL where they are not the guest's. */
void *yd_memory(const struct yd_op *op, uint32_t i, uint64_t bytes);
/** The same for a buffer of at most `bytes`: what of it is there goes to *usable. */
void *yd_buffer(const struct yd_op *op, uint32_t i, uint64_t bytes, uint64_t *usable);
/** Copy in and out: 0 or -EFAULT. */
int yd_get(const struct yd_op *op, uint32_t i, void *to, uint64_t bytes);
int yd_put(const struct yd_op *op, uint32_t i, const void *from, uint64_t bytes);
int yd_get_path(const struct yd_op *op, uint32_t i, char path[YD_PATH]);
static inline bool yd_is_null(const struct yd_op *op, uint32_t i)
{
    return op->args[i] == YOD_NO_ADDRESS;
}

/* ------------------------------------------------------------------------ fds.c */

/** A new file with one reference, which takes over fd; NULL (and fd closed) without memory. */
struct yd_file *yd_file_new(int fd, uint32_t flags);
struct yd_file *yd_file_ref(struct yd_file *file);
void yd_file_unref(struct yd_file *file); /* NULL is allowed */
/** The file of a guest's descriptor, referenced, or NULL. */
struct yd_file *yd_fd_get(struct vmmhpc_yod *yod, uint64_t fd);
/** The file that operation's argument i names, kept in op->file; NULL: -EBADF. */
struct yd_file *yd_op_file(struct yd_op *op, uint32_t i);
/** Give the file the lowest free number from `least` on; takes the reference. Or -EMFILE. */
int yd_fd_install(struct vmmhpc_yod *yod, struct yd_file *file, uint32_t least, bool close_on_exec);
int64_t yd_fd_close(struct vmmhpc_yod *yod, uint64_t fd);
/** Configure 0, 1 and 2. */
int yd_fds_standard(struct vmmhpc_yod *yod, const int32_t fds[3]);
uint32_t yd_file_flags(struct yd_file *file, struct vmmhpc_yod *yod);
/** Kind and host flags of a file just opened; pipes of our own become non-blocking. */
void yd_file_classify(struct yd_file *file, mode_t mode);

/* ------------------------------------------------------- roots.c, path.c, walk.c */

/** What a path leads to: on the host (fd, O_PATH), or a name that yod makes. */
struct yd_place {
    int fd; /* or -1 */
    const struct yd_root *root;
    struct yd_name name;
    struct stat stat; /* of the host's */
};

/** The directory that an operation works in, and the last component. */
struct yd_parent {
    struct yd_place place;
    char name[YD_PATH];
};

#define YD_NOFOLLOW 1u
#define YD_DIRECTORY 2u

int32_t yd_roots_open(struct vmmhpc_yod *yod, const struct vmmhpc_yod_config *config,
                      struct vmmhpc_error *err);
void yd_roots_close(struct vmmhpc_yod *yod);
/** The root that an absolute path without "." and ".." lies in, or NULL. */
const struct yd_root *yd_root_match(const struct vmmhpc_yod *yod, const char *path);
/** The guest's name of an open file of the host, and its root; or -ENOENT. */
int yd_guest_path(const struct vmmhpc_yod *yod, int fd, char path[YD_PATH],
                  const struct yd_root **root);
/** Whether what is there must stay where it is. */
bool yd_is_pinned(const struct vmmhpc_yod *yod, const struct stat *info);

/** openat2() beneath a directory: a descriptor or -errno. -EXDEV: the path leads out of it. */
int yd_open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
/** Look a path up; base is where a relative one starts (or NULL). 0 or -errno; the caller closes
 *  place->fd. */
int yd_lookup(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path, uint32_t flags,
              struct yd_place *place);
int yd_lookup_parent(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path,
                     struct yd_parent *parent);
void yd_place_close(struct yd_place *place);
/** From a place known by its absolute path without ".", ".." and links. */
int yd_place_at(struct vmmhpc_yod *yod, const char *path, uint32_t flags, struct yd_place *place);
/** Resolve every link and ".." by hand: an absolute path, whose last component may be missing. */
int yd_walk(struct vmmhpc_yod *yod, const char *path, uint32_t flags, char out[YD_PATH]);
/** Fill in and check a place whose fd was just opened; -EXDEV: not to be seen under this name. */
int yd_place_check(struct vmmhpc_yod *yod, struct yd_place *place);
/** Absolute text of a path, relative to base. */
int yd_absolute(struct vmmhpc_yod *yod, const struct yd_file *base, const char *path,
                char out[YD_TEXT]);
bool yd_beneath(const char *path, const char *directory, size_t length);

/** The directory argument of an *at call, in *base (referenced; NULL: none); 0 or -EBADF. */
int yd_base(struct yd_op *op, uint64_t dirfd, const char *path, struct yd_file **base);

/* --------------------------------------------------------- nodes.c, synthetic.c */

int32_t yd_nodes_make(struct vmmhpc_yod *yod, struct vmmhpc_error *err);
void yd_nodes_free(struct vmmhpc_yod *yod);
int32_t yd_node_add(struct vmmhpc_yod *yod, const char *path, enum yd_node_kind kind,
                    uint32_t number, yd_make make, bool changes);
/** A normalised absolute path in the tree; false: there is nothing. */
bool yd_name_find(const struct vmmhpc_yod *yod, const char *path, struct yd_name *name);
static inline bool yd_name_is_dir(const struct yd_name *name)
{
    return name->node->kind == YD_NODE_DIR || name->length < strlen(name->node->path);
}
/** Names in a directory: the index-th, or false. */
bool yd_name_child(const struct vmmhpc_yod *yod, const struct yd_name *dir, uint64_t index,
                   struct yd_name *child);
int32_t yd_synthetic_nodes(struct vmmhpc_yod *yod);
/** A descriptor that reads a text node from its start, or -errno. */
int yd_text_open(struct vmmhpc_yod *yod, const struct yd_node *node);
void yd_name_stat(const struct vmmhpc_yod *yod, const struct yd_name *name, struct stat *st);

/* --------------------------------------------------------------------- stream.c */

/** One attempt that does not block: bytes, 0 at the end, or -errno; -EAGAIN: not now. */
int64_t yd_stream_read(const struct yd_file *file, void *to, uint64_t bytes);
int64_t yd_stream_write(const struct yd_file *file, const void *from, uint64_t bytes);
/** Wait for events on op->file, then be tried again. */
int64_t yd_wait_for(struct yd_op *op, short events);

/* ------------------------------------------------------------------------- open.c */

/** Open the host's file at a place; a descriptor or -errno. */
int yd_place_open(const struct yd_place *place, uint32_t flags);
void yd_proc_fd(int fd, char text[32]);

/* Calls, by file. */
#define YD_CALL(name) int64_t yd_call_##name(struct yd_op *op)
/* open.c */
YD_CALL(open);
YD_CALL(openat);
YD_CALL(creat);
/* io.c */
YD_CALL(read);
YD_CALL(write);
YD_CALL(pread64);
YD_CALL(pwrite64);
YD_CALL(lseek);
YD_CALL(ftruncate);
YD_CALL(truncate);
YD_CALL(fallocate);
YD_CALL(fsync);
YD_CALL(fdatasync);
YD_CALL(sync);
YD_CALL(flock);
/* listing.c */
YD_CALL(getdents);
YD_CALL(getdents64);
/* stat.c */
YD_CALL(stat);
YD_CALL(lstat);
YD_CALL(fstat);
YD_CALL(newfstatat);
YD_CALL(statx);
YD_CALL(statfs);
YD_CALL(fstatfs);
YD_CALL(access);
YD_CALL(faccessat);
YD_CALL(faccessat2);
YD_CALL(readlink);
YD_CALL(readlinkat);
/* meta.c */
YD_CALL(chmod);
YD_CALL(fchmod);
YD_CALL(fchmodat);
YD_CALL(chown);
YD_CALL(lchown);
YD_CALL(fchown);
YD_CALL(fchownat);
YD_CALL(utime);
YD_CALL(utimes);
YD_CALL(futimesat);
YD_CALL(utimensat);
/* names.c */
YD_CALL(mkdir);
YD_CALL(mkdirat);
YD_CALL(rmdir);
YD_CALL(unlink);
YD_CALL(unlinkat);
YD_CALL(rename);
YD_CALL(renameat);
YD_CALL(renameat2);
YD_CALL(link);
YD_CALL(linkat);
YD_CALL(symlink);
YD_CALL(symlinkat);
/* directory.c */
YD_CALL(chdir);
YD_CALL(fchdir);
YD_CALL(getcwd);
YD_CALL(umask);
/* descriptors.c */
YD_CALL(close);
YD_CALL(dup);
YD_CALL(dup2);
YD_CALL(dup3);
YD_CALL(pipe);
YD_CALL(pipe2);
YD_CALL(fcntl);
YD_CALL(ioctl);
/* poll.c */
YD_CALL(poll);
YD_CALL(ppoll);

#endif
