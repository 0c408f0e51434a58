/*
 * Loaded into Bochs with LD_PRELOAD. Bochs can continue a saved machine from its command line (-r) but offers to
 * save one only in its graphical windows; so this calls Bochs's own function for it when the agent says that the
 * machine is at the point (save_point() in channel.c). And it makes continuing fast: the machine's memory is mapped
 * from the file, copy-on-write, instead of being read.
 *
 * V3M_SAVE names the directory to save into; the process then ends. Without it the machine is to be continued.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel.h"

/* Of the machine's files only its memory is this large. */
#define LARGE (64u << 20)
#define PAGE 4096u

/* bx_simulator_interface_c *SIM, and bx_real_sim_c::save_state(const char *), in the program itself. */
extern void *SIM __attribute__((weak));
extern bool save_state(void *self, const char *directory) __asm__("_ZN13bx_real_sim_c10save_stateEPKc")
    __attribute__((weak));

/* Bochs's port 0xE9 writes here. The CPU has already counted the instruction as done. */
int putc(int byte, FILE *stream) {
  static int marks;
  const char *directory = stream == stdout ? getenv("V3M_SAVE") : NULL;
  if (directory) {
    marks = byte == SAVE_MARK ? marks + 1 : 0;
    if (marks == SAVE_MARKS) _exit(&SIM && save_state && save_state(SIM, directory) ? 0 : 3);
  }
  return fputc(byte, stream);
}

/* Bochs reads the machine's memory with one call. */
size_t fread(void *target, size_t size, size_t count, FILE *stream) {
  static size_t (*next)(void *, size_t, size_t, FILE *);
  if (!next) next = (size_t (*)(void *, size_t, size_t, FILE *))dlsym(RTLD_NEXT, "fread");
  const size_t length = size * count;
  if (length >= LARGE && (uintptr_t)target % PAGE == 0 && length % PAGE == 0 && ftello(stream) == 0) {
    void *mapped = mmap(target, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fileno(stream), 0);
    if (mapped == target && fseeko(stream, (off_t)length, SEEK_SET) == 0) return count;
    /* A failed MAP_FIXED may have unmapped the target: there is no way back. */
    if (mapped != target) abort();
  }
  return next(target, size, count, stream);
}
