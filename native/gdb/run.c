/* SPDX-License-Identifier: Apache-2.0 */
/* Going on and stopping. All-stop mode: what stops one vCPU stops all. */
#include <string.h>

#include "session.h"

#define NO_ACTION 0xffu

/* The numbers that gdb's protocol has for signals. */
enum { SIGNAL_NONE = 0, SIGNAL_INT = 2, SIGNAL_TRAP = 5, SIGNAL_ABRT = 6 };

void gd_stop_reply(struct gd_session *session)
{
    gd_put(&session->reply, session->stop_reply.data, session->stop_reply.bytes);
}

static void tell_end(struct gd_session *session)
{
    char text[300] = "";
    bool news = !session->ended;
    session->ended = true;
    bool crashed = session->target->describe_end(session->opaque, text, sizeof(text));
    gd_clear(&session->stop_reply);
    if (crashed) {
        gd_printf(&session->stop_reply, "X%02x", SIGNAL_ABRT);
    } else {
        gd_puts(&session->stop_reply, "W00");
    }
    if (news && session->running && text[0] != '\0') {
        gd_clear(&session->reply);
        gd_puts(&session->reply, "O");
        gd_put_hex(&session->reply, text, strlen(text));
        gd_put_hex(&session->reply, "\n", 1);
        gd_send(session);
    }
}

/* Note what gdb is told of a stop, now and when it asks again. */
static void note(struct gd_session *session, const struct vmmhpc_debug_stop *stop, uint32_t signal)
{
    static const char *const watches[] = {"", "", "watch", "rwatch", "awatch"};
    struct gd_text *text = &session->stop_reply;
    uint32_t cpu = stop->vcpu < session->cpus ? stop->vcpu : 0;
    session->stopped = cpu;
    session->general = cpu;
    gd_clear(text);
    gd_printf(text, "T%02xthread:%x;", signal, cpu + 1);
    switch (stop->reason) {
    case VMMHPC_DEBUG_BREAKPOINT:
        gd_puts(text, "swbreak:;");
        break;
    case VMMHPC_DEBUG_HWBREAK:
        gd_puts(text, "hwbreak:;");
        break;
    case VMMHPC_DEBUG_WATCH:
        if (stop->kind < VH_COUNT(watches)) {
            gd_printf(text, "%s:%llx;", watches[stop->kind], (unsigned long long)stop->address);
        }
        break;
    default:
        break;
    }
}

void gd_session_stopped(struct gd_session *session, const struct vmmhpc_debug_stop *stop)
{
    if (stop->reason == VMMHPC_DEBUG_ENDED) {
        tell_end(session);
    } else {
        note(session, stop, SIGNAL_TRAP);
    }
    if (session->running) {
        session->running = false;
        gd_clear(&session->reply);
        gd_stop_reply(session);
        gd_send(session);
    }
}

void gd_interrupt(struct gd_session *session)
{
    if (!session->running) {
        return;
    }
    struct vmmhpc_debug_stop stop = {.size = sizeof(stop)};
    bool held = session->target->hold(session->opaque) == VMMHPC_OK;
    int32_t status = session->target->poll(session->opaque, &stop);
    if (!held || (status == VMMHPC_OK && stop.reason != VMMHPC_DEBUG_NONE)) {
        stop.reason = held ? stop.reason : VMMHPC_DEBUG_ENDED;
        gd_session_stopped(session, &stop);
        return;
    }
    stop.vcpu = session->stopped;
    note(session, &stop, SIGNAL_INT);
    session->running = false;
    gd_clear(&session->reply);
    gd_stop_reply(session);
    gd_send(session);
}

/* Let the vCPUs go by session->actions. True: there is an answer now. */
static bool resume(struct gd_session *session)
{
    if (session->running) {
        gd_error(session, VMMHPC_E_STATE);
        return true;
    }
    struct vmmhpc_debug_stop stop = {.size = sizeof(stop), .reason = VMMHPC_DEBUG_ENDED};
    if (!session->ended &&
        session->target->resume(session->opaque, session->actions) == VMMHPC_OK) {
        session->running = true;
        return false;
    }
    session->running = true;
    gd_session_stopped(session, &stop);
    return false;
}

static void fill(struct gd_session *session, uint32_t cpu, uint8_t action)
{
    for (uint32_t i = 0; i < session->cpus; i++) {
        if ((cpu == GD_ALL || cpu == i) && session->actions[i] == NO_ACTION) {
            session->actions[i] = action;
        }
    }
}

/* A signal's number stands behind C and S; guests get none. */
static bool take_action(struct gd_cursor *packet, uint8_t *action)
{
    uint64_t signal = 0;
    if (gd_take(packet, 'c')) {
        *action = VMMHPC_DEBUG_RUN;
    } else if (gd_take(packet, 's')) {
        *action = VMMHPC_DEBUG_STEP_ONE;
    } else if (gd_take(packet, 't')) {
        *action = VMMHPC_DEBUG_HOLD;
    } else if (gd_take(packet, 'C')) {
        *action = VMMHPC_DEBUG_RUN;
        return gd_take_number(packet, &signal);
    } else if (gd_take(packet, 'S')) {
        *action = VMMHPC_DEBUG_STEP_ONE;
        return gd_take_number(packet, &signal);
    } else {
        return false;
    }
    return true;
}

bool gd_vcont(struct gd_session *session, struct gd_cursor packet)
{
    memset(session->actions, NO_ACTION, session->cpus);
    while (gd_take(&packet, ';')) {
        uint8_t action = 0;
        uint32_t cpu = GD_ALL;
        if (!take_action(&packet, &action) ||
            (gd_take(&packet, ':') && !gd_take_thread(session, &packet, &cpu))) {
            gd_error(session, VMMHPC_E_INVALID);
            return true;
        }
        fill(session, cpu, action); /* the first that fits a thread is its action */
    }
    fill(session, GD_ALL, VMMHPC_DEBUG_HOLD);
    bool any = false;
    for (uint32_t i = 0; i < session->cpus; i++) {
        any = any || session->actions[i] != VMMHPC_DEBUG_HOLD;
    }
    if (gd_left(&packet) > 0 || !any) {
        gd_error(session, VMMHPC_E_INVALID);
        return true;
    }
    return resume(session);
}

/* An address to go on from may follow; who sends it wants RIP changed. */
static bool jump(struct gd_session *session, uint32_t cpu, struct gd_cursor *packet)
{
    uint64_t address = 0;
    if (gd_left(packet) == 0) {
        return true;
    }
    struct vmmhpc_debug_regs regs = {.size = sizeof(regs)};
    if (!gd_take_number(packet, &address) || gd_left(packet) > 0 || session->running ||
        session->target->get_regs(session->opaque, cpu, &regs) != VMMHPC_OK) {
        return false;
    }
    regs.rip = address;
    return session->target->set_regs(session->opaque, cpu, &regs, VMMHPC_REGS_GENERAL) == VMMHPC_OK;
}

bool gd_resume_one(struct gd_session *session, char command, struct gd_cursor packet)
{
    uint64_t signal = 0;
    bool step = command == 's' || command == 'S';
    bool with_signal = command == 'C' || command == 'S';
    uint32_t one = session->control == GD_ALL ? session->stopped : session->control;
    if ((with_signal &&
         (!gd_take_number(&packet, &signal) || (gd_left(&packet) > 0 && !gd_take(&packet, ';')))) ||
        !jump(session, one, &packet)) {
        gd_error(session, VMMHPC_E_INVALID);
        return true;
    }
    memset(session->actions, NO_ACTION, session->cpus);
    if (step) {
        fill(session, one, VMMHPC_DEBUG_STEP_ONE);
    }
    fill(session, session->control, VMMHPC_DEBUG_RUN);
    fill(session, GD_ALL, VMMHPC_DEBUG_HOLD);
    return resume(session);
}
