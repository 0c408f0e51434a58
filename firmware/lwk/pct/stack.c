/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of a new process (System V ABI, "Process Initialization"; getauxval(3)). From the top
 * down: eight zero bytes, the path of the executable, environment, arguments, what auxiliary
 * entries point to; then the vectors, with argc at an address that is a multiple of 16.
 */
#include <linux/auxvec.h>

#include "launch.h"
#include "qk_pct.h"

#define AUX_ENTRIES 20u
#define CLOCK_TICKS 100u

static const char platform[] = "x86_64";

/* Addresses of `count` strings and a null pointer; where the next string is. */
static uint64_t point(uint64_t **out, const char **from, uint64_t va, uint32_t count)
{
    for (; count > 0; count--) {
        uint64_t bytes = strlen(*from) + 1;
        *(*out)++ = va;
        va += bytes;
        *from += bytes;
    }
    *(*out)++ = 0;
    return va;
}

uint64_t stack_build(uint8_t *memory, uint64_t va, uint64_t bytes, const struct launch *launch,
                     const struct stack_facts *facts)
{
    const struct yod_launch *header = launch->header;
    uint64_t vectors = (1 + header->argc + 1ull + header->envc + 1ull) * 8 + AUX_ENTRIES * 16ull;
    uint64_t text = (uint64_t)(launch->execfn - launch->strings) + strlen(launch->execfn) + 1;

    /* As Linux: at most a quarter of the stack. */
    if (text > bytes / 4 || vectors > bytes / 4 || text + vectors + 64 > bytes / 4) {
        return 0;
    }
    uint64_t strings = bytes - 8 - text;
    uint64_t random = round_down(strings - sizeof(platform) - sizeof(facts->random), 16);
    uint64_t name = random + sizeof(facts->random);
    uint64_t start = round_down(random - vectors, 16);
    memcpy(memory + strings, launch->strings, text);
    memcpy(memory + name, platform, sizeof(platform));
    memcpy(memory + random, facts->random, sizeof(facts->random));

    uint64_t *out = (uint64_t *)(void *)(memory + start);
    const char *from = launch->strings;
    *out++ = header->argc;
    uint64_t at = point(&out, &from, va + strings, header->argc);
    at = point(&out, &from, at, header->envc);
    const uint64_t aux[AUX_ENTRIES][2] = {
        {AT_HWCAP, facts->hwcap},
        {AT_PAGESZ, LWK_PAGE},
        {AT_CLKTCK, CLOCK_TICKS},
        {AT_PHDR, facts->phdr},
        {AT_PHENT, 56},
        {AT_PHNUM, facts->phnum},
        {AT_BASE, 0},
        {AT_FLAGS, 0},
        {AT_ENTRY, facts->entry},
        {AT_UID, header->uid},
        {AT_EUID, header->euid},
        {AT_GID, header->gid},
        {AT_EGID, header->egid},
        {AT_SECURE, 0},
        {AT_RANDOM, va + random},
        {AT_HWCAP2, 0},
        {AT_EXECFN, at},
        {AT_PLATFORM, va + name},
        {AT_MINSIGSTKSZ, facts->signal_stack},
        {AT_NULL, 0},
    };
    memcpy(out, aux, sizeof(aux));
    return va + start;
}
