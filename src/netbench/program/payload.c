/* SPDX-License-Identifier: Apache-2.0 */
/* The entry for payload.asm, at the beginning of the flat image: one side of a measurement, in
 * ring 3. */
#include "channel.h"
#include "datagram.h"
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
    /* Over a network, in place of a channel, where `address` is not 0. */
    uint64_t address, to_address, to_port;
    struct datagram *datagram;
    uint8_t *queues; /* VIRTIO_NET_MEMORY */
};

int64_t payload_run(const struct payload *p);

static int64_t measure(const struct payload *p, struct stream *stream)
{
    if (p->leads != 0) {
        return lead(stream, &p->request, p->result);
    }
    return follow(stream, p->request.out, p->request.in, p->most);
}

static int64_t over_network(const struct payload *p)
{
    struct datagram *d = p->datagram;
    int64_t rc = datagram_open(d, p->queues, (uint32_t)p->address, (uint32_t)p->to_address,
                               (uint16_t)p->to_port, p->leads != 0);
    if (rc == 0) {
        rc = measure(p, &d->stream);
        datagram_close(d);
    }
    return rc;
}

__attribute__((section(".text.entry"))) int64_t payload_run(const struct payload *p)
{
    if (p->address != 0) {
        return over_network(p);
    }
    channel_init(p->channel, &p->window, (uint32_t)p->self, (uint32_t)p->partner);
    return measure(p, &p->channel->stream);
}
