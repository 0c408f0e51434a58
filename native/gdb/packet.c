/* SPDX-License-Identifier: Apache-2.0 */
/* Frames, checksums and acknowledgements. */
#include <stdlib.h>
#include <string.h>

#include "session.h"

#define INTERRUPT 0x03
#define ESCAPE '}'

bool gd_session_init(struct gd_session *session, const struct gd_target *target, void *opaque,
                     uint32_t cpus)
{
    memset(session, 0, sizeof(*session));
    session->target = target;
    session->opaque = opaque;
    session->cpus = cpus < GD_CPUS_MAX ? cpus : GD_CPUS_MAX;
    session->control = GD_ALL;
    session->actions = calloc(cpus, 1);
    gd_puts(&session->stop_reply, "T05thread:1;");
    return session->actions != NULL && gd_make_xml(&session->xml) && !session->stop_reply.failed;
}

void gd_session_free(struct gd_session *session)
{
    free(session->actions);
    session->actions = NULL;
    struct gd_text *texts[] = {&session->reply, &session->out, &session->xml, &session->last,
                               &session->stop_reply};
    for (size_t i = 0; i < VH_COUNT(texts); i++) {
        gd_free(texts[i]);
    }
}

void gd_send(struct gd_session *session)
{
    uint8_t sum = 0;
    struct gd_text *last = &session->last;
    gd_clear(last);
    gd_put(last, "$", 1);
    for (size_t i = 0; i < session->reply.bytes; i++) {
        char c = session->reply.data[i];
        if (c == '#' || c == '$' || c == ESCAPE || c == '*') {
            const char pair[2] = {ESCAPE, (char)(c ^ 0x20)};
            gd_put(last, pair, sizeof(pair));
            sum = (uint8_t)(sum + (uint8_t)pair[0] + (uint8_t)pair[1]);
        } else {
            gd_put(last, &c, 1);
            sum = (uint8_t)(sum + (uint8_t)c);
        }
    }
    gd_put(last, "#", 1);
    gd_put_hex(last, &sum, 1);
    gd_clear(&session->reply);
    if (last->failed || session->reply.failed) {
        session->out.failed = true;
        return;
    }
    gd_put(&session->out, last->data, last->bytes);
}

/* A packet has come whole. */
static void answer(struct gd_session *session)
{
    bool good = !session->too_long && session->sum == session->sum_told;
    if (!session->no_ack) {
        gd_puts(&session->out, good ? "+" : "-");
    }
    if (!good && !session->no_ack) {
        return;
    }
    gd_clear(&session->reply);
    struct gd_cursor packet = {session->in, session->in + session->in_bytes};
    if (!good) {
        gd_error(session, VMMHPC_E_INVALID); /* nobody would send it again */
        gd_send(session);
    } else if (gd_command(session, packet)) {
        gd_send(session);
    }
}

static void begin(struct gd_session *session, uint8_t byte)
{
    switch (byte) {
    case '$':
        session->input = GD_BODY;
        session->in_bytes = 0;
        session->sum = 0;
        session->too_long = false;
        break;
    case '-':
        if (!session->no_ack && session->last.bytes > 0) {
            gd_put(&session->out, session->last.data, session->last.bytes);
        }
        break;
    case INTERRUPT:
        gd_interrupt(session);
        break;
    default: /* an acknowledgement, or noise between packets */
        break;
    }
}

static void body(struct gd_session *session, uint8_t byte)
{
    if (byte == '#') {
        session->input = GD_SUM_HIGH;
        return;
    }
    if (byte == '$') { /* a packet that broke off: this is the next */
        begin(session, byte);
        return;
    }
    session->sum = (uint8_t)(session->sum + byte);
    if (session->in_bytes < GD_PACKET) {
        session->in[session->in_bytes++] = (char)byte;
    } else {
        session->too_long = true;
    }
}

bool gd_session_feed(struct gd_session *session, const uint8_t *data, size_t bytes)
{
    /* A browser that was led here would begin with a method's name. */
    if (bytes > 0 && !session->any_input) {
        if (data[0] != '+' && data[0] != '-' && data[0] != '$' && data[0] != INTERRUPT) {
            return false;
        }
        session->any_input = true;
    }
    for (size_t i = 0; i < bytes && !session->detached && !session->out.failed; i++) {
        int digit = gd_digit((char)data[i]);
        switch (session->input) {
        case GD_BETWEEN:
            begin(session, data[i]);
            break;
        case GD_BODY:
            body(session, data[i]);
            break;
        case GD_SUM_HIGH:
            session->too_long = session->too_long || digit < 0;
            session->sum_told = (uint8_t)((unsigned)digit << 4);
            session->input = GD_SUM_LOW;
            break;
        case GD_SUM_LOW:
            session->too_long = session->too_long || digit < 0;
            session->sum_told = (uint8_t)(session->sum_told | ((unsigned)digit & 15));
            session->input = GD_BETWEEN;
            answer(session);
            break;
        }
    }
    return !session->detached && !session->out.failed;
}
