/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: words of the form name=value. */
#ifndef NETBENCH_OPTIONS_H
#define NETBENCH_OPTIONS_H

#include "measure.h"

#include <stdbool.h>

struct options {
    const char *via;
    bool leads;
    bool polls;
    uint64_t test; /* enum test; TEST_END: none was named */
    uint64_t bytes;
    uint64_t ns;
    uint32_t partner, session; /* shm */
    const char *address;       /* tcp */
    uint16_t port;
    int cpus[2];     /* of processes; -1: any */
    bool protects;   /* processes: each may only read the other's area, as peers of a channel */
    uint64_t common; /* processes: bytes that both may write, of which both poll */
    uint32_t limit;
};

/* false, and a line on standard error, for words that make no sense. */
bool options_read(struct options *options, int argc, char **argv);

#endif
