/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the PCT share. */
#ifndef PCT_PCT_H
#define PCT_PCT_H

#include <asm/errno.h>
#include <asm/unistd.h>

#include "launch.h"
#include "qk.h"

struct pct {
    struct lwk_info *info;
    struct launch launch;
    struct loaded loaded;
    struct yod_queue *queue;
    uint64_t queue_pa;
    uint64_t tsc_app;
    uint64_t shipped;
    bool counted; /* the application ran: the report has its calls */
};

extern struct pct pct;

/* Results of a call beside values and negative errno. */
#define PENDING INT64_MIN /* answered later */

/* ---------------------------------------------------- calls.c, process.c */

/** Answer a system call; -ENOSYS is counted in the report. */
void reply(uint32_t tid, uint64_t call, int64_t result);

/** A system call of the application: answered now or later. */
void call_start(const struct pct_event *event);

typedef int64_t (*call_function)(const struct pct_event *event);

/** Calls that concern the process, by number; NULL: none. */
call_function process_call(uint64_t call);

/* ----------------------------------------------------------------- user.c */

/** Contiguous memory of the application from va on, with these rights: its address, or NO_MEMORY;
 * how much of `bytes` in *got. */
uint64_t user_piece(uint64_t va, uint64_t bytes, uint32_t prot, uint64_t *got);

bool user_read(void *to, uint64_t va, uint64_t bytes);
bool user_write(uint64_t va, const void *from, uint64_t bytes);
bool user_zero(uint64_t va, uint64_t bytes);

/** Length of the string that was copied, without its NUL; -EFAULT or -ENAMETOOLONG. */
int64_t user_string(char *to, uint64_t va, uint64_t room);

/* --------------------------------------------------------------- random.c */

void random_seed(const uint8_t seed[64]);
void random_bytes(void *to, uint64_t bytes);
int64_t call_getrandom(const struct pct_event *event);

/* --------------------------------------------------------------- report.c */

/** Leave a report and end the machine. */
_Noreturn void report_end(const struct pct_end *end);
_Noreturn void report_launch(const char *text);
void report_count(uint64_t call);

static inline uint64_t tsc(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

#endif
