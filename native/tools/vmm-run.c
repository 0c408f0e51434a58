/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm-run: the smallest useful program on libvmmhpc. It boots a guest with its console on standard
 * input and output, and ends with the guest. Benchmarks use it to measure the library by itself.
 *
 *   vmm-run [-k bzimage|linux|pvh|multiboot|flat16|flat64] [-m MiB] [-c CPUS] [-b BACKING]
 *           [-i INITRD] [-a CMDLINE] [-l LOAD_ADDRESS] [-s STATS_FILE] [-n] KERNEL
 *   vmm-run -d DIRECTORY [-o] [-M MONITOR] [-w PARTS] ... KERNEL
 *
 * With -d the machine is started in a monitor process (MONITOR: path of vmm-hpc), whose files are
 * in DIRECTORY, and is left running; -o: its console's output goes to standard output, from the
 * beginning until it ends; -w: parts of the jail to go without (enum vmmhpc_jail_part).
 *
 * Exit status: 0 power-off or started, 1 error before the guest ran, 3 guest crashed.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmmhpc_monitor.h"

struct options {
    struct vmmhpc_config config;
    struct vmmhpc_memory memory;
    struct vmmhpc_boot boot;
    const char *stats_path;
    struct vmmhpc_monitor monitor;
    bool output; /* of the monitor's console */
};

static int usage(void)
{
    (void)fputs(
        "usage: vmm-run [-k KIND] [-m MiB] [-c CPUS] [-b anon|thp|memfd|2M|1G] [-i INITRD]\n"
        "               [-a CMDLINE] [-l LOAD_ADDRESS] [-s STATS_FILE] [-n]\n"
        "               [-d DIRECTORY [-o] [-M MONITOR] [-w PARTS]] KERNEL\n",
        stderr);
    return 1;
}

static int find(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const char *const kinds[] = {"auto",      "bzimage", "linux", "pvh",
                                        "multiboot", "flat16",  "flat64"};
    static const char *const backings[] = {"anon", "thp", "memfd", "2M", "1G"};
    int option = 0;
    int index = 0;
    while ((option = getopt(argc, argv, "k:m:c:b:i:a:l:s:nd:oM:w:")) != -1) {
        switch (option) {
        case 'k':
            index = find(kinds, sizeof(kinds) / sizeof(kinds[0]), optarg);
            o->boot.kind = (uint32_t)index;
            break;
        case 'b':
            index = find(backings, sizeof(backings) / sizeof(backings[0]), optarg);
            o->memory.backing = (uint32_t)index;
            break;
        case 'm':
            o->memory.bytes = strtoull(optarg, NULL, 0) << 20;
            break;
        case 'c':
            o->config.cpus = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        case 'i':
            o->boot.initrd_path = optarg;
            break;
        case 'a':
            o->boot.cmdline = optarg;
            break;
        case 'l':
            o->boot.load_address = strtoull(optarg, NULL, 0);
            break;
        case 's':
            o->stats_path = optarg;
            break;
        case 'n':
            o->config.flags |= VMMHPC_FLAG_STOP_ON_RESET;
            break;
        case 'd':
            o->monitor.directory = optarg;
            break;
        case 'o':
            o->output = true;
            break;
        case 'M':
            o->monitor.program = optarg;
            break;
        case 'w':
            o->monitor.jail_without = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        default:
            return -1;
        }
        if (index < 0) {
            return -1;
        }
    }
    if (optind + 1 != argc) {
        return -1;
    }
    o->boot.kernel_path = argv[optind];
    return 0;
}

static void write_stats(struct vmmhpc *vm, const char *path)
{
    uint64_t exits = 0;
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return;
    }
    (void)vmmhpc_guest_exits(vm, &exits, NULL);
    const struct vmmhpc_stats_page *page = vmmhpc_stats(vm, NULL);
    (void)fprintf(file, "{\"guestExits\": %llu, \"startNs\": %llu, \"firstRunNs\": %llu}\n",
                  (unsigned long long)exits, (unsigned long long)page->start_ns,
                  (unsigned long long)page->first_run_ns);
    (void)fclose(file);
}

static void report_crash(const struct vmmhpc_stop_info *info)
{
    (void)fprintf(stderr, "vmm-run: guest crashed: %s\n", info->text);
    if (info->has_registers != 0) {
        (void)fprintf(stderr, "  rip %016llx rsp %016llx rflags %llx cr0 %llx cr2 %llx cr3 %llx\n",
                      (unsigned long long)info->rip, (unsigned long long)info->rsp,
                      (unsigned long long)info->rflags, (unsigned long long)info->cr0,
                      (unsigned long long)info->cr2, (unsigned long long)info->cr3);
        (void)fputs("  code", stderr);
        for (uint32_t i = 0; i < info->code_bytes; i++) {
            (void)fprintf(stderr, " %02x", info->code[i]);
        }
        (void)fputc('\n', stderr);
    }
}

/* All that comes, until the other end is closed or nobody reads it any more. */
static void copy_out(int fd)
{
    char buffer[4096];
    ssize_t bytes = read(fd, buffer, sizeof(buffer));
    while (bytes > 0 && write(STDOUT_FILENO, buffer, (size_t)bytes) == bytes) {
        bytes = read(fd, buffer, sizeof(buffer));
    }
}

static int start_monitor(const struct options *o)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc *vm = NULL;
    int console = -1;
    int32_t status = vmmhpc_spawn(&o->config, &o->monitor, &vm, &err);
    if (status == VMMHPC_OK) {
        status = vmmhpc_load(vm, &o->boot, &err);
    }
    if (status == VMMHPC_OK && o->output) {
        status = vmmhpc_console_open(vm, &console, &err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_start(vm, &err);
    }
    vmmhpc_destroy(vm);
    if (status == VMMHPC_OK && console >= 0) {
        copy_out(console);
    }
    if (console >= 0) {
        (void)close(console);
    }
    if (status != VMMHPC_OK) {
        (void)fprintf(stderr, "vmm-run: %s (%s)\n", err.text, vmmhpc_status_name(err.code));
    }
    return status == VMMHPC_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct options o = {
        .memory = {.size = sizeof(struct vmmhpc_memory),
                   .backing = VMMHPC_BACKING_THP,
                   .bytes = 128ull << 20,
                   .numa_node = -1},
        .boot = {.size = sizeof(struct vmmhpc_boot)},
        .config = {.size = sizeof(struct vmmhpc_config), .cpus = 1, .memory_count = 1},
        .monitor = {.size = sizeof(struct vmmhpc_monitor), .program = "vmm-hpc", .name = "vmm-run"},
    };
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_stop_info info = {.size = sizeof(info)};
    struct vmmhpc *vm = NULL;
    o.config.memory = &o.memory;
    if (parse(argc, argv, &o) != 0) {
        return usage();
    }
    if (o.monitor.directory != NULL) {
        return start_monitor(&o);
    }
    if (vmmhpc_create(&o.config, &vm, &err) != VMMHPC_OK ||
        vmmhpc_console_attach(vm, STDIN_FILENO, STDOUT_FILENO, &err) != VMMHPC_OK ||
        vmmhpc_load(vm, &o.boot, &err) != VMMHPC_OK || vmmhpc_start(vm, &err) != VMMHPC_OK ||
        vmmhpc_wait(vm, -1, &err) != VMMHPC_OK) {
        (void)fprintf(stderr, "vmm-run: %s (%s)\n", err.text, vmmhpc_status_name(err.code));
        vmmhpc_destroy(vm);
        return 1;
    }
    (void)vmmhpc_get_stop_info(vm, &info);
    if (info.state == VMMHPC_STATE_CRASHED) {
        report_crash(&info);
    }
    if (o.stats_path != NULL) {
        write_stats(vm, o.stats_path);
    }
    vmmhpc_destroy(vm);
    return info.state == VMMHPC_STATE_CRASHED ? 3 : 0;
}
