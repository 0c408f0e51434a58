/* SPDX-License-Identifier: Apache-2.0 */
/* Multiboot, with the checksum made right so that the fuzzer gets past it. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint32_t magic = 0x1badb002;
    uint8_t *copy = malloc(bytes + 1);

    memcpy(copy, data, bytes);
    for (size_t at = 0; at + 12 <= bytes && at + 12 <= 8192; at += 4) {
        uint32_t flags;
        uint32_t checksum;

        if (memcmp(copy + at, &magic, 4) == 0) {
            memcpy(&flags, copy + at + 4, 4);
            checksum = 0u - magic - flags;
            memcpy(copy + at + 8, &checksum, 4);
            break;
        }
    }
    fuzz_load(VMMHPC_IMAGE_MULTIBOOT, copy, bytes, 0);
    free(copy);
    return 0;
}
