/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line that only this run can print: a hash of the argument, 64-bit FNV-1a. Then it stays, and does
 * nothing: no instruction, no exit.
 */
#include "common.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *token = argc > 1 ? argv[1] : "";
    printf("token: %016" PRIx64 "\n", fnv(FNV_START, token, strlen(token)));
    (void)fflush(stdout);
    for (;;) {
        (void)pause();
    }
}
