/* SPDX-License-Identifier: Apache-2.0 */
/* The ports, the slots, the report: a guest that does not keep to the rules. */
#include "yod_rig.h"

TEST(yod_ports)
{
    struct yod_rig *rig = yod_rig_tree();
    rig->queue->version = 99;
    yod_rig_start(rig);
    CHECK_EQ(yd_port(rig->yod, 0, YOD_REG_MAGIC, 4, VMMHPC_ACCESS_READ, 0), YOD_MAGIC);
    CHECK_EQ(yd_port(rig->yod, 0, YOD_REG_MAGIC, 1, VMMHPC_ACCESS_READ, 0), UINT64_MAX);
    CHECK_EQ(yd_port(rig->yod, 0, YOD_REG_TRACE, 4, VMMHPC_ACCESS_READ, 0), UINT64_MAX);
    /* No queue yet: its version was wrong, or it is not in RAM. */
    struct vmmhpc_error err = {.size = sizeof(err)};
    CHECK_ERROR(vmmhpc_yod_signal(rig->yod, 2, &err), &err, VMMHPC_E_STATE, "not started");
    rig->queue->version = YOD_LAUNCH_VERSION;
    yod_out(rig, YOD_REG_QUEUE, UINT32_MAX);
    yod_out(rig, YOD_REG_QUEUE, (RIG_RAM - 4096) >> 12);
    yod_out(rig, YOD_REG_DOORBELL, 0);
    yod_out(rig, YOD_REG_DOORBELL, YOD_DOORBELL_REPORT);
    CHECK(yd_queue(rig->yod) == NULL);
    yod_out(rig, YOD_REG_QUEUE, RIG_QUEUE >> 12);
    CHECK(yd_queue(rig->yod) == rig->queue);
    yod_out(rig, YOD_REG_QUEUE, 0x200); /* once */
    CHECK(yd_queue(rig->yod) == rig->queue);
    CHECK_EQ(vmmhpc_yod_signal(rig->yod, 2, &err), VMMHPC_OK);
    CHECK_EQ(vmmhpc_yod_signal(rig->yod, 64, &err), VMMHPC_OK);
    CHECK_EQ(rig->queue->signals, 1ull << 63 | 2);
    CHECK_EQ(atomic_load(&rig->pulses), 2);
    CHECK_ERROR(vmmhpc_yod_signal(rig->yod, 0, &err), &err, VMMHPC_E_INVALID, "signal 0");
    CHECK_ERROR(vmmhpc_yod_signal(rig->yod, 65, &err), &err, VMMHPC_E_INVALID, "signal 65");
    yod_rig_free(rig);
}

TEST(yod_report)
{
    struct yod_rig *rig = yod_rig_new();
    struct yod_report *report = malloc(sizeof(*report));
    struct vmmhpc_error err = {.size = sizeof(err)};
    CHECK_ERROR(vmmhpc_yod_get_report(rig->yod, report, &err), &err, VMMHPC_E_STATE, "no report");
    memset(&rig->queue->report, 0xff, sizeof(rig->queue->report));
    rig->queue->report.end = YOD_END_EXIT;
    rig->queue->report.status = 7;
    yod_out(rig, YOD_REG_DOORBELL, YOD_DOORBELL_REPORT);
    CHECK_OK(vmmhpc_yod_get_report(rig->yod, report, &err), &err);
    CHECK_EQ(report->status, 7);
    CHECK_EQ(report->code_bytes, 16);
    CHECK_EQ(report->backtrace_count, YOD_REPORT_BACKTRACE);
    CHECK_EQ(report->backtrace_exact, YOD_REPORT_BACKTRACE);
    CHECK_EQ(strnlen(report->text, sizeof(report->text)), sizeof(report->text) - 1);
    free(report);
    yod_rig_free(rig);
}

TEST(yod_trace)
{
    struct yod_rig *rig = yod_rig_new();
    struct vmmhpc_yod_stats stats = {.size = sizeof(stats)};
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK_EQ(stats.entry_ns, 0);
    CHECK_EQ(stats.app_ns, 0);
    yod_out(rig, YOD_REG_TRACE, YOD_TRACE_ENTRY);
    yod_out(rig, YOD_REG_TRACE, YOD_TRACE_APP);
    yod_out(rig, YOD_REG_TRACE, 77);
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK(stats.entry_ns != 0 && stats.app_ns >= stats.entry_ns);
    CHECK_EQ(stats.app_exits, 42);
    uint64_t first = stats.entry_ns;
    yod_out(rig, YOD_REG_TRACE, YOD_TRACE_ENTRY);
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK_EQ(stats.entry_ns, first);
    stats.size = 0;
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_E_INVALID);
    yod_rig_free(rig);
}

TEST(yod_hostile_slots)
{
    struct yod_rig *rig = yod_rig_new();
    /* Not posted; out of range. */
    rig->queue->slot[3].result = 12345;
    yod_out(rig, YOD_REG_DOORBELL, 3);
    yod_out(rig, YOD_REG_DOORBELL, YOD_SLOTS);
    yod_out(rig, YOD_REG_DOORBELL, 0xfffffffe);
    CHECK_EQ(rig->queue->slot[3].result, 12345);
    CHECK_EQ(rig->queue->slot[3].state, YOD_SLOT_FREE);
    int64_t fd = OPEN("rw/file", O_RDWR);
    /* Addresses that are not RAM, wrap round, or go beyond its end. */
    static const struct yod_arg bad[] = {
        {RIG_RAM, 1},    {RIG_RAM - 1, 2},         {UINT64_MAX - 1, 100}, {1ull << 63, 1ull << 63},
        {0, UINT64_MAX}, {RIG_BUFFER, UINT64_MAX}, {YOD_NO_ADDRESS, 100}, {RIG_BUFFER, 0}};
    for (size_t i = 0; i < VH_COUNT(bad); i++) {
        CHECK_EQ(CALL(read, V(fd), bad[i], V(UINT32_MAX)), -EFAULT);
        CHECK_EQ(CALL(write, V(fd), bad[i], V(UINT32_MAX)), -EFAULT);
        CHECK_EQ(CALL(pipe2, bad[i], V(0)), i == 4 ? 0 : i == 5 ? 0 : -EFAULT);
    }
    yod_rig_free(rig);
}

TEST(yod_hostile_paths)
{
    struct yod_rig *rig = yod_rig_new();
    memset(BUFFER, '/', 8192);
    CHECK_EQ(CALL(open, M(0, 100), V(0)), -EFAULT);        /* does not end in its extent */
    CHECK_EQ(CALL(open, M(0, 8192), V(0)), -ENAMETOOLONG); /* nor within PATH_MAX */
    BUFFER[4095] = '\0';
    CHECK_EQ(CALL(open, M(0, 8192), V(O_RDONLY)), 0); /* 4,095 slashes are "/" */
    memset(BUFFER, 'x', 4095);
    CHECK_EQ(CALL(open, M(0, 4096), V(0)), -ENAMETOOLONG);
    for (uint32_t i = 0; i + 3 <= 4095; i += 3) {
        memcpy(BUFFER + i, "../", 3);
    }
    CHECK_EQ(CALL(stat, M(0, 4096), M(8192, 144)),
             0); /* up from the cwd as often as one likes: / */
    for (uint32_t i = 0; i + 2 <= 4094; i += 2) {
        memcpy(BUFFER + i, "./", 2);
    }
    BUFFER[4094] = '\0';
    CHECK_EQ(CALL(stat, M(0, 4096), M(8192, 144)), 0);
    /* A chain of links that grows while it is followed. */
    CHECK_EQ(CALL(symlink, S("/proc/../proc/../proc/../proc/.."), P("rw/a")), 0);
    CHECK_EQ(CALL(symlink, P("rw/b/b"), P("rw/b")), 0);
    CHECK_EQ(OPEN("rw/b", O_RDONLY), -ELOOP);
    CHECK_EQ(OPEN("rw/a/a/a/a", O_RDONLY), -ENOENT);
    CHECK_EQ(OPEN("rw/a", O_RDONLY), 1);
    yod_rig_free(rig);
}

TEST(yod_rung_twice)
{
    struct yod_rig *rig = yod_rig_new();
    CHECK_EQ(CALL(pipe2, M(0, 8), V(0)), 0);
    CHECK(!POST(0, read, V(0), M(0, 100), V(100)));
    for (int i = 0; i < 10; i++) {
        yod_out(rig, YOD_REG_DOORBELL, 0); /* is being served */
    }
    CHECK_EQ(CALL(write, V(1), M(0, 3), V(3)), 3);
    CHECK(yod_await(rig, 0, 5000));
    CHECK_EQ(RESULT(0), 3);
    yod_out(rig, YOD_REG_DOORBELL, 0); /* is done, not posted */
    CHECK_EQ(rig->queue->slot[0].state, YOD_SLOT_DONE);
    yod_rig_free(rig);
}

struct caller {
    struct yod_rig *rig;
    uint32_t slot;
    uint32_t failures;
};

/* One of several vCPUs, each with a slot and a file of its own. */
static void *work(void *arg)
{
    struct caller *c = arg;
    struct yod_rig *rig = c->rig;
    uint32_t at = RIG_BUFFER + c->slot * 0x1000;
    char name[300];
    (void)snprintf(name, sizeof(name), "%s/rw/of%u", rig->tree, c->slot);
    memcpy(rig->ram + at, name, strlen(name) + 1);
    for (uint32_t i = 0; i < 500; i++) {
        (void)POST(c->slot, open, {at, 256}, V(O_RDWR | O_CREAT), V(0666));
        int64_t fd = RESULT(c->slot);
        (void)POST(c->slot, write, V(fd), {at, 8}, V(8));
        c->failures += RESULT(c->slot) != 8 ? 1 : 0;
        (void)POST(c->slot, chdir, V(YOD_NO_ADDRESS));
        (void)POST(c->slot, umask, V(022));
        (void)POST(c->slot, close, V(fd));
        c->failures += RESULT(c->slot) != 0 ? 1 : 0;
    }
    return NULL;
}

TEST(yod_many_vcpus)
{
    struct yod_rig *rig = yod_rig_new();
    pthread_t threads[4];
    struct caller callers[4];
    for (uint32_t i = 0; i < 4; i++) {
        callers[i] = (struct caller){rig, i, 0};
        CHECK(pthread_create(&threads[i], NULL, work, &callers[i]) == 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
        CHECK_EQ(callers[i].failures, 0);
    }
    struct vmmhpc_yod_stats stats = {.size = sizeof(stats)};
    CHECK_EQ(vmmhpc_yod_get_stats(rig->yod, &stats), VMMHPC_OK);
    CHECK_EQ(stats.served, 4 * 500 * 5);
    yod_rig_free(rig);
}

TEST(yod_bad_configurations)
{
    struct yod_rig *rig = yod_rig_tree();
    struct yd_machine machine = {0};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_yod *yod = NULL;
    struct vmmhpc_yod_config config = rig->config;
    struct vmmhpc_yod_root root = {.path = "relative"};
    CHECK_ERROR(yd_create(&machine, NULL, &yod, &err), &err, VMMHPC_E_INVALID, "configuration");
    config.size = 8;
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_INVALID, "configuration");
    config = rig->config;
    config.roots = &root;
    config.root_count = 1;
    static const char *const paths[] = {"relative", "/a/../b", "/a//b", "/proc", "/sys/kernel", ""};
    for (size_t i = 0; i < VH_COUNT(paths); i++) {
        root.path = paths[i];
        CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_INVALID, "root");
    }
    root.path = yod_path(rig, "absent");
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_INVALID, "cannot open");
    config.root_count = 100000;
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_LIMIT, "roots");
    config = rig->config;
    config.cpus = 0;
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_INVALID, "CPUs");
    config = rig->config;
    config.fds[1] = 9999;
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_INVALID, "stream");
    config = rig->config;
    config.exe = "/absent/exe";
    CHECK_ERROR(yd_create(&machine, &config, &yod, &err), &err, VMMHPC_E_IO, "executable");
    config.size = offsetof(struct vmmhpc_yod_config, hostname); /* of an older header */
    config.exe = NULL;
    CHECK_OK(yd_create(&machine, &config, &yod, &err), &err);
    CHECK_EQ(yod->pid, 1);
    yd_destroy(yod);
    CHECK_ERROR(vmmhpc_yod_create(NULL, &config, &yod, &err), &err, VMMHPC_E_INVALID, "machine");
    vmmhpc_yod_destroy(NULL);
    yod_rig_free(rig);
}
