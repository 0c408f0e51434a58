/* SPDX-License-Identifier: Apache-2.0 */
/* The privileged calls (qk_pct.h) as functions. Host tests put a simulated QK behind qk(). */
#ifndef PCT_QK_H
#define PCT_QK_H

#include "qk_pct.h"

#ifdef PCT_HOST
int64_t qk(uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
extern uint8_t *pct_ram_base;
#define PCT_RAM_BASE pct_ram_base
#else
#define PCT_RAM_BASE ((uint8_t *)LWK_PCT_RAM)
static inline int64_t qk(uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    register uint64_t r10 __asm__("r10") = d;
    int64_t result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(call), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#endif

/** RAM, as the PCT sees it. */
static inline void *ram(uint64_t pa)
{
    return PCT_RAM_BASE + pa;
}

static inline void qk_next(struct pct_event *event)
{
    (void)qk(QK_NEXT, (uintptr_t)event, 0, 0, 0);
}

static inline void qk_reply(uint32_t tid, int64_t result)
{
    (void)qk(QK_REPLY, tid, (uint64_t)result, 0, 0);
}

static inline int64_t qk_map(uint64_t va, uint64_t pa, uint64_t bytes, uint32_t prot)
{
    return qk(QK_MAP, va, pa, bytes, prot);
}

static inline int64_t qk_unmap(uint64_t va, uint64_t bytes)
{
    return qk(QK_UNMAP, va, bytes, 0, 0);
}

static inline int64_t qk_protect(uint64_t va, uint64_t bytes, uint32_t prot)
{
    return qk(QK_PROTECT, va, bytes, prot, 0);
}

static inline int64_t qk_translate(uint64_t va, uint64_t bytes, uint32_t prot, uint64_t out[2])
{
    return qk(QK_TRANSLATE, va, bytes, prot, (uintptr_t)out);
}

static inline void qk_signal(uint32_t signal, uint32_t tid)
{
    (void)qk(QK_SIGNAL, signal, tid, 0, 0);
}

static inline void qk_console(const void *text, uint64_t bytes)
{
    (void)qk(QK_CONSOLE, (uintptr_t)text, bytes, 0, 0);
}

#endif
