/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to have more rights, and at parts of the kernel that a monitor has no business with. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "monitor/breakout.h"

#define ATTEMPT(name) static int name(__attribute__((unused)) const struct vh_breakout_world *world)

static int outcome(long result)
{
    return result < 0 ? errno : 0;
}

ATTEMPT(mount_tmpfs)
{
    return outcome(mount("none", "/", "tmpfs", 0, NULL));
}

ATTEMPT(mount_proc)
{
    return outcome(mount("proc", "/", "proc", 0, NULL));
}

ATTEMPT(mount_writable)
{
    return outcome(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
}

ATTEMPT(unmount)
{
    return outcome(umount2("/", MNT_DETACH));
}

ATTEMPT(open_file_system)
{
    return outcome(syscall(SYS_fsopen, "proc", 0));
}

ATTEMPT(change_root)
{
    return outcome(chroot("."));
}

/* In a child: unshare() refuses where there are threads. */
ATTEMPT(new_user_namespace)
{
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        _exit(0);
    }
    return pid > 0 && waitpid(pid, NULL, 0) == pid ? 0 : errno;
}

ATTEMPT(new_mount_namespace)
{
    return outcome(unshare(CLONE_NEWNS));
}

ATTEMPT(join_namespace)
{
    int fd = (int)syscall(SYS_pidfd_open, 1, 0);
    return fd < 0 ? errno : outcome(setns(fd, CLONE_NEWNET));
}

/* Not by the C library, which would have all threads do it. */
ATTEMPT(become_root)
{
    return outcome(syscall(SYS_setresuid, 0, 0, 0));
}

ATTEMPT(join_root_group)
{
    return outcome(syscall(SYS_setresgid, 0, 0, 0));
}

ATTEMPT(take_capabilities)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct data[2] = {{1u << CAP_SYS_ADMIN, 1u << CAP_SYS_ADMIN, 0},
                                                   {0, 0, 0}};
    return outcome(syscall(SYS_capset, &header, data));
}

ATTEMPT(raise_ambient)
{
    return outcome(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
}

ATTEMPT(raise_limit)
{
    const struct rlimit more = {1u << 20, 1u << 20};
    return outcome(setrlimit(RLIMIT_NOFILE, &more));
}

ATTEMPT(dump_core)
{
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    return outcome(setrlimit(RLIMIT_CORE, &all));
}

ATTEMPT(use_bpf)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    return outcome(syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attr, sizeof(attr)));
}

/* Count what CPU 0 does, for all processes. */
ATTEMPT(use_perf)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr)};
    return outcome(syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0));
}

ATTEMPT(set_clock)
{
    const struct timespec epoch = {0, 0};
    return outcome(clock_settime(CLOCK_REALTIME, &epoch));
}

ATTEMPT(set_host_name)
{
    return outcome(sethostname("x", 1));
}

ATTEMPT(use_ports)
{
    return outcome(syscall(SYS_iopl, 3));
}

ATTEMPT(load_module)
{
    return outcome(syscall(SYS_init_module, "", 0, ""));
}

ATTEMPT(use_keys)
{
    return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

ATTEMPT(type_into_terminal)
{
    char key = 'x';
    int error = EBADF;
    for (int fd = 0; fd < 3 && error != 0; fd++) {
        error = outcome(ioctl(fd, TIOCSTI, &key));
    }
    return error;
}

/* Of KVM, but nothing that a monitor asks for. */
ATTEMPT(other_kvm_request)
{
    struct kvm_create_device device = {.type = KVM_DEV_TYPE_VFIO};
    return outcome(ioctl(3, KVM_CREATE_DEVICE, &device));
}

ATTEMPT(run_written_code)
{
    void *at =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? errno : 0;
}

ATTEMPT(make_executable)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? errno : outcome(mprotect(at, 4096, PROT_READ | PROT_EXEC));
}

ATTEMPT(change_personality)
{
    return outcome(personality(READ_IMPLIES_EXEC));
}

ATTEMPT(change_segments)
{
    char table[16];
    return outcome(syscall(SYS_modify_ldt, 0, table, sizeof(table)));
}

ATTEMPT(become_dumpable)
{
    return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

ATTEMPT(catch_faults)
{
    return outcome(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */));
}

/* getpid() of the i386 ABI. */
ATTEMPT(call_as_i386)
{
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    errno = (int)-result;
    return result > 0 ? 0 : errno;
}

/* getpid() of the x32 ABI, which a kernel may not have. */
ATTEMPT(call_as_x32)
{
    return outcome(syscall(0x40000000 | SYS_getpid));
}

const struct vh_breakout_attempt vh_breakout_kernel[] = {
    {"mount-tmpfs", mount_tmpfs, VH_LAYER_CAPABILITIES, false},
    {"mount-proc", mount_proc, VH_LAYER_CAPABILITIES, false},
    {"mount-writable", mount_writable, VH_LAYER_CAPABILITIES, false},
    {"unmount", unmount, VH_LAYER_CAPABILITIES, false},
    {"open-file-system", open_file_system, VH_LAYER_CAPABILITIES, false},
    {"change-root", change_root, VH_LAYER_CAPABILITIES, false},
    {"new-user-namespace", new_user_namespace, VH_LAYER_USER_NS, false},
    {"new-mount-namespace", new_mount_namespace, VH_LAYER_CAPABILITIES, false},
    {"join-namespace", join_namespace, VH_LAYER_CAPABILITIES, false},
    {"become-root", become_root, VH_LAYER_CAPABILITIES, false},
    {"join-root-group", join_root_group, VH_LAYER_CAPABILITIES, false},
    {"take-capabilities", take_capabilities, VH_LAYER_CAPABILITIES, false},
    {"raise-ambient", raise_ambient, VH_LAYER_CAPABILITIES, false},
    {"raise-limit", raise_limit, VH_LAYER_RLIMITS, false},
    {"dump-core", dump_core, VH_LAYER_RLIMITS, false},
    {"bpf", use_bpf, VH_LAYER_CAPABILITIES, false},
    {"perf", use_perf, VH_LAYER_CAPABILITIES, false},
    {"set-clock", set_clock, VH_LAYER_CAPABILITIES, false},
    {"set-host-name", set_host_name, VH_LAYER_CAPABILITIES, false},
    {"use-ports", use_ports, VH_LAYER_CAPABILITIES, false},
    {"load-module", load_module, VH_LAYER_CAPABILITIES, false},
    {"keys", use_keys, VH_LAYER_SECCOMP, false},
    {"type-into-terminal", type_into_terminal, VH_LAYER_NOTHING_THERE, false},
    {"other-kvm-request", other_kvm_request, VH_LAYER_NOTHING_THERE, false},
    {"run-written-code", run_written_code, VH_LAYER_SECCOMP, false},
    {"make-executable", make_executable, VH_LAYER_SECCOMP, false},
    {"change-personality", change_personality, VH_LAYER_SECCOMP, false},
    {"change-segments", change_segments, VH_LAYER_SECCOMP, false},
    {"become-dumpable", become_dumpable, VH_LAYER_SECCOMP, false},
    {"catch-faults", catch_faults, VH_LAYER_SECCOMP, false},
    {"call-as-i386", call_as_i386, VH_LAYER_SECCOMP, true},
    {"call-as-x32", call_as_x32, VH_LAYER_SECCOMP, true},
};
const uint32_t vh_breakout_kernel_count = VH_COUNT(vh_breakout_kernel);
