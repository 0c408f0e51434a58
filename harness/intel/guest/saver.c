/*
 * Loaded into Bochs with LD_PRELOAD. Bochs can continue a saved machine from its command line (-r)
 * but offers to save one only in its graphical windows; so this calls Bochs's own function for it
 * when the agent says that the machine is at the point (save_point() in channel.c). And it makes
 * continuing fast: Bochs would copy the machine's whole memory, holes and all, into a temporary
 * file, from which it then reads what it needs; here it reads that from the saved file itself.
 *
 * V3M_SAVE names the directory to save into; the process then ends. V3M_MEMORY names the saved
 * memory to use.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "channel.h"

/* bx_simulator_interface_c *SIM, and bx_real_sim_c::save_state(const char *), in the program
 * itself. */
extern void *SIM __attribute__((weak));
extern bool save_state(void *self,
                       const char *directory) __asm__("_ZN13bx_real_sim_c10save_stateEPKc")
    __attribute__((weak));

/* Bochs's port 0xE9 writes here. The CPU has already counted the instruction as done. */
int putc(int byte, FILE *stream)
{
    static int marks;
    const char *directory = stream == stdout ? getenv("V3M_SAVE") : NULL;
    if (directory) {
        marks = byte == SAVE_MARK ? marks + 1 : 0;
        if (marks == SAVE_MARKS)
            _exit(&SIM && save_state && save_state(SIM, directory) ? 0 : 3);
    }
    return fputc(byte, stream);
}

/*
 * Bochs calls this once when it continues a machine, and copies the state's `memory.ram` into the
 * result. That one is an empty file then. Nothing is written later on: the machine's memory is not
 * larger than Bochs's own.
 */
FILE *tmpfile64(void)
{
    static FILE *(*next)(void);
    const char *memory = getenv("V3M_MEMORY");
    if (memory)
        return fopen(memory, "r");
    if (!next)
        next = (FILE * (*)(void)) dlsym(RTLD_NEXT, "tmpfile64");
    return next();
}

FILE *tmpfile(void)
{
    return tmpfile64();
}
