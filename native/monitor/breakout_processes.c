/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts on other processes, and to become more than one. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor/breakout.h"

#define ATTEMPT(name) static int name(__attribute__((unused)) const struct vh_breakout_world *world)

static int outcome(long result)
{
    return result < 0 ? errno : 0;
}

/* A child that got that far: it ends, the attempt has succeeded. */
static int forked(long pid)
{
    if (pid == 0) {
        _exit(0);
    }
    if (pid > 0) {
        (void)waitpid((pid_t)pid, NULL, 0);
    }
    return outcome(pid);
}

ATTEMPT(kill_outside)
{
    return outcome(kill(world->process, 0));
}

ATTEMPT(kill_all)
{
    return outcome(kill(-1, 0));
}

ATTEMPT(kill_group)
{
    return outcome(kill(-world->process, 0));
}

ATTEMPT(queue_signal)
{
    return outcome(sigqueue(world->process, 0, (union sigval){0}));
}

/* Another signal than the kick, within the process. */
ATTEMPT(signal_thread)
{
    return outcome(syscall(SYS_tgkill, 1, world->thread, 0));
}

ATTEMPT(ptrace_attach)
{
    return outcome(ptrace(PTRACE_SEIZE, world->process, NULL, NULL));
}

ATTEMPT(read_memory)
{
    char byte = 0;
    struct iovec to = {&byte, 1};
    struct iovec from = {(void *)(uintptr_t)&vh_breakout_processes, 1};
    ssize_t got = process_vm_readv(world->process, &to, 1, &from, 1, 0);
    return got >= 0 || errno == EFAULT ? 0 : errno; /* the right address is another matter */
}

ATTEMPT(take_descriptor)
{
    int fd = (int)syscall(SYS_pidfd_open, world->process, 0);
    return fd < 0 ? errno : outcome(syscall(SYS_pidfd_getfd, fd, 0, 0));
}

ATTEMPT(see_limits)
{
    return outcome(syscall(SYS_prlimit64, world->process, 7 /* RLIMIT_NOFILE */, NULL, NULL));
}

ATTEMPT(attach_segment)
{
    return shmat(world->segment, NULL, SHM_RDONLY) == (void *)-1 ? errno : 0;
}

ATTEMPT(by_fork)
{
    return forked(syscall(SYS_fork));
}

ATTEMPT(by_vfork)
{
    return forked(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL));
}

ATTEMPT(by_clone)
{
    return forked(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

ATTEMPT(by_clone3)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    return forked(syscall(SYS_clone3, &args, sizeof(args)));
}

ATTEMPT(execute)
{
    char *const args[] = {"/bin/sh", "-c", "exit 0", NULL};
    return outcome(execve("/bin/sh", args, NULL));
}

/* The smallest program: exit(0). */
static int program(int fd)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        uint8_t code[9];
    } image = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_version = 1,
                   .e_entry = 0x400000 + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_ehsize = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_LOAD,
                    .p_flags = PF_R | PF_X,
                    .p_vaddr = 0x400000,
                    .p_filesz = sizeof(image),
                    .p_memsz = sizeof(image),
                    .p_align = 4096},
        .code = {0x6a, 0x3c, 0x58, 0x31, 0xff, 0x0f, 0x05}, /* push 60; pop rax; xor edi, edi */
    };
    return write(fd, &image, sizeof(image)) == (ssize_t)sizeof(image) ? 0 : errno;
}

/* Run what is in memory only. */
ATTEMPT(execute_memory)
{
    int fd = (int)syscall(SYS_memfd_create, "program", 0);
    if (fd < 0) {
        return errno;
    }
    int error = program(fd);
    char *const none[] = {NULL};
    /* First a descriptor that there is not: seccomp, if any, is to speak of this very call. */
    (void)syscall(SYS_execveat, -1, "", none, none, AT_EMPTY_PATH);
    pid_t pid = error == 0 ? fork() : -1;
    if (pid == 0) {
        (void)syscall(SYS_execveat, fd, "", none, none, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : EAGAIN;
}

const struct vh_breakout_attempt vh_breakout_processes[] = {
    {"kill-outside", kill_outside, VH_LAYER_PID_NS, false},
    {"kill-all", kill_all, VH_LAYER_PID_NS, false},
    {"kill-group", kill_group, VH_LAYER_PID_NS, false},
    {"queue-signal", queue_signal, VH_LAYER_PID_NS, false},
    {"signal-thread", signal_thread, VH_LAYER_SECCOMP, false},
    {"ptrace", ptrace_attach, VH_LAYER_PID_NS, false},
    {"read-memory", read_memory, VH_LAYER_PID_NS, false},
    {"take-descriptor", take_descriptor, VH_LAYER_PID_NS, false},
    {"see-limits", see_limits, VH_LAYER_PID_NS, false},
    {"attach-segment", attach_segment, VH_LAYER_IPC_NS, false},
    {"fork", by_fork, VH_LAYER_SECCOMP, false},
    {"vfork", by_vfork, VH_LAYER_SECCOMP, false},
    {"clone", by_clone, VH_LAYER_SECCOMP, false},
    {"clone3", by_clone3, VH_LAYER_SECCOMP, false},
    {"execute", execute, VH_LAYER_ROOT, false},
    {"execute-memory", execute_memory, VH_LAYER_SECCOMP, false},
};
const uint32_t vh_breakout_processes_count = VH_COUNT(vh_breakout_processes);
