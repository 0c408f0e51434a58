/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the lightweight kernel (firmware/lwk) and its launcher yod (native/yod): the launch
 * module that carries the application into the guest, the port that the guest rings, the slots
 * through which it ships system calls, and the report it leaves at its end. Little-endian, x86-64.
 *
 * Shared by both sides, and by nothing else. The guest is not trusted: the launcher checks whatever
 * it reads here, and copies a slot before it looks at it.
 */
#ifndef VMMHPC_YOD_H
#define VMMHPC_YOD_H

#include <stdint.h>

/* What uname() says of release and version, and /proc agrees with. */
#define YOD_OSRELEASE "6.1.0-v3m-lwk"
#define YOD_OSVERSION "#1 V3M lightweight kernel"

/* ------------------------------------------------------------ launch module */

#define YOD_LAUNCH_MAGIC 0x484e554c4b574cull /* "LWKLUNH" */
#define YOD_LAUNCH_VERSION 1u

#define YOD_LAUNCH_REPORT_CALLS (1u << 0) /* count system calls by number in the report */

/**
 * The first bytes of the module (Linux: initrd; PVH and multiboot: first module) that the kernel is
 * given. Everything else of the module follows it; offsets are from its start. The module starts on
 * a page boundary.
 */
struct yod_launch {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes_header; /* sizeof(struct yod_launch) */
    uint64_t bytes;        /* of the whole module */
    uint64_t app_offset;   /* the executable: ELF64, static; on a page boundary */
    uint64_t app_bytes;
    /* argc arguments, envc environment strings, then the executable's path: each ends in NUL */
    uint64_t strings_offset;
    uint64_t strings_bytes;
    uint32_t argc;
    uint32_t envc;
    uint64_t stack_bytes; /* of the main thread; 0: the kernel chooses */
    uint32_t flags;       /* YOD_LAUNCH_… */
    uint32_t pid;         /* what getpid() says; at least 1 */
    uint32_t uid;
    uint32_t euid;
    uint32_t gid;
    uint32_t egid;
    uint8_t seed[64]; /* from the host's random generator; for AT_RANDOM and getrandom() */
    uint64_t unix_ns; /* wall clock at the launch, nanoseconds since 1970; used without kvmclock */
    char nodename[64];
};

/* --------------------------------------------------------------- the device */

/* 32-bit accesses, at multiples of four. Without yod the ports read as all ones. */
#define YOD_PORT 0xe00u
#define YOD_PORT_BYTES 16u
#define YOD_REG_MAGIC 0u    /* read: YOD_MAGIC */
#define YOD_REG_QUEUE 4u    /* write, once: struct yod_queue's first page (GPA >> 12) */
#define YOD_REG_DOORBELL 8u /* write: index of a posted slot, or YOD_DOORBELL_REPORT */
#define YOD_REG_TRACE 12u   /* write: YOD_TRACE_…; progress of the boot, for measurements */

#define YOD_MAGIC 0x31444f59u /* "YOD1" */
#define YOD_DOORBELL_REPORT 0xffffffffu

#define YOD_TRACE_ENTRY 1u /* first instructions of the kernel */
#define YOD_TRACE_APP 2u   /* about to run the application's first instruction */

/* Raised (edge: 0 to 1 and back) when a slot that was not done on return from the doorbell is done,
 * and when signals were set. */
#define YOD_GSI 5u

/* -------------------------------------------------------------------- slots */

#define YOD_SLOTS 64u

enum yod_slot_state { YOD_SLOT_FREE = 0, YOD_SLOT_POSTED = 1, YOD_SLOT_DONE = 2 };

/* Calls beside Linux's own numbers. */
/* args[0]: a slot; it ends soon, with -EINTR if it had not ended. */
#define YOD_CALL_CANCEL 0x10000u

#define YOD_NO_ADDRESS UINT64_MAX

/**
 * One shipped system call. The guest fills it, sets state to POSTED and writes its index to the
 * doorbell. Most calls are done when that write returns; one that would block is done later.
 *
 * args: as Linux's, but every pointer is a guest-physical address, with the number of bytes there
 * that the call may use in extent (contiguous RAM, already checked against the application's
 * rights). A null pointer is YOD_NO_ADDRESS with extent 0. A path is NUL-terminated within its
 * extent.
 *
 * result: as Linux's: negative errno on failure.
 *
 * Vectored calls (readv, writev ...) do not appear: the guest ships one call for each piece.
 */
struct yod_slot {
    uint32_t state; /* enum yod_slot_state; read and written with acquire and release order */
    uint32_t call;  /* Linux x86-64 system call number, or YOD_CALL_… */
    int64_t result;
    uint64_t args[6];
    uint64_t extent[6];
};

/* ------------------------------------------------------------------- report */

enum yod_end {
    YOD_END_NONE = 0,
    YOD_END_EXIT = 1,   /* exit_group() or the last thread's exit(); status */
    YOD_END_SIGNAL = 2, /* ended by a signal that the application raised or was sent; signal */
    YOD_END_FAULT = 3,  /* an exception in the application: also signal, vector, registers */
    YOD_END_LAUNCH = 4, /* the application could not be loaded: text says why */
    YOD_END_PANIC = 5   /* the kernel itself failed: text, vector and registers say where */
};

#define YOD_REPORT_CALLS 512u
#define YOD_REPORT_BACKTRACE 64u

/** How it ended. The guest fills it, then rings YOD_DOORBELL_REPORT, then powers off. */
struct yod_report {
    uint32_t end; /* enum yod_end */
    int32_t status;
    uint32_t signal;
    uint32_t vector; /* exception; UINT32_MAX: none */
    uint64_t error_code;
    uint64_t fault_address; /* CR2 */
    /* rax rbx rcx rdx rsi rdi rbp rsp r8 … r15 rip rflags */
    uint64_t registers[18];
    uint64_t fs_base;
    uint32_t tid;
    uint32_t cpu;
    /* Bytes at RIP, and return addresses found on the stack: by frame pointers (exact), then by
     * scan. */
    uint8_t code[16];
    uint32_t code_bytes;
    uint32_t backtrace_exact; /* how many of the addresses come from the frame-pointer chain */
    uint32_t backtrace_count;
    uint32_t threads; /* at most so many at once */
    uint64_t backtrace[YOD_REPORT_BACKTRACE];
    uint64_t load_bias; /* of a position-independent executable: run-time less link-time address */
    uint64_t ticks;     /* timer interrupts of all CPUs */
    uint64_t switches;  /* between threads */
    uint64_t shipped;   /* system calls that went to yod */
    uint64_t tsc_entry; /* TSC at the kernel's entry, */
    uint64_t tsc_app;   /* and before the application's first instruction */
    uint32_t calls[YOD_REPORT_CALLS];        /* by number, with YOD_LAUNCH_REPORT_CALLS */
    uint32_t not_provided[YOD_REPORT_CALLS]; /* answered by ENOSYS, by number */
    uint32_t not_provided_other;             /* beyond YOD_REPORT_CALLS */
    uint32_t reserved;
    char text[256]; /* NUL-terminated */
};

/** In contiguous guest RAM, from a page boundary on. */
struct yod_queue {
    uint32_t version; /* YOD_LAUNCH_VERSION */
    uint32_t slots;   /* YOD_SLOTS */
    /* bit n - 1: signal n was sent from outside; the guest takes bits by exchange */
    uint64_t signals;
    struct yod_slot slot[YOD_SLOTS];
    struct yod_report report;
};

#endif
