/* SPDX-License-Identifier: Apache-2.0 */
/* The entry for payload.asm, at the beginning of the flat image: one side of a measurement, in
 * ring 3. */
#include "channel.h"
#include "measure.h"

/* As payload.asm lays it out. */
struct payload {
    void *own;
    const void *theirs;
    uint64_t area_bytes;
    uint64_t leads;
    struct channel *channel;
    struct result *result;
    uint64_t most; /* bytes of a message */
    struct request request;
};

int64_t payload_run(const struct payload *p);

__attribute__((section(".text.entry"))) int64_t payload_run(const struct payload *p)
{
    channel_init(p->channel, p->own, p->theirs, p->area_bytes);
    if (p->leads != 0) {
        return lead(&p->channel->stream, &p->request, p->result);
    }
    return follow(&p->channel->stream, p->request.out, p->request.in, p->most);
}
