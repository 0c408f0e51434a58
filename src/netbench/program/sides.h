/* SPDX-License-Identifier: Apache-2.0 */
/* Who measures with whom: this program with one in another guest, or with a process of its own. */
#ifndef NETBENCH_SIDES_H
#define NETBENCH_SIDES_H

#include "options.h"

/* What a side needs: memory for messages, all of it touched. */
struct side {
    const struct options *options;
    struct request request;
    struct result *result;
};

/* 0 or -errno; what is special is said on standard error. */
int64_t measure_over_channel(const struct side *side);
int64_t measure_over_tcp(const struct side *side);
/* The floors: two processes by the same code, over shared memory or TCP; copying within one. */
int64_t measure_processes(const struct side *side);
int64_t measure_loopback(const struct side *side);
int64_t measure_copy(const struct side *side);

#endif
