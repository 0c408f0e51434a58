/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: making and unmaking a yod, and what its owner asks of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <x86intrin.h>

#include "yod_internal.h"

#define CPUS_MAX 4096u
#define CMDLINE_MAX (16u << 20)

/* Reading it by umask() would change it for a moment, for all threads. */
static uint32_t host_umask(void)
{
    char line[256];
    uint32_t result = 077; /* unknown: what is created gets its mode set */
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "Umask:", 6) == 0) {
            result = (uint32_t)strtoul(line + 6, NULL, 8) & 0777;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return result;
}

static uint32_t descriptor_limit(void)
{
    struct rlimit limit;
    /* The rest of this process needs some too. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 2 < YD_FDS) {
        return (uint32_t)(limit.rlim_cur / 2);
    }
    return YD_FDS;
}

static int32_t copy_texts(struct vmmhpc_yod *yod, const struct vmmhpc_yod_config *config,
                          struct vmmhpc_error *err)
{
    if (config->cmdline_bytes > CMDLINE_MAX ||
        (config->cmdline_bytes > 0 && config->cmdline == NULL)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->cmdline_bytes,
                       "the application's command line is not there or too long");
    }
    yod->cmdline = malloc(config->cmdline_bytes + 1);
    yod->hostname = strdup(config->hostname == NULL ? "lwk" : config->hostname);
    if (yod->cmdline == NULL || yod->hostname == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for yod");
    }
    if (config->cmdline_bytes > 0) {
        memcpy(yod->cmdline, config->cmdline, config->cmdline_bytes);
    }
    yod->cmdline_bytes = config->cmdline_bytes;
    if (config->exe == NULL) {
        return VMMHPC_OK;
    }
    if (config->exe[0] != '/' || strlen(config->exe) >= YD_PATH) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the executable's path must be absolute");
    }
    yod->exe = strdup(config->exe);
    yod->exe_fd = open(config->exe, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat info;
    if (yod->exe == NULL || yod->exe_fd < 0 || fstat(yod->exe_fd, &info) != 0 ||
        !S_ISREG(info.st_mode)) {
        return vh_fail(err, VMMHPC_E_IO, errno, 0, "cannot open the executable %.150s",
                       config->exe);
    }
    return VMMHPC_OK;
}

/* Where there is no such directory for the guest, relative paths are ENOENT. */
static void enter(struct vmmhpc_yod *yod, const char *cwd)
{
    struct yd_place place;
    if (cwd == NULL || cwd[0] != '/' || yd_lookup(yod, NULL, cwd, YD_DIRECTORY, &place) != 0) {
        return;
    }
    yod->cwd = yd_file_new(place.fd, O_PATH);
    if (yod->cwd != NULL) {
        yod->cwd->kind = place.fd < 0 ? YD_LISTING : YD_PLAIN;
        yod->cwd->name = place.name;
        yod->cwd->root = place.root;
        yod->cwd->made = place.fd < 0;
        yod->cwd->read_only = place.root == NULL || !place.root->writable;
    }
}

static int32_t fill(struct vmmhpc_yod *yod, const struct vmmhpc_yod_config *config,
                    struct vmmhpc_error *err)
{
    if (config->cpus == 0 || config->cpus > CPUS_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config->cpus, "a machine has 1 to %u CPUs",
                       CPUS_MAX);
    }
    yod->cpus = config->cpus;
    yod->memory_bytes = config->memory_bytes;
    yod->pid = config->pid == 0 ? 1 : config->pid;
    yod->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (yod->wake_fd < 0) {
        return vh_fail(err, VMMHPC_E_SYSCALL, errno, 0, "cannot create an eventfd");
    }
    int32_t status = copy_texts(yod, config, err);
    if (status == VMMHPC_OK) {
        status = yd_roots_open(yod, config, err);
    }
    if (status == VMMHPC_OK) {
        status = yd_nodes_make(yod, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    int failed = yd_fds_standard(yod, config->fds);
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, -failed, 0, "a standard stream is not open");
    }
    enter(yod, config->cwd);
    return VMMHPC_OK;
}

int32_t yd_create(const struct yd_machine *machine, const struct vmmhpc_yod_config *given,
                  struct vmmhpc_yod **out, struct vmmhpc_error *err)
{
    struct vmmhpc_yod_config config = {0};
    if (given == NULL || out == NULL ||
        given->size < offsetof(struct vmmhpc_yod_config, hostname)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, given == NULL ? 0 : given->size,
                       "a yod needs a configuration");
    }
    memcpy(&config, given, given->size < sizeof(config) ? given->size : sizeof(config));
    struct vmmhpc_yod *yod = calloc(1, sizeof(*yod));
    if (yod == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for yod");
    }
    yod->machine = *machine;
    yod->created_ns = vh_now_ns();
    yod->created_tsc = __rdtsc();
    yod->wake_fd = -1;
    yod->exe_fd = -1;
    yod->fd_limit = descriptor_limit();
    yod->host_umask = host_umask();
    yod->umask = yod->host_umask;
    atomic_init(&yod->queue, UINT64_MAX);
    (void)pthread_mutex_init(&yod->lock, NULL);
    (void)pthread_mutex_init(&yod->irq_lock, NULL);
    int32_t status = fill(yod, &config, err);
    if (status != VMMHPC_OK) {
        yd_destroy(yod);
        return status;
    }
    *out = yod;
    return VMMHPC_OK;
}

void yd_destroy(struct vmmhpc_yod *yod)
{
    yd_service_stop(yod);
    for (uint32_t i = 0; i < YD_FDS; i++) {
        yd_file_unref(yod->fds[i].file);
    }
    yd_file_unref(yod->cwd);
    yd_nodes_free(yod);
    yd_roots_close(yod);
    if (yod->exe_fd >= 0) {
        (void)close(yod->exe_fd);
    }
    if (yod->wake_fd >= 0) {
        (void)close(yod->wake_fd);
    }
    free(yod->exe);
    free(yod->cmdline);
    free(yod->hostname);
    (void)pthread_mutex_destroy(&yod->lock);
    (void)pthread_mutex_destroy(&yod->irq_lock);
    free(yod);
}

/* ---------------------------------------------------------------------- the machine */

static void *machine_memory(void *opaque, uint64_t gpa, uint64_t bytes)
{
    return vmmhpc_memory_at(opaque, gpa, bytes);
}

static void machine_interrupt(void *opaque, uint32_t level)
{
    (void)vmmhpc_irq_set(opaque, YOD_GSI, level, NULL);
}

static uint64_t machine_exits(void *opaque)
{
    uint64_t exits = 0;
    (void)vmmhpc_guest_exits(opaque, &exits, NULL);
    return exits;
}

int32_t vmmhpc_yod_create(struct vmmhpc *vm, const struct vmmhpc_yod_config *config,
                          struct vmmhpc_yod **out, struct vmmhpc_error *err)
{
    struct yd_machine machine = {vm, machine_memory, machine_interrupt, machine_exits};
    struct vmmhpc_yod *yod = NULL;
    if (vm == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "a yod needs a machine");
    }
    int32_t status = yd_create(&machine, config, &yod, err);
    if (yod == NULL) {
        return status;
    }
    status = vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, YOD_PORT, YOD_PORT_BYTES, yd_port, yod,
                               &yod->device, err);
    if (status != VMMHPC_OK) {
        yd_destroy(yod);
        return status;
    }
    yod->vm = vm;
    *out = yod;
    return VMMHPC_OK;
}

void vmmhpc_yod_destroy(struct vmmhpc_yod *yod)
{
    if (yod == NULL) {
        return;
    }
    atomic_store(&yod->closing, true); /* a large transfer ends early, and the handler with it */
    (void)vmmhpc_device_remove(yod->vm, yod->device, NULL);
    yd_destroy(yod);
}

/* ------------------------------------------------------------------ for the owner */

int32_t vmmhpc_yod_signal(struct vmmhpc_yod *yod, uint32_t signal, struct vmmhpc_error *err)
{
    if (signal < 1 || signal > 64) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, signal, "there is no signal %u", signal);
    }
    struct yod_queue *queue = yd_queue(yod);
    if (queue == NULL) {
        return vh_fail(err, VMMHPC_E_STATE, 0, signal, "the application has not started yet");
    }
    (void)__atomic_fetch_or(&queue->signals, 1ull << (signal - 1), __ATOMIC_SEQ_CST);
    yd_pulse(yod);
    return VMMHPC_OK;
}

int32_t vmmhpc_yod_get_report(struct vmmhpc_yod *yod, struct yod_report *report,
                              struct vmmhpc_error *err)
{
    (void)pthread_mutex_lock(&yod->lock);
    bool there = yod->reported;
    *report = yod->report;
    (void)pthread_mutex_unlock(&yod->lock);
    if (!there) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0, "the guest left no report");
    }
    report->text[sizeof(report->text) - 1] = '\0';
    if (report->code_bytes > sizeof(report->code)) {
        report->code_bytes = sizeof(report->code);
    }
    if (report->backtrace_count > YOD_REPORT_BACKTRACE) {
        report->backtrace_count = YOD_REPORT_BACKTRACE;
    }
    if (report->backtrace_exact > report->backtrace_count) {
        report->backtrace_exact = report->backtrace_count;
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_yod_get_stats(const struct vmmhpc_yod *yod, struct vmmhpc_yod_stats *stats)
{
    struct vmmhpc_yod_stats now = {
        .size = stats->size,
        .entry_ns = atomic_load(&yod->entry_ns),
        .app_ns = atomic_load(&yod->app_ns),
        .app_exits = atomic_load(&yod->app_exits),
        .served = atomic_load(&yod->served),
        .waited = atomic_load(&yod->waited),
        .bytes_read = atomic_load(&yod->bytes_read),
        .bytes_written = atomic_load(&yod->bytes_written),
    };
    if (stats->size < sizeof(stats->size)) {
        return VMMHPC_E_INVALID;
    }
    memcpy(stats, &now, stats->size < sizeof(now) ? stats->size : sizeof(now));
    return VMMHPC_OK;
}
