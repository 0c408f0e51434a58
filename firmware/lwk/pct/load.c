/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An executable into memory: segments at the bottom of the heap, physically as far from each other
 * as virtually, brk after them, and a stack near the top of the address space.
 */
#include <cpuid.h>

#include "launch.h"
#include "mm.h"
#include "pct.h"

#define PIE_BASE 0x555555400000ull /* where Linux puts them, roughly; on a large page */
#define STACK_TOP 0x7fffffe00000ull
#define STACK_GUARD (16ull << 20) /* nothing is put so close below a stack, unless asked to */
#define STACK_BYTES (8ull << 20)
#define STACK_LEAST (128ull << 10)

static bool refuse(struct text *why, const char *reason)
{
    text_add(why, reason);
    return false;
}

static bool place(const struct elf_plan *plan, const struct launch *launch, uint64_t bias)
{
    uint64_t low = plan->low + bias;
    uint64_t lowest = mm_lowest(low);

    for (uint32_t i = 0; i < plan->segments; i++) {
        const struct elf_segment *at = &plan->segment[i];
        uint64_t va = round_down(at->va + bias, LWK_PAGE);
        uint64_t end = round_up(at->va + bias + at->bytes, LWK_PAGE);
        if (mm_back(va, end - va, at->prot, 0, lowest + (va - low)) != 0 ||
            !mm_write(at->va + bias, launch->app + at->file_offset, at->file_bytes)) {
            return false;
        }
    }
    return true;
}

static uint64_t signal_stack(uint32_t features)
{
    uint32_t a = 0;
    uint32_t b = 512; /* FXSAVE */
    uint32_t c = 0;
    uint32_t d = 0;

    if ((features & bit_OSXSAVE) != 0) {
        __cpuid_count(0xd, 0, a, b, c, d);
    }
    return most(2048, round_up(b + 1024ull, 64)); /* registers beside it, red zone, alignment */
}

static bool make_stack(const struct elf_plan *plan, const struct launch *launch,
                       struct loaded *loaded, struct text *why)
{
    uint64_t bytes = launch->header->stack_bytes;
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;

    if (bytes == 0) {
        bytes = most(STACK_LEAST, least(STACK_BYTES, round_down(mm.heap_bytes / 16, LWK_PAGE)));
    }
    if (bytes < LWK_PAGE || bytes > mm.phys.bytes) {
        return refuse(why, "the stack does not fit into memory");
    }
    bytes = round_up(bytes, LWK_PAGE);
    /* At the top of free memory, just below the PCT's tables: what it touches first lies in a large
     * page that has been touched. Addresses follow, so that further down large pages fit. */
    uint64_t memory = mm_highest(bytes);
    uint64_t top = STACK_TOP - (0 - memory) % LWK_PAGE_2M;
    uint64_t va = top - bytes;
    if (!area_none(&mm.areas, va - STACK_GUARD, STACK_TOP) ||
        mm_back(va, bytes, PROT_READ | PROT_WRITE, 0, memory - bytes) != 0) {
        return refuse(why, "the stack does not fit into memory");
    }
    mm.ceiling = round_down(va - STACK_GUARD, LWK_PAGE_2M);
    __cpuid(1, a, b, c, d);
    struct stack_facts facts = {.phdr = plan->phdr == 0 ? 0 : plan->phdr + loaded->bias,
                                .phnum = plan->phnum,
                                .entry = loaded->entry,
                                .hwcap = d,
                                .signal_stack = signal_stack(c)};
    random_bytes(facts.random, sizeof(facts.random));
    /* Arguments go to its last run of memory: one run, but in a heap that is nearly full. */
    const struct area *last = area_at(&mm.areas, top - 1);
    uint64_t run = least(last->bytes, bytes);
    loaded->stack_bytes = bytes;
    loaded->sp = stack_build(ram(last->pa + last->bytes - run), top - run, run, launch, &facts);
    return loaded->sp != 0 || refuse(why, "arguments and environment do not fit into the stack");
}

bool load(const struct launch *launch, struct loaded *loaded, struct text *why)
{
    struct elf_plan plan;

    if (!elf_check(launch->app, launch->header->app_bytes, &plan, why)) {
        return false;
    }
    loaded->bias =
        plan.movable ? round_up(PIE_BASE, plan.align) - round_down(plan.low, plan.align) : 0;
    if (!place(&plan, launch, loaded->bias)) {
        return refuse(why, "the executable does not fit into memory");
    }
    loaded->entry = plan.entry + loaded->bias;
    mm.brk_start = plan.high + loaded->bias;
    mm.brk = mm.brk_start;
    return make_stack(&plan, launch, loaded, why);
}
