/* SPDX-License-Identifier: Apache-2.0 */
/* The same ELF file by both protocols. */
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_load(VMMHPC_IMAGE_ELF_LINUX, data, bytes, 0);
    fuzz_load(VMMHPC_IMAGE_ELF_PVH, data, bytes, 0);
    return 0;
}
