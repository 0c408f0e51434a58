/* SPDX-License-Identifier: Apache-2.0 */
/* One packet, by its first letter. */
#include <string.h>

#include "session.h"

void gd_error(struct gd_session *session, int32_t status)
{
    gd_clear(&session->reply);
    gd_printf(&session->reply, "E%02x", (unsigned)(-status) & 0xffu);
}

void gd_ok(struct gd_session *session)
{
    gd_puts(&session->reply, "OK");
}

static void done(struct gd_session *session, int32_t status)
{
    if (status == VMMHPC_OK) {
        gd_ok(session);
    } else {
        gd_error(session, status);
    }
}

bool gd_take_thread(const struct gd_session *session, struct gd_cursor *cursor, uint32_t *cpu)
{
    uint64_t id = 0;
    if (gd_take_word(cursor, "-1")) {
        *cpu = GD_ALL;
        return true;
    }
    if (!gd_take_number(cursor, &id) || id > session->cpus) {
        return false;
    }
    *cpu = id == 0 ? session->stopped : (uint32_t)id - 1;
    return true;
}

/* Hg, Hc: whom the next packets are about. */
static void choose(struct gd_session *session, struct gd_cursor packet)
{
    bool general = gd_take(&packet, 'g');
    uint32_t cpu = 0;
    if ((!general && !gd_take(&packet, 'c')) || !gd_take_thread(session, &packet, &cpu)) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    if (!general) {
        session->control = cpu;
    } else if (cpu != GD_ALL) {
        session->general = cpu;
    }
    gd_ok(session);
}

static void read_memory(struct gd_session *session, struct gd_cursor packet)
{
    uint8_t data[GD_MEMORY];
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint64_t count = 0;
    if (!gd_take_number(&packet, &address) || !gd_take(&packet, ',') ||
        !gd_take_number(&packet, &bytes)) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    bytes = bytes < sizeof(data) ? bytes : sizeof(data); /* fewer than asked for is allowed */
    int32_t status =
        session->target->read(session->opaque, session->general, address, data, bytes, &count);
    if (status != VMMHPC_OK && count == 0) {
        gd_error(session, status);
    } else {
        gd_put_hex(&session->reply, data, count <= bytes ? count : bytes);
    }
}

/* Binary data: '}' and the next byte, with bit 5 turned, make one. */
static bool take_binary(struct gd_cursor *packet, uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        bool escaped = gd_take(packet, '}');
        if (gd_left(packet) == 0) {
            return false;
        }
        data[i] = (uint8_t)((uint8_t)*packet->at++ ^ (escaped ? 0x20u : 0u));
    }
    return gd_left(packet) == 0;
}

static void write_memory(struct gd_session *session, struct gd_cursor packet, bool binary)
{
    uint8_t data[GD_PACKET];
    uint64_t address = 0;
    uint64_t bytes = 0;
    if (!gd_take_number(&packet, &address) || !gd_take(&packet, ',') ||
        !gd_take_number(&packet, &bytes) || !gd_take(&packet, ':') || bytes > sizeof(data) ||
        !(binary ? take_binary(&packet, data, bytes) : gd_take_bytes(&packet, data, bytes))) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    done(session, bytes == 0 ? VMMHPC_OK
                             : session->target->write(session->opaque, session->general, address,
                                                      data, bytes, NULL));
}

static void breakpoint(struct gd_session *session, struct gd_cursor packet, bool add)
{
    uint64_t kind = 0;
    uint64_t address = 0;
    uint64_t bytes = 0;
    if (!gd_take_number(&packet, &kind) || !gd_take(&packet, ',') ||
        !gd_take_number(&packet, &address) || !gd_take(&packet, ',') ||
        !gd_take_number(&packet, &bytes) || bytes > UINT32_MAX) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    if (kind > VMMHPC_BREAK_ACCESS) {
        return; /* an empty answer: not supported */
    }
    int32_t status = add ? session->target->add_break(session->opaque, session->general,
                                                      (uint32_t)kind, address, (uint32_t)bytes)
                         : session->target->remove_break(session->opaque, (uint32_t)kind, address,
                                                         (uint32_t)bytes);
    if (status != VMMHPC_E_UNSUPPORTED) {
        done(session, status);
    } else {
        gd_error(session, status);
    }
}

static void detach(struct gd_session *session)
{
    session->detached = true;
    gd_ok(session);
}

static void alive(struct gd_session *session, struct gd_cursor packet)
{
    uint32_t cpu = 0;
    done(session, gd_take_thread(session, &packet, &cpu) ? VMMHPC_OK : VMMHPC_E_INVALID);
}

static bool verbose(struct gd_session *session, struct gd_cursor packet)
{
    if (gd_take_word(&packet, "Cont?")) {
        gd_puts(&session->reply, "vCont;c;C;s;S;t");
        return true;
    }
    if (gd_take_word(&packet, "Cont")) {
        return gd_vcont(session, packet);
    }
    if (gd_take_word(&packet, "Kill")) {
        (void)session->target->kill(session->opaque);
        session->detached = true;
        gd_ok(session);
    }
    return true; /* anything else: an empty answer */
}

bool gd_command(struct gd_session *session, struct gd_cursor packet)
{
    if (gd_left(&packet) == 0) {
        return true;
    }
    char letter = *packet.at++;
    switch (letter) {
    case '?':
        gd_stop_reply(session);
        return true;
    case 'g':
        gd_read_all(session);
        return true;
    case 'G':
        gd_write_all(session, packet);
        return true;
    case 'p':
        gd_read_one(session, packet);
        return true;
    case 'P':
        gd_write_one(session, packet);
        return true;
    case 'm':
        read_memory(session, packet);
        return true;
    case 'M':
    case 'X':
        write_memory(session, packet, letter == 'X');
        return true;
    case 'Z':
    case 'z':
        breakpoint(session, packet, letter == 'Z');
        return true;
    case 'c':
    case 's':
    case 'C':
    case 'S':
        return gd_resume_one(session, letter, packet);
    case 'v':
        return verbose(session, packet);
    case 'H':
        choose(session, packet);
        return true;
    case 'T':
        alive(session, packet);
        return true;
    case 'q':
    case 'Q':
        packet.at--;
        gd_query(session, packet);
        return true;
    case 'D':
        detach(session);
        return true;
    case 'k': /* without an answer */
        (void)session->target->kill(session->opaque);
        session->detached = true;
        return false;
    default:
        return true; /* empty: not supported */
    }
}
