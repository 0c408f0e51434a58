/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the QK (supervisor mode: address mapping, exceptions, context switch, timers) and the PCT
 * (user mode: memory and process policy, loading, talk with yod).
 *
 * The PCT is one single-threaded process with an address space of its own. The QK hands it events,
 * one at a time, on whatever CPU caused them; the PCT answers by privileged calls, which are open
 * to it alone. While it handles one event, further ones wait in the QK.
 */
#ifndef LWK_QK_PCT_H
#define LWK_QK_PCT_H

#include <stdint.h>

/* ------------------------------------------------------------ address spaces */

#define LWK_PAGE 4096ull
#define LWK_PAGE_2M (2ull << 20)
#define LWK_PAGE_1G (1ull << 30)

/* The application's: all of [APP_LOW, APP_HIGH). Above 2^47 is the QK's, without user rights. */
#define LWK_APP_LOW 0x10000ull
#define LWK_APP_HIGH 0x7ffffffff000ull

/* The PCT's: its image, and all RAM that is not the QK's own, writable, never executable, at
 * LWK_PCT_RAM + physical address. */
#define LWK_PCT_IMAGE 0x10000000ull   /* link address of the PCT */
#define LWK_PCT_STACK 0x1ffff000ull   /* top of its stack of 64 KiB, with a guard page below */
#define LWK_PCT_INFO 0x20000000ull    /* struct lwk_info, writable */
#define LWK_PCT_RAM 0x100000000000ull /* 2^44 */

/* ------------------------------------------------- what the QK tells the PCT */

#define LWK_CALLS 512u
#define LWK_SHM_VECTORS 4u

struct lwk_info {
    uint64_t module_pa; /* struct yod_launch; 0: none was given */
    uint64_t module_bytes;
    uint64_t
        heap_pa; /* RAM for the application: one contiguous region, 2 MiB aligned at its start, */
    uint64_t heap_bytes; /* the largest there is; neither the QK nor the module lies in it */
    uint64_t ram_bytes;  /* of the whole machine */
    uint32_t cpus;       /* that are up */
    uint32_t yod;        /* 1: the yod device answers */
    uint64_t tsc_hz;
    uint64_t tsc_entry; /* TSC when the kernel was entered */
    uint64_t ticks;     /* counted by the QK: timer interrupts, thread switches */
    uint64_t switches;
    uint32_t threads; /* alive now, and at most so far */
    uint32_t threads_max;
    uint32_t calls[LWK_CALLS]; /* system calls by number, counted by the QK */
    char cpu_vendor[16];
    char cpu_model[64];
    /* A channel's function (docs/reference/shm.md), after QK_SHM: its registers (a page), its
     * window up to the end of the last area, the size of an area. */
    uint64_t shm_registers_pa;
    uint64_t shm_pa;
    uint64_t shm_bytes;
    uint64_t shm_area;
    uint32_t shm_rung[LWK_SHM_VECTORS]; /* interrupts by vector, counted by the QK */
    uint32_t shm_waiting;               /* the PCT's: whether it wants PCT_EVENT_SHM */
};

/* ------------------------------------------------------------------- events */

enum pct_event_kind {
    PCT_EVENT_START = 1,   /* first of all */
    PCT_EVENT_CALL = 2,    /* thread tid made a system call that the QK does not provide itself */
    PCT_EVENT_SHIPPED = 3, /* yod's interrupt: slots are done, or signals were set */
    PCT_EVENT_END = 4,    /* the application ended: `end` says how; no thread of it runs any more */
    PCT_EVENT_CANCEL = 5, /* a signal waits for thread tid, whose call has been fetched and not been
                           * replied to: if it may take long, end it, with -EINTR; or (args[0] = 1)
                           * the time of QK_TIMEOUT is over */
    PCT_EVENT_SHM = 6     /* an interrupt of the channel's, and shm_waiting is not 0 */
};

/* As enum yod_end. */
struct pct_end {
    uint32_t end;
    int32_t status;
    uint32_t signal;
    uint32_t vector;
    uint64_t error_code;
    uint64_t fault_address;
    uint64_t registers[18]; /* as in struct yod_report */
    uint64_t fs_base;
    uint32_t tid;
    uint32_t cpu;
};

struct pct_event {
    uint32_t kind;
    uint32_t tid;
    uint64_t call; /* Linux system call number */
    uint64_t args[6];
    struct pct_end end;
};

/* --------------------------------------------------------- privileged calls */

/* By `syscall`: number in rax, arguments in rdi rsi rdx r10 r8 r9, result in rax (negative errno).
 * An application that uses these numbers gets ENOSYS. */
#define QK_BASE 0x4000u
enum qk_call {
    /* (struct pct_event *out): give up the CPU until there is an event, and fetch it. */
    QK_NEXT = QK_BASE,
    /* (tid, result): the thread's system call returns; it may run. -EINTR and signals are the QK's.
     */
    QK_REPLY,
    /* (va, pa, bytes, prot): map into the application's address space with the largest pages that
     * fit; 4 KiB aligned; prot: PROT_READ | PROT_WRITE | PROT_EXEC, and 0 for a guard. What was
     * mapped there is replaced. pa may also lie in the channel's window, or be its registers, which
     * are mapped uncached. Refuses: writable and executable at once (-EACCES), the QK's RAM,
     * addresses outside [LWK_APP_LOW, LWK_APP_HIGH) (-EINVAL), no page table left (-ENOMEM). Other
     * CPUs' TLBs are flushed. */
    QK_MAP,
    /* (va, bytes) */
    QK_UNMAP,
    /* (va, bytes, prot): of pages that are mapped, guards included; -ENOMEM where one is not. */
    QK_PROTECT,
    /* (va, bytes, prot, uint64_t out[2]): out[0]: physical address of va, out[1]: how many bytes
     * from there on are mapped with these rights and physically contiguous, at most `bytes`;
     * -EFAULT: none, or not RAM. */
    QK_TRANSLATE,
    /* (entry, stack pointer): the application's first thread, tid = pid of yod_launch; may run. */
    QK_START,
    /* (value): write to the yod device's doorbell; (register, value) to another register of it. */
    QK_DOORBELL,
    QK_YOD_WRITE,
    /* (signal, tid): to that thread; tid 0: to the process, as kill() from outside. */
    QK_SIGNAL,
    /* (text, bytes): to the serial port. */
    QK_CONSOLE,
    /* (): end of the machine: power-off, or what else ends it where there is no ACPI. Does not
       return. */
    QK_POWER_OFF,
    /* (pid): what getpid() says; before QK_START. */
    QK_SET_PID,
    /* (): find the channel's function and turn it on; -ENODEV: there is none. */
    QK_SHM,
    /* (tid, ns): PCT_EVENT_CANCEL for the thread, whose call was fetched, after that time. */
    QK_TIMEOUT
};

#endif
