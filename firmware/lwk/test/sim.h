/* SPDX-License-Identifier: Apache-2.0 */
/* A QK, a machine and a yod that are simulated just well enough to run the PCT on the host. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "qk_pct.h"
#include "vmmhpc_yod.h"

#define SIM_HEAP 0x200000ull /* physical */

/** A machine with so much heap, and the PCT's memory tables and jobs in it. */
void sim_start(uint64_t heap_bytes, bool yod);

/** The same, with a launch module that launches nothing. */
void sim_launch(uint64_t heap_bytes, bool yod);

/** A system call; its result, or SIM_BLOCKED. */
#define SIM_BLOCKED INT64_MIN
int64_t sim_call(uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f);
int64_t sim_call_by(uint32_t tid, uint64_t call, const uint64_t args[6]);

/** The reply that a blocked thread got since; SIM_BLOCKED if none. */
int64_t sim_reply(uint32_t tid);

/** Memory of the application; NULL where it has not these rights. */
uint8_t *sim_memory(uint64_t va, uint32_t prot);
uint32_t sim_mapped_pages(void);

/** Serves a slot: the result, or SIM_BLOCKED to leave it posted. */
typedef int64_t (*sim_service)(const struct yod_slot *slot, uint32_t index);
extern sim_service sim_serve;

/** End a slot that was left posted. */
void sim_done(uint32_t index, int64_t result);

/** Refuse this many QK_MAP calls from the n-th on; 0: none. */
extern uint32_t sim_refuse_map;

/** A channel's function with a window of so many bytes, or none (0). Set after sim_start(). */
#define SIM_REGISTERS 0x3ffffff000ull /* physical */
#define SIM_WINDOW 0x4000000000ull
extern uint64_t sim_window_bytes;

/** An interrupt of it. */
void sim_ring(uint32_t vector);

/** A signal waits for the thread, or the time that it asked for is over. */
void sim_cancel(uint32_t tid, bool time_over);

/** What the last QK_TIMEOUT was for. */
extern uint32_t sim_timeout_tid;
extern uint64_t sim_timeout_ns;

extern char sim_console[65536];
extern uint32_t sim_console_bytes;
extern uint64_t sim_signals;
extern struct lwk_info sim_info;

/** Whether areas, free memory and the simulated page tables agree; prints what does not. */
bool sim_consistent(void);

uint64_t sim_random(void);
uint32_t sim_rounds(uint32_t usual);

#endif
