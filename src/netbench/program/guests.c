/* SPDX-License-Identifier: Apache-2.0 */
/* One side of a measurement with another guest. The side that follows says "ready" when the other
 * one may come. */
#include "device.h"
#include "sides.h"
#include "tcp.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A doorbell is an exit, and who hears it may take this side's CPU: small messages share one, so
 * many at most. None is put off longer than until this side waits itself.
 */
enum { POLL_US = 500, SHARED_BELL = 8 };

/* A channel that can wake the other side, and sleep. */
struct device_channel {
    struct channel channel;
    struct device device;
    uint32_t partner;
    uint32_t owed; /* times that the partner ought to have been rung, and was not yet */
    uint64_t rung; /* bytes of the ring that were written at the last ring */
};

static void ring_owed(struct device_channel *d)
{
    if (d->owed != 0) {
        d->owed = 0;
        d->rung = d->channel.written;
        d->device.registers[REG_DOORBELL] = d->partner << 16 | 1;
    }
}

static void ring(struct channel *channel)
{
    struct device_channel *d = (struct device_channel *)channel;
    d->owed++;
    if (d->owed == SHARED_BELL || channel->written - d->rung >= CHANNEL_CHUNK) {
        ring_owed(d);
    }
}

static int64_t rest(struct channel *channel)
{
    struct device_channel *d = (struct device_channel *)channel;
    ring_owed(d);
    return device_wait(&d->device);
}

static int64_t either(const struct side *side, struct stream *stream)
{
    const struct request *r = &side->request;
    return side->options->leads ? lead(stream, r, side->result)
                                : follow(stream, r->out, r->in, r->bytes);
}

static void say_ready(const struct side *side)
{
    if (!side->options->leads) {
        (void)puts("ready");
        (void)fflush(stdout);
    }
}

int64_t measure_over_channel(const struct side *side)
{
    static struct device_channel d;
    const struct options *o = side->options;
    if (!device_open(&d.device, !o->polls)) {
        return -ENODEV;
    }
    const uint32_t self = d.device.registers[REG_ID];
    d.partner = o->partner;
    if (o->partner >= d.device.registers[REG_PEERS] || o->partner == self ||
        d.device.area_bytes < CHANNEL_AREA_MIN) {
        return -EINVAL;
    }
    const struct channel_window memory = device_memory(&d.device);
    channel_init(&d.channel, &memory, self, o->partner);
    if (!o->polls) {
        d.channel.wake = ring;
        d.channel.rest = rest;
    }
    say_ready(side);
    /* Each state is a session: the other side has emptied what it says then. */
    d.device.registers[REG_STATE] = o->session;
    while (device_state(&d.device, o->partner) != o->session) {
        (void)usleep(POLL_US);
    }
    const int64_t rc = either(side, &d.channel.stream);
    ring_owed(&d);
    /* The last word is the follower's, and a machine that ends takes it along: it waits until the
     * leader has left. */
    while (!o->leads && rc == 0 && device_state(&d.device, o->partner) == o->session) {
        (void)usleep(POLL_US);
    }
    d.device.registers[REG_STATE] = 0;
    return rc;
}

int64_t measure_over_tcp(const struct side *side)
{
    const struct options *o = side->options;
    struct tcp tcp;
    int fd = -1;
    if (o->leads) {
        fd = tcp_connect(o->address, o->port);
    } else {
        const int listening = tcp_listen(o->port);
        if (listening >= 0) {
            say_ready(side);
            fd = accept(listening, NULL, NULL);
            (void)close(listening);
        }
    }
    if (fd < 0) {
        return -errno;
    }
    tcp_init(&tcp, fd);
    const int64_t rc = either(side, &tcp.stream);
    (void)close(fd);
    return rc;
}
