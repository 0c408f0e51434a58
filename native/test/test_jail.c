/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the jail that need no jail: test/unit/jail.test.ts has the rest. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/jail.h"
#include "monitor/threads.h"
#include "tap.h"

TEST(jail_parts_have_names)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    uint32_t parts = 0;
    for (uint32_t i = 0; i < VH_JAIL_PARTS; i++) {
        CHECK_OK(vh_jail_parse(vh_jail_part_name(1u << i), &parts, &err), &err);
        CHECK_EQ(parts, 1u << i);
    }
    CHECK_EQ(strlen(vh_jail_part_name(1u << VH_JAIL_PARTS)), 0);
    CHECK_EQ(strlen(vh_jail_part_name(VH_JAIL_ROOT | VH_JAIL_PID_NS)), 0);
    CHECK_OK(vh_jail_parse("", &parts, &err), &err);
    CHECK_EQ(parts, 0);
    CHECK_OK(vh_jail_parse("net-ns,root,net-ns", &parts, &err), &err);
    CHECK_EQ(parts, VH_JAIL_NET_NS | VH_JAIL_ROOT);
    CHECK_ERROR(vh_jail_parse("root,,pid-ns", &parts, &err), &err, VMMHPC_E_INVALID, "no part");
    CHECK_ERROR(vh_jail_parse("roo", &parts, &err), &err, VMMHPC_E_INVALID, "\"roo\"");
    CHECK_ERROR(vh_jail_parse("root,moats", &parts, &err), &err, VMMHPC_E_INVALID, "\"moats\"");
    CHECK_EQ(err.value, 5);
}

TEST(jail_configurations_that_cannot_be)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_jail_config config = {.without = VH_JAIL_NO_NEW_PRIVS};
    CHECK_ERROR(vh_jail_enter(&config, &err), &err, VMMHPC_E_INVALID, "no-new-privs");
    config.without = 1u << VH_JAIL_PARTS;
    CHECK_ERROR(vh_jail_enter(&config, &err), &err, VMMHPC_E_INVALID, "unknown");
}

static void *count(void *arg)
{
    __atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

TEST(jail_threads_are_taken_by_kind_and_end)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    const struct vh_threads_config config = {.vcpus = 2, .disks = 2};
    struct vh_threads *threads = NULL;
    pthread_t thread[3];
    uint32_t counted = 0;
    if (!CHECK_OK(vh_threads_create(&config, &threads, &err), &err)) {
        return;
    }
    const struct vh_thread_source source = vh_threads_source(threads);
    static const enum vh_thread_kind kinds[] = {VH_THREAD_VCPU, VH_THREAD_IO, VH_THREAD_DISK};
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_OK(vh_thread_start(&source, kinds[i], &thread[i], count, &counted, "", &err), &err);
    }
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    CHECK_EQ(counted, 3);
    /* There was one for I/O, and one for disks is left until all that are left end. */
    CHECK_ERROR(vh_thread_start(&source, VH_THREAD_IO, &thread[0], count, &counted, "", &err), &err,
                VMMHPC_E_LIMIT, "no thread is left");
    vh_threads_close(threads);
    CHECK_ERROR(vh_thread_start(&source, VH_THREAD_DISK, &thread[0], count, &counted, "", &err),
                &err, VMMHPC_E_LIMIT, "no thread is left");
    vh_threads_destroy(threads);
    CHECK_EQ(counted, 3);
}

/* As nobody and without no_new_privs: the kernel refuses. */
static bool refused(void)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_threads *threads = NULL;
    const struct vh_threads_config config = {.vcpus = 2, .disks = 1, .confine = true};
    return (geteuid() != 0 || setresuid(65534, 65534, 65534) == 0) &&
           vh_threads_create(&config, &threads, &err) == VMMHPC_E_PERMISSION && threads == NULL &&
           strstr(err.text, "seccomp") != NULL;
}

TEST(jail_a_filter_that_cannot_be_put_up_leaves_no_thread)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(refused() ? 0 : 1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}
