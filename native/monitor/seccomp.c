/* SPDX-License-Identifier: Apache-2.0 */
/* From the lists to a filter, and what happens when one bites. */
#include "monitor/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine.h"

/* Longest jump within a program is 255, each call's part is one jump. */
#define PART_MAX 254u
#define PROGRAM_MAX 512u
#define X32_BIT 0x40000000u
/* Arguments are looked at by their lower halves: all that are checked are 32 bits for the kernel,
 * or are compared with bits that lie there. */
#define ARG(n) ((uint32_t)(offsetof(struct seccomp_data, args) + 8ull * (n)))

struct program {
    struct sock_filter code[PROGRAM_MAX];
    uint32_t length;
    bool overflow;
};

/* Of this process; a confined thread may not ask. */
static _Atomic pid_t process;

static void emit(struct program *program, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (program->length == PROGRAM_MAX) {
        program->overflow = true;
        return;
    }
    program->code[program->length++] = (struct sock_filter){code, yes, no, k};
}

static void load(struct program *program, uint32_t offset)
{
    emit(program, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void answer(struct program *program, uint32_t action)
{
    emit(program, BPF_RET | BPF_K, action, 0, 0);
}

/* Allow where what was loaded is this value; else go on. */
static void allow_value(struct program *program, uint32_t value)
{
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(program, SECCOMP_RET_ALLOW);
}

/* Trap where what was loaded is not this value. */
static void need_value(struct program *program, uint32_t value)
{
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    answer(program, SECCOMP_RET_TRAP);
}

static void check_requests(struct program *program, enum vh_seccomp_kind kind)
{
    size_t count = 0;
    const struct vh_seccomp_request *requests = vh_seccomp_requests(&count);
    load(program, ARG(1));
    for (size_t i = 0; i < count; i++) {
        if ((requests[i].kinds >> kind & 1) != 0) {
            allow_value(program, requests[i].number);
        }
    }
}

static void check_fcntl(struct program *program)
{
    static const uint32_t commands[] = {F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,    F_GETFL,
                                        F_SETFL,         F_OFD_SETLK, F_ADD_SEALS};
    load(program, ARG(1));
    for (uint32_t i = 0; i < VH_COUNT(commands); i++) {
        allow_value(program, commands[i]);
    }
}

/* The part after the call's number was found: allow, or trap. */
static void check(struct program *program, enum vh_seccomp_kind kind, enum vh_seccomp_check what)
{
    switch (what) {
    case VH_CHECK_NONE:
        answer(program, SECCOMP_RET_ALLOW);
        return;
    case VH_CHECK_REQUEST:
        check_requests(program, kind);
        break;
    case VH_CHECK_NO_EXEC:
        load(program, ARG(2));
        emit(program, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
        answer(program, SECCOMP_RET_ALLOW);
        break;
    case VH_CHECK_DESCRIPTOR:
        load(program, ARG(3));
        allow_value(program, AT_EMPTY_PATH);
        break;
    case VH_CHECK_FCNTL:
        check_fcntl(program);
        break;
    case VH_CHECK_UNIX:
        load(program, ARG(0));
        allow_value(program, AF_UNIX);
        break;
    case VH_CHECK_KICK:
        load(program, ARG(0));
        need_value(program, (uint32_t)process);
        load(program, ARG(2));
        allow_value(program, (uint32_t)VH_KICK_SIGNAL);
        break;
    case VH_CHECK_FILTER:
        load(program, ARG(0));
        allow_value(program, PR_SET_SECCOMP);
        break;
    }
    answer(program, SECCOMP_RET_TRAP);
}

static void build(struct program *program, enum vh_seccomp_kind kind)
{
    size_t count = 0;
    const struct vh_seccomp_call *calls = vh_seccomp_calls(&count);
    load(program, offsetof(struct seccomp_data, arch));
    emit(program, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load(program, offsetof(struct seccomp_data, nr));
    emit(program, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(program, SECCOMP_RET_KILL_PROCESS);
    for (size_t i = 0; i < count && !program->overflow; i++) {
        if ((calls[i].kinds >> kind & 1) != 0) {
            uint32_t jump = program->length;
            emit(program, BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 0);
            check(program, kind, calls[i].check);
            uint32_t part = program->length - jump - 1;
            program->overflow = program->overflow || part > PART_MAX;
            program->code[jump].jf = (uint8_t)part;
        }
    }
    answer(program, SECCOMP_RET_TRAP);
}

/* ------------------------------------------------------------------ the program's */

/* Signal handlers have no other way to what belongs to them. */
static _Thread_local enum vh_seccomp_kind my_kind = VH_SECCOMP_KINDS;
static _Thread_local bool in_trap;
static vh_seccomp_trap on_trap;

int32_t vh_seccomp_install(enum vh_seccomp_kind kind, struct vmmhpc_error *err)
{
    struct program program = {.length = 0};
    if (my_kind == VH_SECCOMP_KINDS) {
        process = getpid();
    }
    build(&program, kind);
    if (program.overflow) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, kind, "the list of system calls is too long");
    }
    const struct sock_fprog prog = {(unsigned short)program.length, program.code};
    enum vh_seccomp_kind before = my_kind;
    my_kind = kind;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) == 0) {
        return VMMHPC_OK;
    }
    my_kind = before;
    int32_t code = VMMHPC_E_SYSCALL;
    if (errno == EACCES || errno == EPERM) {
        code = VMMHPC_E_PERMISSION;
    } else if (errno == EINVAL || errno == ENOSYS) {
        code = VMMHPC_E_UNSUPPORTED;
    }
    return vh_fail(err, code, errno, kind,
                   "seccomp: cannot confine a thread (%s); the kernel needs CONFIG_SECCOMP_FILTER",
                   vh_seccomp_kind_name(kind));
}

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (on_trap != NULL && !in_trap) { /* it may be what is not allowed */
        in_trap = true;
        on_trap(my_kind, (uint32_t)info->si_syscall);
    }
    _exit(VH_SECCOMP_STATUS);
}

void vh_seccomp_survive(void)
{
    in_trap = false;
}

int32_t vh_seccomp_on_trap(vh_seccomp_trap trap, struct vmmhpc_error *err)
{
    on_trap = trap;
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    (void)sigemptyset(&action.sa_mask);
    return sigaction(SIGSYS, &action, NULL) == 0
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_SYSCALL, errno, SIGSYS, "cannot handle SIGSYS");
}
