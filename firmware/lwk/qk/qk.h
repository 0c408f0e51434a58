/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QK: what its files share.
 *
 * One lock guards everything that CPUs share. It is held from an entry that needs it until
 * schedule() has chosen what to run; interrupts are off in the QK but in an idle CPU's hlt. A
 * thread that waits has no kernel stack: its registers lie in struct thread, and whoever wakes it
 * writes its result there.
 */
#ifndef QK_H
#define QK_H

#include <stdarg.h>

#include "layout.h"
#include "qk_pct.h"
#include "vmmhpc_yod.h"
#include "x86.h"

#define MAX_CPUS 256u
#define MAX_THREADS 1024u
#define MAX_RANGES 64u
#define SLICE_NS 10000000ull
#define NS 1000000000ull
#define NEVER UINT64_MAX

/* Linux's numbers (errno.h, signal.h). */
enum {
    EPERM = 1,
    ESRCH = 3,
    EINTR = 4,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    ENODEV = 19,
    EINVAL = 22,
    ENOSYS = 38,
    ETIMEDOUT = 110,
};
enum {
    SIGILL = 4,
    SIGTRAP = 5,
    SIGBUS = 7,
    SIGFPE = 8,
    SIGKILL = 9,
    SIGSEGV = 11,
    SIGALRM = 14,
    SIGCHLD = 17,
    SIGCONT = 18,
    SIGSTOP = 19,
    SIGTSTP = 20,
    SIGTTIN = 21,
    SIGTTOU = 22,
    SIGURG = 23,
    SIGWINCH = 28,
};
enum { PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };

/* Interrupts. */
enum {
    VEC_TIMER = 0x20,
    VEC_IPI = 0x21,
    VEC_YOD = 0x22,
    VEC_SHM = 0x23,
    VEC_SPURIOUS = 0x2f,
    VECTORS = 0x30
};
#define VEC_SYSCALL 0x100u

/* Registers as trap_entry.S saves them; the first 15 are in the order of a signal frame. */
struct frame {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx;
    uint64_t vector;
    uint64_t error; /* of an exception; the call number of a system call */
    uint64_t rip, cs, rflags, rsp, ss;
};

/* ------------------------------------------------------------------- lists */

struct link {
    struct link *next, *prev;
};

static inline void list_init(struct link *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct link *l)
{
    return l->next == l;
}
/* Before `at`: at a list's end, if `at` is its head. */
static inline void list_insert(struct link *at, struct link *l)
{
    l->next = at;
    l->prev = at->prev;
    at->prev->next = l;
    at->prev = l;
}
static inline void list_remove(struct link *l)
{
    l->next->prev = l->prev;
    l->prev->next = l->next;
    list_init(l);
}
#define thread_of(l, member) ((struct thread *)((char *)(l)-offsetof(struct thread, member)))

/* ----------------------------------------------------------------- threads */

enum thread_state {
    T_RUNNABLE, /* runs, or is in a CPU's queue */
    T_FUTEX,    /* in a futex queue */
    T_SLEEP,    /* until its deadline */
    T_SIGNAL,   /* until a signal */
    T_PCT,      /* its call is with the PCT, or on the way there */
};

#define FPU_MAX 2816u /* x87 to AVX-512 without compaction: 2,688 bytes */

struct cpu;

/* One page: as many threads as pages, and none of them near another's. */
struct thread {
    struct frame frame; /* first: the end of it is where the CPU pushes on entry, 16-byte aligned */
    struct link link;   /* in a CPU's queue, a futex queue or the PCT's event queue */
    struct link timer;  /* in a CPU's list of sleepers */
    enum thread_state state;
    uint32_t tid;
    struct cpu *cpu;       /* where it runs, or ran last */
    struct cpu *loaded_on; /* where its FPU state and bases were loaded last */
    uint64_t fs_base, gs_base;
    uint64_t allowed[MAX_CPUS / 64]; /* affinity */
    uint64_t cpu_tsc;                /* TSC ticks that it ran */
    uint64_t deadline;               /* ns, monotonic; NEVER */
    uint64_t remaining;              /* user address for nanosleep's rest, or 0 */
    uint64_t futex;                  /* user address it waits for */
    uint32_t futex_mask;
    bool fetched;                               /* the PCT has its call */
    bool cancel;                                /* tell the PCT that a signal waits */
    bool restart;                               /* -EINTR in rax: SA_RESTART repeats the call */
    bool restore;                               /* saved_mask is to be restored after a signal */
    uint64_t mask, saved_mask, pending, waited; /* signals: bit n - 1 */
    uint64_t fault_address;                     /* of the last page fault */
    uint64_t waited_info;                       /* user address for rt_sigtimedwait */
    uint64_t stack, stack_bytes;                /* sigaltstack */
    uint64_t clear_tid;                         /* user addresses */
    uint64_t robust_list;
    uint8_t fpu[FPU_MAX] __attribute__((aligned(64)));
};
_Static_assert(sizeof(struct thread) <= LWK_PAGE, "a thread is one page");
_Static_assert(sizeof(struct frame) % 16 == 0, "the CPU aligns the stack it pushes on");

/* -------------------------------------------------------------------- CPUs */

struct tss {
    uint32_t reserved0;
    uint64_t rsp0, rsp1, rsp2;
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

/* pvclock_vcpu_time_info (Linux Documentation/virt/kvm/x86/msr.rst); ours where KVM gives none. */
struct clock {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad2[2];
};

struct cpu {
    struct cpu *self;  /* gs:0 */
    uint64_t stack;    /* gs:8: top */
    uint64_t user_rsp; /* gs:16: scratch of the system call entry */
    uint32_t pad;
    struct tss tss; /* gs:28: rsp0 at gs:32 */
    uint64_t gdt[10];
    struct clock clock __attribute__((aligned(32)));
    uint32_t number, apic_id;
    bool up;
    bool stale;   /* its TLB holds what was unmapped since: before it runs the application again */
    bool resched; /* the time slice is over */
    uint32_t flush; /* asked by another CPU: flush the TLB, and have been in the kernel */
    bool timer_fired, yod_fired;
    uint8_t shm_fired;               /* by vector */
    bool kicked;                     /* an IPI is on its way */
    uint64_t to_kick[MAX_CPUS / 64]; /* by this CPU, when it has released the lock */
    struct thread *current;          /* NULL: idle */
    struct thread *loaded; /* whose FPU state and bases are here, if its loaded_on agrees */
    uint64_t cr3;
    uint64_t since;        /* TSC when current was started */
    uint64_t armed, slice; /* ns: next timer interrupt, end of the time slice; NEVER */
    struct link queue;     /* runnable threads */
    struct link sleepers;  /* by deadline */
    uint32_t threads;      /* whose `cpu` it is */
    uint64_t ticks, switches;
    uint32_t *calls; /* system calls by number: a page */
};
_Static_assert(offsetof(struct cpu, tss) == 28, "entry.S");

extern struct cpu cpus[MAX_CPUS];
extern uint32_t cpu_count;

static inline struct cpu *this_cpu(void)
{
    struct cpu *c;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(c));
    return c;
}

/* What the CPUs have; the same for all. */
extern struct features {
    bool nx, page_1g, fsgsbase, xsave, xsaveopt, x2apic, tsc_deadline, hypervisor;
    uint32_t kvm; /* KVM's feature bits, or 0 */
    uint64_t cr4;
    uint64_t xcr0;
    uint32_t fpu_bytes;
} features;

/* --------------------------------------------------- the application as a whole */

extern struct app {
    bool started, dead;
    uint32_t pid;
    uint32_t live; /* threads */
    uint64_t cr3;
    struct thread *thread[MAX_THREADS]; /* by tid - pid */
    struct action {
        uint64_t handler, flags, restorer, mask;
    } action[64];
    uint64_t pending;            /* signals to the process */
    uint64_t outside;            /* of these: sent by yod or a timer, not by itself */
    uint64_t alarm, alarm_every; /* ITIMER_REAL, ns; NEVER */
    uint64_t dead_tsc;           /* CPU time of threads that have ended */
    struct pct_end end;
} app;

extern struct thread pct;
extern uint64_t pct_cr3;
extern struct lwk_info info;

/* ----------------------------------------------------------------- machine */

struct range {
    uint64_t start, end;
};

/* boot.c: what the loader said, copied before its memory is used. */
extern struct machine {
    struct range ram[MAX_RANGES];
    uint32_t ranges;
    struct range module;
    struct range pool;
    uint64_t rsdp;
    uint64_t unix_ns;            /* from the launch module */
    uint32_t ioapic, ioapic_gsi; /* address, first GSI */
    bool pic;
    bool yod;
    uint64_t queue;         /* physical address of struct yod_queue, as told by the PCT */
    uint64_t shm_registers; /* of a channel's function, and its window; 0: not looked for */
    struct range shm;
} machine;

void boot_parse(uint32_t kind, uint64_t pa);
void acpi_parse(void);

/* paging.c, pool.c */
#define KERNEL_BASE 0xffffffff80000000ull
#define DIRECT_BASE 0xffff800000000000ull /* the pool, at its physical address */
#define STACKS_BASE 0xffffffffc0000000ull
#define MMIO_BASE 0xffffffffe0000000ull
#define IMAGE_END 0x200000ull /* the image and its bss are below */

static inline void *direct(uint64_t pa)
{
    return (void *)(DIRECT_BASE + pa);
}
void pool_init(void);
uint64_t page_alloc(bool for_thread); /* physical address of a zeroed page; 0: none left */
void page_free(uint64_t pa);

void paging_init(void);
void paging_pct(void);
uint64_t map_stack(uint32_t slot, uint32_t part, uint32_t pages);
volatile uint32_t *map_mmio(uint64_t pa);
int64_t app_map(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t prot);
int64_t app_unmap(uint64_t va, uint64_t bytes);
int64_t app_protect(uint64_t va, uint64_t bytes, uint64_t prot);
int64_t app_translate(uint64_t va, uint64_t bytes, uint64_t prot, uint64_t out[2]);

/* cpu.c, fpu.c */
void features_init(void);
void cpu_prepare(struct cpu *c);
void cpu_init(struct cpu *c);
void idt_init(void);
void fpu_init_cpu(void);
extern uint8_t pristine_fpu[512]; /* as the CPU stores it first */
void fpu_fresh(struct thread *t);
void fpu_save(struct thread *t);
void fpu_load(struct thread *t);

/* apic.c, smp.c */
void apic_init(void);
void apic_init_cpu(void);
uint32_t apic_id(void);
void apic_eoi(void);
void apic_send(uint32_t apic_id, uint32_t command);
void ioapic_route(uint32_t gsi, uint32_t vector);
void timer_arm(uint64_t now, uint64_t deadline);
void timer_calibrate(void);
void smp_prepare(void);
void smp_start(void);
void smp_wait(void);
void kick(struct cpu *c);
void send_kicks(struct cpu *self);
void sync_cpus(void);
void sync_poll(struct cpu *c);
void stop_others(void);
void nmi(void);

/* time.c */
void clock_init(void);
void clock_init_cpu(struct cpu *c);
uint64_t now_ns(void);
uint64_t unix_now_ns(void);
void busy_wait(uint64_t ns);
int64_t read_deadline(uint64_t from, bool absolute, bool realtime, uint64_t *deadline);
bool clock_read(uint64_t id, struct thread *t, uint64_t *ns);

/* user.S, user.c: access to the memory of the current address space; 0, or -EFAULT */
int64_t copy_in(void *to, uint64_t from, uint64_t bytes);
int64_t copy_out(uint64_t to, const void *from, uint64_t bytes);
int64_t get_u32(uint64_t from, uint32_t *to);
int64_t cmpxchg_u32(uint64_t at, uint32_t *expected, uint32_t desired);

/* sched.c */
void lock(void);
void unlock(void);
struct frame *schedule(void);
void halt(void);
_Noreturn void return_to_frame(struct frame *f);
void ready(struct thread *t, struct cpu *c, bool front);
void wake(struct thread *t, int64_t result);
void wait(struct thread *t, enum thread_state state, uint64_t deadline);
void place(struct thread *t);
struct cpu *least_loaded(const struct thread *t);
void expire(struct cpu *c);
static inline bool may_run_on(const struct thread *t, const struct cpu *c)
{
    return (t->allowed[c->number / 64] >> (c->number % 64) & 1) != 0;
}

/* thread.c, futex.c, signal.c, sigframe.c */
struct thread *thread_find(uint64_t tid);
struct thread *thread_new(void);
int64_t start_app(uint64_t entry, uint64_t stack);
void end_app(uint32_t end, int32_t status, uint32_t signal, const struct thread *t);
int64_t futex_wake(uint64_t address, uint32_t count, uint32_t mask);
void signal_thread(struct thread *t, uint32_t signal);
void signal_process(uint32_t signal, bool outside);
bool signal_deliver(struct thread *t);
void signal_fault(struct thread *t, uint32_t vector, uint64_t cr2);
bool sigframe_push(struct thread *t, const struct action *a, const uint32_t siginfo[32]);
bool sigframe_pop(struct thread *t);

/* A system call that did not set its result, because the thread waits or its registers are new. */
#define NO_RESULT INT64_MIN
typedef int64_t syscall_fn(struct thread *t, const uint64_t a[6]);
syscall_fn sys_clone, sys_exit, sys_exit_group, sys_set_tid_address, sys_set_robust_list,
    sys_sched_setaffinity, sys_sched_getaffinity, sys_sched_yield, sys_futex, sys_rt_sigaction,
    sys_rt_sigprocmask, sys_rt_sigreturn, sys_rt_sigpending, sys_rt_sigsuspend, sys_rt_sigtimedwait,
    sys_sigaltstack, sys_pause, sys_kill, sys_tkill, sys_tgkill, sys_nanosleep, sys_clock_nanosleep,
    sys_alarm, sys_setitimer, sys_getitimer, sys_clock_gettime, sys_clock_getres, sys_gettimeofday,
    sys_time, sys_times, sys_getrusage;

/* syscall.c, pct.c */
int64_t call_pct(struct thread *t);
void pct_wake(void);
void pct_post(uint32_t kinds);
void pct_start_thread(void);
int64_t pct_call(const struct frame *f);

/* shm.c */
int64_t shm_find(void);
void shm_count(uint32_t vectors);

/* console.c, panic.c */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void format_text(char *out, uint64_t bytes, const char *format, va_list list);
void console_write(const char *text, uint64_t bytes);
_Noreturn void panic(const struct frame *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void report_registers(const struct frame *f, uint64_t to[18]);
_Noreturn void power_off(void);

void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif
