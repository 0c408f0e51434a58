#define _GNU_SOURCE
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"

/* How long the disks may take to appear, in virtual milliseconds. */
#define DISK_LIMIT_MS 60000

static void try_mount(const char *type, const char *where, const char *options)
{
    mkdir(where, 0755);
    mount(type, where, type, 0, options);
}

static void must_mount(const char *source, const char *where, const char *type, unsigned long flags,
                       const char *options)
{
    mkdir(where, 0755);
    if (mount(source, where, type, flags, options) != 0)
        fail("cannot mount %s on %s: %s", type, where, strerror(errno));
}

/* Loads the modules of a list file, one file name a line. */
static void load_modules(const char *list)
{
    char name[256], path[300];
    FILE *file = fopen(list, "r");
    if (!file)
        fail_errno(list);
    while (fgets(name, sizeof name, file)) {
        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof path, "/modules/%s", name);
        int module = open(path, O_RDONLY | O_CLOEXEC);
        if (module < 0 || (syscall(SYS_finit_module, module, "", 0) != 0 && errno != EEXIST))
            fail_errno(path);
        close(module);
    }
    fclose(file);
}

void prepare_machine(void)
{
    try_mount("devtmpfs", "/dev", NULL);
    try_mount("proc", "/proc", NULL);
    try_mount("sysfs", "/sys", NULL);
    load_modules("/modules/early");
    sethostname("testbed", 7);
    const struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
}

static int has_model(const char *disk, const char *model)
{
    char path[300], text[64] = "";
    snprintf(path, sizeof path, "/sys/block/%s/device/model", disk);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    int same = fgets(text, sizeof text, file) && strncmp(text, model, strlen(model)) == 0;
    fclose(file);
    return same;
}

static const char *find_disk(const char *model)
{
    static char path[300];
    const char *found = NULL;
    DIR *dir = opendir("/sys/block");
    if (!dir)
        return NULL;
    for (struct dirent *entry; !found && (entry = readdir(dir));) {
        if (strncmp(entry->d_name, "sd", 2) != 0 || !has_model(entry->d_name, model))
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (access(path, F_OK) == 0)
            found = path;
    }
    closedir(dir);
    return found;
}

const char *disk_named(const char *model)
{
    for (int waited = 0;; waited += 5) {
        const char *path = find_disk(model);
        if (path)
            return path;
        if (waited > DISK_LIMIT_MS)
            fail("the disk %s did not appear", model);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

int attach_disks(void)
{
    load_modules("/modules/disks");
    int scratch = open(disk_named("V3M-SCRATCH"), O_RDWR | O_CLOEXEC);
    if (scratch < 0)
        fail_errno("cannot open the scratch disk");
    return scratch;
}

void freshen_machine(const struct job *job)
{
    char *rest;
    struct timeval now = {.tv_sec = strtoll(job->now, &rest, 10)};
    settimeofday(&now, NULL);

    struct {
        struct rand_pool_info info;
        char data[256];
    } seed;
    size_t length = strlen(job->seed);
    if (length > sizeof seed.data)
        length = sizeof seed.data;
    seed.info.entropy_count = (int)length * 4; /* hexadecimal text: four bits a byte */
    seed.info.buf_size = (int)length;
    memcpy(seed.info.buf, job->seed, length);
    int device = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (device < 0 || ioctl(device, RNDADDENTROPY, &seed) != 0)
        fail_errno("cannot seed the random numbers");
    ioctl(device, RNDRESEEDCRNG);
    close(device);
}

/* mkdir -p below the current directory */
static void make_path(const char *path)
{
    char part[4096];
    snprintf(part, sizeof part, ".%s", path);
    for (char *slash = strchr(part + 2, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(part, 0755);
        *slash = '/';
    }
    mkdir(part, 0755);
}

static void mount_kernel_file_systems(void)
{
    try_mount("proc", "proc", NULL);
    try_mount("sysfs", "sys", NULL);
    try_mount("devtmpfs", "dev", NULL);
    try_mount("tmpfs", "run", "mode=755");
    mkdir("run/lock", 01777);
    mkdir("tmp", 01777);
    chmod("tmp", 01777);
    try_mount("devpts", "dev/pts", "mode=620,ptmxmode=666");
    try_mount("tmpfs", "dev/shm", "mode=1777");
    try_mount("mqueue", "dev/mqueue", NULL);
    try_mount("hugetlbfs", "dev/hugepages", NULL);
    try_mount("debugfs", "sys/kernel/debug", NULL);
    try_mount("tracefs", "sys/kernel/tracing", NULL);
    try_mount("cgroup2", "sys/fs/cgroup", NULL);
    if (symlink("/proc/self/fd", "dev/fd") != 0 && errno != EEXIST)
        fail_errno("/dev/fd");
    if (symlink("fd/0", "dev/stdin") != 0 && errno != EEXIST)
        fail_errno("/dev/stdin");
    if (symlink("fd/1", "dev/stdout") != 0 && errno != EEXIST)
        fail_errno("/dev/stdout");
    if (symlink("fd/2", "dev/stderr") != 0 && errno != EEXIST)
        fail_errno("/dev/stderr");
}

void enter_tree(const struct job *job)
{
    mkdir("/mnt", 0755);
    must_mount(disk_named("V3M-SYSTEM"), "/mnt/system", "squashfs", MS_RDONLY, NULL);
    must_mount(disk_named("V3M-TREE"), "/mnt/tree", "squashfs", MS_RDONLY, NULL);
    must_mount("layer", "/mnt/layer", "tmpfs", 0, "mode=755,size=75%");
    mkdir("/mnt/layer/upper", 0755);
    mkdir("/mnt/layer/work", 0755);
    must_mount("overlay", "/mnt/root", "overlay", 0,
               "lowerdir=/mnt/tree:/mnt/system,upperdir=/mnt/layer/upper,workdir=/mnt/layer/work");
    if (chdir("/mnt/root") != 0)
        fail_errno("/mnt/root");
    mount_kernel_file_systems();
    if (*job->out)
        make_path(job->out);
    if (*job->modules) {
        char path[4096];
        snprintf(path, sizeof path, ".%s", job->modules);
        mkdir("lib", 0755);
        mkdir("lib/modules", 0755);
        mount(path, "lib/modules", NULL, MS_BIND, NULL);
    }
    /* As switch_root does: not merely a chroot, in which the kernel forbids user namespaces and
     * pivot_root. */
    if (mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        fail_errno("switch root");
}
