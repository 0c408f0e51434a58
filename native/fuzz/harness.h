/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share: counters that show that inputs get through, and for loaders a small
 * machine's RAM and checks that must hold after each success.
 */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include "boot/boot.h"
#include "layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/** Stop with a message where a property does not hold: a finding. */
#define MUST(condition) fuzz_must((condition), #condition, __FILE__, __LINE__)
void fuzz_must(bool condition, const char *text, const char *file, int line);

/** Count one input and whether it got through; the sums are printed at exit. */
void fuzz_count(bool success);

/** Load an image in a machine of 32 MiB with an initrd that depends on the input; check, count. */
void fuzz_load(uint32_t kind, const uint8_t *data, size_t bytes, uint64_t load_address);

#endif
