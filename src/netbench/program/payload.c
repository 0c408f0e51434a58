/* SPDX-License-Identifier: Apache-2.0 */
/* The entry for payload.asm, at the beginning of the flat image: one side of a measurement, in
 * ring 3. */
#include "channel.h"
#include "measure.h"

/* As payload.asm lays it out. */
struct payload {
    struct channel_window window;
    uint64_t self, partner; /* peers */
    uint64_t leads;
    struct channel *channel;
    struct result *result;
    uint64_t most; /* bytes of a message */
    struct request request;
};

int64_t payload_run(const struct payload *p);

__attribute__((section(".text.entry"))) int64_t payload_run(const struct payload *p)
{
    channel_init(p->channel, &p->window, (uint32_t)p->self, (uint32_t)p->partner);
    if (p->leads != 0) {
        return lead(&p->channel->stream, &p->request, p->result);
    }
    return follow(&p->channel->stream, p->request.out, p->request.in, p->most);
}
