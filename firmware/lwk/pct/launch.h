/* SPDX-License-Identifier: Apache-2.0 */
/* From the launch module to an application that can run. */
#ifndef PCT_LAUNCH_H
#define PCT_LAUNCH_H

#include "lib.h"
#include "vmmhpc_yod.h"

/** A checked launch module. */
struct launch {
    const struct yod_launch *header;
    const uint8_t *app;
    const char *strings; /* argc arguments, envc environment strings, the path of the executable */
    const char *execfn;
};

/** False, with the reason in `why`, if the module is not what it should be. */
bool launch_check(const void *module, uint64_t bytes, struct launch *launch, struct text *why);

#define ELF_SEGMENTS 16u

struct elf_segment {
    uint64_t va;
    uint64_t bytes;
    uint64_t file_offset;
    uint64_t file_bytes;
    uint32_t prot;
};

/** What an executable asks for; addresses as linked. */
struct elf_plan {
    uint64_t low;
    uint64_t high;
    uint64_t align;
    uint64_t entry;
    uint64_t phdr; /* 0: not in a segment */
    uint32_t phnum;
    uint32_t segments;
    bool movable;
    struct elf_segment segment[ELF_SEGMENTS]; /* sorted, no two on one page */
};

bool elf_check(const uint8_t *file, uint64_t bytes, struct elf_plan *plan, struct text *why);

/** An application in memory. */
struct loaded {
    uint64_t bias;
    uint64_t entry;
    uint64_t sp;
    uint64_t stack_bytes;
};

/** Put it into memory, with brk and stack. */
bool load(const struct launch *launch, struct loaded *loaded, struct text *why);

/** What the first stack holds beside the strings. */
struct stack_facts {
    uint64_t phdr;
    uint64_t phnum;
    uint64_t entry;
    uint64_t hwcap;
    uint64_t signal_stack; /* AT_MINSIGSTKSZ */
    uint8_t random[16];
};

/** Build the stack of a new process in `bytes` bytes at `memory`, which the application sees at va.
 *  Its stack pointer; 0 if there is no room. */
uint64_t stack_build(uint8_t *memory, uint64_t va, uint64_t bytes, const struct launch *launch,
                     const struct stack_facts *facts);

#endif
