/* SPDX-License-Identifier: Apache-2.0 */
/* Flat images: a byte for the kind, 8 for the address, then the image. */
#include "harness.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t address;

    if (bytes < 9) {
        return 0;
    }
    memcpy(&address, data + 1, sizeof(address));
    fuzz_load((data[0] & 1u) != 0 ? VMMHPC_IMAGE_FLAT16 : VMMHPC_IMAGE_FLAT64, data + 9, bytes - 9,
              address);
    return 0;
}
