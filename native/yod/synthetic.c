/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that describe the virtual machine, never the host. Only what programs and their runtimes
 * read; what yod does not know is left out or 0, not invented.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "yod_internal.h"

#define NS 1000000000ull
#define HERTZ 100ull /* USER_HZ */

struct yd_text {
    char *data;
    size_t length;
    size_t room;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void say(struct yd_text *text, const char *format, ...)
{
    for (;;) {
        va_list args;
        va_start(args, format);
        size_t room = text->room - text->length;
        char *end = text->data == NULL ? NULL : text->data + text->length;
        /* clang-tidy 14 does not see va_start(). */
        // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
        int bytes = vsnprintf(end, room, format, args);
        va_end(args);
        if (bytes < 0 || text->failed) {
            text->failed = true;
            return;
        }
        if ((size_t)bytes < room) {
            text->length += (size_t)bytes;
            return;
        }
        size_t more = (text->room + (size_t)bytes) * 2 + 256;
        char *larger = realloc(text->data, more);
        if (larger == NULL) {
            text->failed = true;
            return;
        }
        text->data = larger;
        text->room = more;
    }
}

/* ------------------------------------------------------------------- processors */

struct flag {
    unsigned leaf;
    unsigned reg; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
    unsigned bit;
    const char *name;
};

/* Those that a guest sees whatever the host hides from it: AVX and what is above depend on XSAVE.
 */
static const struct flag flags[] = {
    {1, 3, 0, "fpu"},          {1, 3, 3, "pse"},
    {1, 3, 4, "tsc"},          {1, 3, 5, "msr"},
    {1, 3, 6, "pae"},          {1, 3, 8, "cx8"},
    {1, 3, 9, "apic"},         {1, 3, 13, "pge"},
    {1, 3, 15, "cmov"},        {1, 3, 16, "pat"},
    {1, 3, 19, "clflush"},     {1, 3, 23, "mmx"},
    {1, 3, 24, "fxsr"},        {1, 3, 25, "sse"},
    {1, 3, 26, "sse2"},        {0x80000001, 3, 11, "syscall"},
    {0x80000001, 3, 20, "nx"}, {0x80000001, 3, 29, "lm"},
    {1, 2, 0, "pni"},          {1, 2, 1, "pclmulqdq"},
    {1, 2, 9, "ssse3"},        {1, 2, 13, "cx16"},
    {1, 2, 19, "sse4_1"},      {1, 2, 20, "sse4_2"},
    {1, 2, 23, "popcnt"},      {1, 2, 25, "aes"},
};

static void cpuid(unsigned leaf, unsigned regs[4])
{
    if (__get_cpuid(leaf, &regs[0], &regs[1], &regs[2], &regs[3]) == 0) {
        memset(regs, 0, 4 * sizeof(regs[0]));
    }
}

static void say_flags(struct yd_text *text)
{
    say(text, "flags\t\t:");
    for (size_t i = 0; i < VH_COUNT(flags); i++) {
        unsigned regs[4];
        cpuid(flags[i].leaf, regs);
        if ((regs[flags[i].reg] >> flags[i].bit & 1u) != 0) {
            say(text, " %s", flags[i].name);
        }
    }
    say(text, "\n");
}

static double tsc_mhz(const struct vmmhpc_yod *yod)
{
    uint64_t ns = vh_now_ns() - yod->created_ns;
    return ns == 0 ? 0 : (double)(__rdtsc() - yod->created_tsc) * 1000.0 / (double)ns;
}

static void make_cpuinfo(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned id[4];
    unsigned version[4];
    unsigned brand[13] = {0};
    char vendor[13];
    (void)number;
    cpuid(0, id);
    cpuid(1, version);
    memcpy(vendor, &id[1], 4);
    memcpy(vendor + 4, &id[3], 4);
    memcpy(vendor + 8, &id[2], 4);
    vendor[12] = '\0';
    for (unsigned i = 0; i < 3; i++) {
        cpuid(0x80000002u + i, brand + (size_t)4 * i);
    }
    unsigned family = (version[0] >> 8 & 15u);
    unsigned model = (version[0] >> 4 & 15u) | (version[0] >> 12 & 0xf0u);
    family += family == 15 ? (version[0] >> 20 & 255u) : 0;
    double mhz = tsc_mhz(yod);
    for (uint32_t cpu = 0; cpu < yod->cpus; cpu++) {
        say(text,
            "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\n"
            "model name\t: %.48s\nstepping\t: %u\n",
            cpu, vendor, family, model, (const char *)brand, version[0] & 15u);
        say(text,
            "cpu MHz\t\t: %.3f\nphysical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\n"
            "cpu cores\t: %u\napicid\t\t: %u\nfpu\t\t: yes\nwp\t\t: yes\n",
            mhz, yod->cpus, cpu, yod->cpus, cpu);
        say_flags(text);
        say(text, "clflush size\t: 64\ncache_alignment\t: 64\n\n");
    }
}

static void say_cpus(const struct vmmhpc_yod *yod, struct yd_text *text)
{
    say(text, yod->cpus == 1 ? "0\n" : "0-%u\n", yod->cpus - 1);
}

static void make_cpus(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    say_cpus(yod, text);
}

static void make_number(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    say(text, "%u\n", number);
}

/* A set of CPUs in words of 32, the highest first. */
static void say_mask(struct yd_text *text, uint32_t cpus, uint32_t only)
{
    for (uint32_t word = (cpus + 31) / 32; word-- > 0;) {
        uint32_t bits = cpus - word * 32 >= 32 ? UINT32_MAX : (1u << (cpus - word * 32)) - 1;
        if (only != UINT32_MAX) {
            bits = only / 32 == word ? 1u << (only % 32) : 0;
        }
        say(text, word == 0 ? "%08x" : "%08x,", bits);
    }
    say(text, "\n");
}

static void make_mask(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    say_mask(text, yod->cpus, UINT32_MAX);
}

static void make_own_mask(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    say_mask(text, yod->cpus, number);
}

/* ------------------------------------------------------------- memory and time */

static void make_meminfo(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned long long kib = yod->memory_bytes / 1024;
    (void)number;
    /* How much of it the application has taken, the guest alone knows. */
    say(text,
        "MemTotal:       %8llu kB\nMemFree:        %8llu kB\nMemAvailable:   %8llu kB\n"
        "Buffers:        %8u kB\nCached:         %8u kB\nSwapCached:     %8u kB\n"
        "SwapTotal:      %8u kB\nSwapFree:       %8u kB\nHugePages_Total:   %5u\n"
        "HugePages_Free:    %5u\nHugepagesize:   %8u kB\n",
        kib, kib, kib, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 2048u);
}

static void make_node_meminfo(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned long long kib = yod->memory_bytes / 1024;
    (void)number;
    say(text, "Node 0 MemTotal:       %8llu kB\nNode 0 MemFree:        %8llu kB\n", kib, kib);
}

static uint64_t up_ns(const struct vmmhpc_yod *yod)
{
    return vh_now_ns() - yod->created_ns;
}

static void make_uptime(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned long long hundredths = up_ns(yod) / (NS / 100);
    (void)number;
    say(text, "%llu.%02llu 0.00\n", hundredths / 100, hundredths % 100);
}

static void make_stat(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned long long ticks = up_ns(yod) / (NS / HERTZ);
    (void)number;
    /* The application has the processors to itself. */
    say(text, "cpu  %llu 0 0 0 0 0 0 0 0 0\n", ticks * yod->cpus);
    for (uint32_t cpu = 0; cpu < yod->cpus; cpu++) {
        say(text, "cpu%u %llu 0 0 0 0 0 0 0 0 0\n", cpu, ticks);
    }
    say(text, "intr 0\nctxt 0\nbtime %lld\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n",
        (long long)time(NULL) - (long long)(up_ns(yod) / NS));
}

static void make_loadavg(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    say(text, "0.00 0.00 0.00 1/1 %u\n", yod->pid);
}

/* ------------------------------------------------------------------- the system */

static void make_version(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    say(text, "Linux version %s (v3m@lwk) %s\n", YOD_OSRELEASE, YOD_OSVERSION);
}

static void make_osrelease(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    say(text, "%s\n", YOD_OSRELEASE);
}

static void make_osversion(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    say(text, "%s\n", YOD_OSVERSION);
}

static void make_ostype(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    say(text, "Linux\n");
}

static void make_hostname(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    say(text, "%s\n", yod->hostname);
}

static void make_filesystems(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    say(text, "nodev\tproc\nnodev\tsysfs\n");
}

static void make_nothing(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)yod;
    (void)number;
    (void)text;
}

/* ------------------------------------------------------------------ the process */

static void make_cmdline(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    for (uint64_t i = 0; i < yod->cmdline_bytes; i++) {
        say(text, "%c", yod->cmdline[i]);
    }
}

static const char *command(const struct vmmhpc_yod *yod)
{
    const char *slash = yod->exe == NULL ? NULL : strrchr(yod->exe, '/');
    return slash == NULL ? "" : slash + 1;
}

static void make_comm(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    (void)number;
    say(text, "%.15s\n", command(yod));
}

static void make_status(const struct vmmhpc_yod *yod, uint32_t number, struct yd_text *text)
{
    unsigned uid = getuid();
    unsigned gid = getgid();
    (void)number;
    say(text,
        "Name:\t%.15s\nState:\tR (running)\nTgid:\t%u\nNgid:\t0\nPid:\t%u\nPPid:\t0\n"
        "TracerPid:\t0\nUid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%u\n",
        command(yod), yod->pid, yod->pid, uid, uid, uid, uid, gid, gid, gid, gid, YD_FDS);
    say(text, "Cpus_allowed:\t");
    say_mask(text, yod->cpus, UINT32_MAX);
    say(text, "Cpus_allowed_list:\t");
    say_cpus(yod, text);
    say(text, "Mems_allowed:\t00000001\nMems_allowed_list:\t0\n");
}

/* -------------------------------------------------------------------- the table */

static const struct {
    const char *path;
    enum yd_node_kind kind;
    uint32_t number;
    yd_make make;
    bool changes;
} fixed[] = {
    {"/dev/null", YD_NODE_DEVICE, 0, NULL, false},
    {"/dev/zero", YD_NODE_DEVICE, 0, NULL, false},
    {"/dev/full", YD_NODE_DEVICE, 0, NULL, false},
    {"/dev/random", YD_NODE_DEVICE, 0, NULL, false},
    {"/dev/urandom", YD_NODE_DEVICE, 0, NULL, false},
    {"/dev/tty", YD_NODE_TTY, 0, NULL, false},
    {"/dev/stdin", YD_NODE_STREAM, 0, NULL, false},
    {"/dev/stdout", YD_NODE_STREAM, 1, NULL, false},
    {"/dev/stderr", YD_NODE_STREAM, 2, NULL, false},
    {"/proc/cpuinfo", YD_NODE_TEXT, 0, make_cpuinfo, false},
    {"/proc/meminfo", YD_NODE_TEXT, 0, make_meminfo, false},
    {"/proc/stat", YD_NODE_TEXT, 0, make_stat, true},
    {"/proc/uptime", YD_NODE_TEXT, 0, make_uptime, true},
    {"/proc/loadavg", YD_NODE_TEXT, 0, make_loadavg, false},
    {"/proc/version", YD_NODE_TEXT, 0, make_version, false},
    {"/proc/filesystems", YD_NODE_TEXT, 0, make_filesystems, false},
    {"/proc/self/exe", YD_NODE_SELF_EXE, 0, NULL, false},
    {"/proc/self/cmdline", YD_NODE_TEXT, 0, make_cmdline, false},
    {"/proc/self/comm", YD_NODE_TEXT, 0, make_comm, false},
    {"/proc/self/status", YD_NODE_TEXT, 0, make_status, false},
    {"/proc/self/maps", YD_NODE_TEXT, 0, make_nothing, false},
    {"/proc/sys/kernel/osrelease", YD_NODE_TEXT, 0, make_osrelease, false},
    {"/proc/sys/kernel/ostype", YD_NODE_TEXT, 0, make_ostype, false},
    {"/proc/sys/kernel/version", YD_NODE_TEXT, 0, make_osversion, false},
    {"/proc/sys/kernel/hostname", YD_NODE_TEXT, 0, make_hostname, false},
    {"/proc/sys/kernel/pid_max", YD_NODE_TEXT, 32768, make_number, false},
    {"/proc/sys/vm/overcommit_memory", YD_NODE_TEXT, 2, make_number, false},
    {"/sys/devices/system/cpu/online", YD_NODE_TEXT, 0, make_cpus, false},
    {"/sys/devices/system/cpu/possible", YD_NODE_TEXT, 0, make_cpus, false},
    {"/sys/devices/system/cpu/present", YD_NODE_TEXT, 0, make_cpus, false},
    {"/sys/devices/system/node/online", YD_NODE_TEXT, 0, make_number, false},
    {"/sys/devices/system/node/possible", YD_NODE_TEXT, 0, make_number, false},
    {"/sys/devices/system/node/has_memory", YD_NODE_TEXT, 0, make_number, false},
    {"/sys/devices/system/node/has_cpu", YD_NODE_TEXT, 0, make_number, false},
    {"/sys/devices/system/node/node0/cpulist", YD_NODE_TEXT, 0, make_cpus, false},
    {"/sys/devices/system/node/node0/cpumap", YD_NODE_TEXT, 0, make_mask, false},
    {"/sys/devices/system/node/node0/meminfo", YD_NODE_TEXT, 0, make_node_meminfo, false},
};

static int32_t cpu_nodes(struct vmmhpc_yod *yod, uint32_t cpu)
{
    static const struct {
        const char *name;
        bool own; /* the CPU's number, else 0 */
        yd_make make;
    } parts[] = {
        {"online", false, NULL},
        {"topology/core_id", true, make_number},
        {"topology/physical_package_id", false, make_number},
        {"topology/thread_siblings_list", true, make_number},
        {"topology/thread_siblings", true, make_own_mask},
        {"topology/core_siblings_list", false, make_cpus},
        {"topology/core_siblings", false, make_mask},
    };
    char path[96];
    int32_t status = VMMHPC_OK;
    for (size_t i = 0; i < VH_COUNT(parts) && status == VMMHPC_OK; i++) {
        (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/%s", cpu, parts[i].name);
        status = parts[i].make == NULL ? yd_node_add(yod, path, YD_NODE_TEXT, 1, make_number, false)
                                       : yd_node_add(yod, path, YD_NODE_TEXT,
                                                     parts[i].own ? cpu : 0, parts[i].make, false);
    }
    return status;
}

int32_t yd_synthetic_nodes(struct vmmhpc_yod *yod)
{
    int32_t status = VMMHPC_OK;
    for (size_t i = 0; i < VH_COUNT(fixed) && status == VMMHPC_OK; i++) {
        if (fixed[i].kind == YD_NODE_SELF_EXE && yod->exe == NULL) {
            continue;
        }
        status = yd_node_add(yod, fixed[i].path, fixed[i].kind, fixed[i].number, fixed[i].make,
                             fixed[i].changes);
    }
    for (uint32_t cpu = 0; cpu < yod->cpus && status == VMMHPC_OK; cpu++) {
        status = cpu_nodes(yod, cpu);
    }
    return status;
}

static int write_text(const struct vmmhpc_yod *yod, const struct yd_node *node)
{
    struct yd_text text = {0};
    node->make(yod, node->number, &text);
    int fd = text.failed ? -1 : memfd_create("vmmhpc-yod", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int result = text.failed ? -ENOMEM : fd < 0 ? -errno : fd;
    if (fd >= 0 &&
        (write(fd, text.data, text.length) != (ssize_t)text.length || fchmod(fd, 0444) != 0 ||
         fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)) {
        result = -ENOMEM;
        (void)close(fd);
    }
    free(text.data);
    return result;
}

int yd_text_open(struct vmmhpc_yod *yod, const struct yd_node *node)
{
    char path[32];
    struct yd_node *own = &yod->nodes[node - yod->nodes];
    int fd = -1;
    if (node->changes) {
        fd = write_text(yod, node);
    } else {
        /* One copy for all who open it, so that many opens are not much memory. */
        (void)pthread_mutex_lock(&yod->lock);
        if (own->fd < 0) {
            int made = write_text(yod, node);
            own->fd = made < 0 ? -1 : made;
        }
        fd = own->fd;
        (void)pthread_mutex_unlock(&yod->lock);
    }
    if (fd < 0) {
        return node->changes ? fd : -ENOMEM;
    }
    yd_proc_fd(fd, path);
    int result = open(path, O_RDONLY | O_CLOEXEC);
    result = result < 0 ? -errno : result;
    if (node->changes) {
        (void)close(fd);
    }
    return result;
}
