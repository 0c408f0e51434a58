/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yod-run: the smallest launcher. It runs one static Linux program on the lightweight kernel, in a
 * machine of its own, with this process's standard streams. Benchmarks use it to measure the parts
 * by themselves.
 *
 *   yod-run [-c CPUS] [-m MiB] [-r DIR[:rw]]... [-C DIR] [-e NAME=VALUE]... [-s STATS_FILE] KERNEL
 * APP ARGS...
 *
 * The guest's console goes to standard error. Exit status: the program's; 128 + n where signal n
 * ended it; 125 where it was not run (126, 127: not executable, not there, as a shell says) or its
 * kernel failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "yod.h"

#define PAGE ((size_t)4096)
#define LISTS_MAX 64u
#define FAILED 125

struct options {
    uint32_t cpus;
    uint64_t mib;
    struct vmmhpc_yod_root roots[LISTS_MAX];
    uint32_t root_count;
    const char *env[LISTS_MAX];
    uint32_t env_count;
    const char *cwd;
    const char *stats_path;
    const char *kernel;
    char **app; /* NULL-terminated */
    uint32_t app_count;
};

struct run {
    struct options o;
    char exe[PATH_MAX];
    char cwd[PATH_MAX];
    char module[32];
    char *strings;
    size_t strings_bytes;
    size_t arguments_bytes;
    uint64_t launch_ns;
    struct vmmhpc *vm;
    struct vmmhpc_yod *yod;
    struct vmmhpc_error err;
};

static int usage(void)
{
    (void)fputs("usage: yod-run [-c CPUS] [-m MiB] [-r DIR[:rw]]... [-C DIR] [-e NAME=VALUE]...\n"
                "               [-s STATS_FILE] KERNEL APP ARGS...\n",
                stderr);
    return FAILED;
}

static int complain(const char *what, const char *why)
{
    (void)fprintf(stderr, "yod-run: %s: %s\n", what, why);
    return FAILED;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;
    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* ------------------------------------------------------------------------- options */

static bool add_root(struct options *o, char *text)
{
    size_t length = strlen(text);
    bool writable = length > 3 && strcmp(text + length - 3, ":rw") == 0;
    if (writable) {
        text[length - 3] = '\0';
    }
    char *path = realpath(text, NULL);
    if (o->root_count == LISTS_MAX || path == NULL) {
        (void)complain(text, path == NULL ? strerror(errno) : "too many roots");
        free(path);
        return false;
    }
    o->roots[o->root_count++] = (struct vmmhpc_yod_root){.path = path, .writable = writable};
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    int option = 0;
    *o = (struct options){.cpus = 1, .mib = 128};
    while ((option = getopt(argc, argv, "+c:m:r:C:e:s:")) != -1) {
        switch (option) {
        case 'c':
            o->cpus = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        case 'm':
            o->mib = strtoull(optarg, NULL, 0);
            break;
        case 'r':
            if (!add_root(o, optarg)) {
                return false;
            }
            break;
        case 'C':
            o->cwd = optarg;
            break;
        case 'e':
            if (o->env_count == LISTS_MAX) {
                return false;
            }
            o->env[o->env_count++] = optarg;
            break;
        case 's':
            o->stats_path = optarg;
            break;
        default:
            return false;
        }
    }
    if (argc - optind < 2) {
        return false;
    }
    o->kernel = argv[optind];
    o->app = argv + optind + 1;
    o->app_count = (uint32_t)(argc - optind - 1);
    return true;
}

/* ------------------------------------------------------------------- launch module */

static bool gather_strings(struct run *r)
{
    FILE *out = open_memstream(&r->strings, &r->strings_bytes);
    if (out == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < r->o.app_count; i++) {
        (void)fwrite(r->o.app[i], 1, strlen(r->o.app[i]) + 1, out);
    }
    (void)fflush(out);
    r->arguments_bytes = r->strings_bytes;
    for (uint32_t i = 0; i < r->o.env_count; i++) {
        (void)fwrite(r->o.env[i], 1, strlen(r->o.env[i]) + 1, out);
    }
    (void)fwrite(r->exe, 1, strlen(r->exe) + 1, out);
    return fclose(out) == 0;
}

static bool copy_file(int to, int from, uint64_t bytes)
{
    while (bytes > 0) {
        ssize_t moved = copy_file_range(from, NULL, to, NULL, bytes, 0);
        if (moved <= 0) { /* not between these file systems */
            char buffer[65536];
            moved = read(from, buffer, sizeof(buffer) < bytes ? sizeof(buffer) : bytes);
            if (moved <= 0 || write(to, buffer, (size_t)moved) != moved) {
                return false;
            }
        }
        bytes -= (uint64_t)moved;
    }
    return true;
}

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static bool write_module(struct run *r, int app, uint64_t app_bytes, int module)
{
    struct yod_launch launch = {
        .magic = YOD_LAUNCH_MAGIC,
        .version = YOD_LAUNCH_VERSION,
        .bytes_header = sizeof(launch),
        .strings_offset = sizeof(launch),
        .strings_bytes = r->strings_bytes,
        .argc = r->o.app_count,
        .envc = r->o.env_count,
        .flags = YOD_LAUNCH_REPORT_CALLS,
        .pid = 1,
        .uid = getuid(),
        .euid = geteuid(),
        .gid = getgid(),
        .egid = getegid(),
        .nodename = "lwk",
    };
    launch.app_offset = pages(sizeof(launch) + r->strings_bytes);
    launch.app_bytes = app_bytes;
    launch.bytes = launch.app_offset + pages(app_bytes);
    launch.unix_ns = now_ns(CLOCK_REALTIME);
    return getrandom(launch.seed, sizeof(launch.seed), 0) == sizeof(launch.seed) &&
           ftruncate(module, (off_t)launch.bytes) == 0 &&
           write(module, &launch, sizeof(launch)) == sizeof(launch) &&
           write(module, r->strings, r->strings_bytes) == (ssize_t)r->strings_bytes &&
           lseek(module, (off_t)launch.app_offset, SEEK_SET) >= 0 &&
           copy_file(module, app, app_bytes);
}

/* 0, or the exit status. */
static int build_module(struct run *r)
{
    struct stat info;
    if (realpath(r->o.app[0], r->exe) == NULL) {
        (void)complain(r->o.app[0], strerror(errno));
        return 127;
    }
    int app = open(r->exe, O_RDONLY | O_CLOEXEC);
    if (app < 0 || fstat(app, &info) != 0 || !S_ISREG(info.st_mode)) {
        (void)complain(r->exe, app < 0 ? strerror(errno) : "not a regular file");
        return 126;
    }
    int module = memfd_create("yod-launch", MFD_CLOEXEC);
    if (module < 0 || !gather_strings(r) || !write_module(r, app, (uint64_t)info.st_size, module)) {
        return complain("cannot build the launch module", strerror(errno));
    }
    (void)close(app);
    (void)snprintf(r->module, sizeof(r->module), "/proc/self/fd/%d", module);
    return 0;
}

/* ------------------------------------------------------------------------- running */

static int set_up(struct run *r)
{
    struct vmmhpc_memory memory = {.size = sizeof(memory),
                                   .backing = VMMHPC_BACKING_THP,
                                   .bytes = r->o.mib << 20,
                                   .numa_node = -1};
    struct vmmhpc_config config = {.size = sizeof(config),
                                   .cpus = r->o.cpus,
                                   .flags = VMMHPC_FLAG_STOP_ON_RESET,
                                   .memory_count = 1,
                                   .memory = &memory};
    struct vmmhpc_boot boot = {.size = sizeof(boot),
                               .kind = VMMHPC_IMAGE_ELF_LINUX,
                               .kernel_path = r->o.kernel,
                               .initrd_path = r->module};
    struct vmmhpc_yod_config yod = {.size = sizeof(yod),
                                    .root_count = r->o.root_count,
                                    .roots = r->o.roots,
                                    .cwd = r->o.cwd != NULL ? r->o.cwd : r->cwd,
                                    .exe = r->exe,
                                    .cmdline = r->strings,
                                    .cmdline_bytes = r->arguments_bytes,
                                    .fds = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
                                    .cpus = r->o.cpus,
                                    .memory_bytes = memory.bytes,
                                    .hostname = "lwk",
                                    .pid = 1};
    for (int i = 0; i < 3; i++) {
        yod.fds[i] = fcntl(i, F_GETFD) < 0 ? -1 : i;
    }
    r->err.size = sizeof(r->err);
    if (getcwd(r->cwd, sizeof(r->cwd)) == NULL) {
        r->cwd[0] = '\0';
    }
    if (vmmhpc_create(&config, &r->vm, &r->err) != VMMHPC_OK ||
        vmmhpc_console_attach(r->vm, -1, STDERR_FILENO, &r->err) != VMMHPC_OK ||
        vmmhpc_load(r->vm, &boot, &r->err) != VMMHPC_OK ||
        vmmhpc_yod_create(r->vm, &yod, &r->yod, &r->err) != VMMHPC_OK) {
        return complain(vmmhpc_status_name(r->err.code), r->err.text);
    }
    return 0;
}

static void forward(struct run *r, int signals)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof(info)) != sizeof(info)) {
        return;
    }
    if (vmmhpc_yod_signal(r->yod, info.ssi_signo, NULL) == VMMHPC_E_STATE) {
        (void)vmmhpc_stop(r->vm, NULL); /* nobody is there yet to be told */
    }
}

/* Until the machine ends; signals go to the application meanwhile. */
static int run(struct run *r)
{
    static const int passed[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;
    int32_t events = -1;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
        (void)sigaddset(&set, passed[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0 || vmmhpc_open_events(r->vm, &events, &r->err) != VMMHPC_OK ||
        vmmhpc_start(r->vm, &r->err) != VMMHPC_OK) {
        return complain("cannot start", r->err.text);
    }
    for (;;) {
        struct pollfd fds[2] = {{.fd = events, .events = POLLIN},
                                {.fd = signals, .events = POLLIN}};
        struct vmmhpc_event event;
        (void)poll(fds, 2, -1);
        if (fds[1].revents != 0) {
            forward(r, signals);
        }
        if (fds[0].revents != 0 &&
            (recv(events, &event, sizeof(event), MSG_WAITALL) != sizeof(event) ||
             (event.type == VMMHPC_EVENT_STATE &&
              (event.arg == VMMHPC_STATE_STOPPED || event.arg == VMMHPC_STATE_CRASHED)))) {
            break;
        }
    }
    (void)close(events);
    (void)close(signals);
    return vmmhpc_wait(r->vm, -1, &r->err) == VMMHPC_OK ? 0 : complain("wait", r->err.text);
}

/* ------------------------------------------------------------------------- the end */

static void print_registers(const struct yod_report *report)
{
    static const char *const names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                                        "rbp", "rsp", "r8",  "r9",  "r10", "r11",
                                        "r12", "r13", "r14", "r15", "rip", "rflags"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)fprintf(stderr, "  %-6s %016llx", names[i], (unsigned long long)report->registers[i]);
        (void)fputs(i % 3 == 2 ? "\n" : "", stderr);
    }
    (void)fprintf(stderr, "  cr2    %016llx  fs     %016llx  tid %u, CPU %u\n",
                  (unsigned long long)report->fault_address, (unsigned long long)report->fs_base,
                  report->tid, report->cpu);
    (void)fputs("  code  ", stderr);
    for (uint32_t i = 0; i < report->code_bytes; i++) {
        (void)fprintf(stderr, " %02x", report->code[i]);
    }
    (void)fputc('\n', stderr);
    for (uint32_t i = 0; i < report->backtrace_count; i++) {
        (void)fprintf(stderr, "  #%-2u %016llx%s\n", i,
                      (unsigned long long)(report->backtrace[i] - report->load_bias),
                      i < report->backtrace_exact ? "" : " ?");
    }
}

static void print_not_provided(const struct yod_report *report)
{
    for (uint32_t i = 0; i < YOD_REPORT_CALLS; i++) {
        if (report->not_provided[i] != 0) {
            (void)fprintf(stderr,
                          "yod-run: system call %u is not provided, was asked for %u times\n", i,
                          report->not_provided[i]);
        }
    }
}

static int end_of(const struct yod_report *report)
{
    switch (report->end) {
    case YOD_END_EXIT:
        return report->status & 255;
    case YOD_END_SIGNAL:
        (void)fprintf(stderr, "yod-run: ended by signal %u (%s)\n", report->signal,
                      report->signal < 65 ? strsignal((int)report->signal) : "?");
        return 128 + (int)(report->signal & 127);
    case YOD_END_FAULT:
        (void)fprintf(stderr, "yod-run: fault: signal %u, exception %u, error code 0x%llx: %s\n",
                      report->signal, report->vector, (unsigned long long)report->error_code,
                      report->text);
        print_registers(report);
        return 128 + (int)(report->signal & 127);
    case YOD_END_LAUNCH:
        (void)complain("cannot run the program", report->text);
        return 126;
    case YOD_END_PANIC:
        (void)complain("the lightweight kernel failed", report->text);
        print_registers(report);
        return FAILED;
    default:
        return complain("the guest's report makes no sense", report->text);
    }
}

static void print_crash(const struct run *r)
{
    struct vmmhpc_stop_info info = {.size = sizeof(info)};
    (void)vmmhpc_get_stop_info(r->vm, &info);
    (void)complain("the guest ended without a report", info.text);
    if (info.has_registers != 0) {
        (void)fprintf(stderr, "  rip %016llx rsp %016llx rflags %llx cr0 %llx cr2 %llx cr3 %llx\n",
                      (unsigned long long)info.rip, (unsigned long long)info.rsp,
                      (unsigned long long)info.rflags, (unsigned long long)info.cr0,
                      (unsigned long long)info.cr2, (unsigned long long)info.cr3);
    }
}

static void write_stats(struct run *r, const struct yod_report *report, int status)
{
    uint64_t exits = 0;
    struct vmmhpc_yod_stats stats = {.size = sizeof(stats)};
    FILE *file = fopen(r->o.stats_path, "we");
    if (file == NULL) {
        (void)complain(r->o.stats_path, strerror(errno));
        return;
    }
    (void)vmmhpc_guest_exits(r->vm, &exits, NULL);
    (void)vmmhpc_yod_get_stats(r->yod, &stats);
    const struct vmmhpc_stats_page *page = vmmhpc_stats(r->vm, NULL);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"launchNs", r->launch_ns},
        {"startNs", page->start_ns},
        {"firstRunNs", page->first_run_ns},
        {"entryNs", stats.entry_ns},
        {"appNs", stats.app_ns},
        {"endNs", now_ns(CLOCK_MONOTONIC)},
        {"appExits", stats.app_exits},
        {"guestExits", exits},
        {"served", stats.served},
        {"waited", stats.waited},
        {"bytesRead", stats.bytes_read},
        {"bytesWritten", stats.bytes_written},
        {"ticks", report->ticks},
        {"switches", report->switches},
        {"shipped", report->shipped},
        {"threads", report->threads},
        {"tscEntry", report->tsc_entry},
        {"tscApp", report->tsc_app},
    };
    (void)fprintf(file, "{\"status\": %d", status);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)fprintf(file, ", \"%s\": %llu", numbers[i].name,
                      (unsigned long long)numbers[i].value);
    }
    (void)fputs("}\n", file);
    (void)fclose(file);
}

static int finish(struct run *r)
{
    struct yod_report *report = calloc(1, sizeof(*report));
    int status = FAILED;
    if (report == NULL) {
        return complain("no memory", "for the report");
    }
    if (vmmhpc_yod_get_report(r->yod, report, NULL) == VMMHPC_OK) {
        print_not_provided(report);
        status = end_of(report);
    } else {
        print_crash(r);
    }
    if (r->o.stats_path != NULL) {
        write_stats(r, report, status);
    }
    free(report);
    return status;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct run r;
    if (!parse(argc, argv, &r.o)) {
        return usage();
    }
    r.launch_ns = now_ns(CLOCK_MONOTONIC);
    raise_descriptor_limit();
    int status = build_module(&r);
    if (status == 0) {
        status = set_up(&r);
    }
    if (status == 0) {
        status = run(&r);
        status = status == 0 ? finish(&r) : status;
    }
    vmmhpc_yod_destroy(r.yod);
    vmmhpc_destroy(r.vm);
    for (uint32_t i = 0; i < r.o.root_count; i++) {
        free((void *)(uintptr_t)r.o.roots[i].path);
    }
    free(r.strings);
    return status;
}
