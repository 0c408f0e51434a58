/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_load(VMMHPC_IMAGE_BZIMAGE, data, bytes, 0);
    return 0;
}
