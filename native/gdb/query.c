/* SPDX-License-Identifier: Apache-2.0 */
/* Questions of gdb, and the commands that people type after "monitor". */
#include <string.h>

#include "session.h"

static void features(struct gd_session *session, struct gd_cursor packet)
{
    uint64_t offset = 0;
    uint64_t bytes = 0;
    if (!gd_take_word(&packet, "target.xml:") || !gd_take_number(&packet, &offset) ||
        !gd_take(&packet, ',') || !gd_take_number(&packet, &bytes) || offset > session->xml.bytes) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    uint64_t left = session->xml.bytes - offset;
    uint64_t most = GD_PACKET / 2; /* room for escapes */
    bytes = bytes < most ? bytes : most;
    gd_puts(&session->reply, bytes < left ? "m" : "l");
    gd_put(&session->reply, session->xml.data + offset, bytes < left ? bytes : left);
}

static void threads(struct gd_session *session)
{
    for (uint32_t i = 0; i < session->cpus; i++) {
        gd_printf(&session->reply, "%c%x", i == 0 ? 'm' : ',', i + 1);
    }
}

static void extra_info(struct gd_session *session, struct gd_cursor packet)
{
    char text[200] = "";
    uint32_t cpu = 0;
    if (!gd_take_thread(session, &packet, &cpu) || cpu == GD_ALL) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    session->target->describe_cpu(session->opaque, cpu, text, sizeof(text));
    gd_put_hex(&session->reply, text, strlen(text));
}

void gd_query(struct gd_session *session, struct gd_cursor packet)
{
    struct gd_text *reply = &session->reply;
    if (gd_take_word(&packet, "qSupported")) {
        gd_printf(reply,
                  "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;"
                  "vContSupported+",
                  GD_PACKET);
    } else if (gd_take_word(&packet, "QStartNoAckMode")) {
        session->no_ack = true;
        gd_ok(session);
    } else if (gd_take_word(&packet, "qXfer:features:read:")) {
        features(session, packet);
    } else if (gd_take_word(&packet, "qfThreadInfo")) {
        threads(session);
    } else if (gd_take_word(&packet, "qsThreadInfo")) {
        gd_puts(reply, "l");
    } else if (gd_take_word(&packet, "qThreadExtraInfo,")) {
        extra_info(session, packet);
    } else if (gd_take_word(&packet, "qAttached")) {
        gd_puts(reply, "1"); /* so that gdb lets the guest go on when it quits */
    } else if (gd_take_word(&packet, "qRcmd,")) {
        gd_monitor(session, packet);
    } else if (gd_take_word(&packet, "qSymbol::")) {
        gd_ok(session);
    } else if (gd_take_word(&packet, "qC") && gd_left(&packet) == 0) {
        gd_printf(reply, "QC%x", session->stopped + 1);
    }
}

static const char help[] =
    "info                 the machine, its vCPUs, and what this host does in hardware\n"
    "translate ADDRESS    guest-physical address behind a linear one (hexadecimal)\n"
    "reset                press the reset button; then: maintenance flush register-cache\n"
    "quit                 switch the machine off\n";

static void info(struct gd_session *session, struct gd_text *text)
{
    char words[1024] = "";
    session->target->describe(session->opaque, words, sizeof(words));
    gd_puts(text, words);
    for (uint32_t i = 0; i < session->cpus; i++) {
        words[0] = '\0';
        session->target->describe_cpu(session->opaque, i, words, sizeof(words));
        gd_printf(text, "vCPU %u: %s\n", i, words);
    }
}

static void translate(struct gd_session *session, struct gd_cursor command, struct gd_text *text)
{
    uint64_t address = 0;
    uint64_t gpa = 0;
    (void)gd_take_word(&command, "0x");
    if (!gd_take_number(&command, &address) || gd_left(&command) > 0) {
        gd_puts(text, "translate ADDRESS: a hexadecimal number\n");
    } else if (session->target->translate(session->opaque, session->general, address, &gpa) !=
               VMMHPC_OK) {
        gd_puts(text, "no page there\n");
    } else {
        gd_printf(text, "0x%llx\n", (unsigned long long)gpa);
    }
}

void gd_monitor(struct gd_session *session, struct gd_cursor hex)
{
    char command[128];
    size_t bytes = gd_left(&hex) / 2;
    struct gd_text text = {0};
    if (bytes > sizeof(command) || !gd_take_bytes(&hex, command, bytes)) {
        gd_error(session, VMMHPC_E_INVALID);
        return;
    }
    struct gd_cursor word = {command, command + bytes};
    int32_t status = VMMHPC_OK;
    if (gd_take_word(&word, "translate ")) {
        translate(session, word, &text);
    } else if (gd_take_word(&word, "info") && gd_left(&word) == 0) {
        info(session, &text);
    } else if (gd_take_word(&word, "reset") && gd_left(&word) == 0) {
        status = session->target->reset(session->opaque);
    } else if (gd_take_word(&word, "quit") && gd_left(&word) == 0) {
        status = session->target->kill(session->opaque);
    } else {
        gd_puts(&text, help);
    }
    if (status != VMMHPC_OK || text.failed) {
        gd_error(session, status == VMMHPC_OK ? VMMHPC_E_NO_MEMORY : status);
    } else if (text.bytes == 0) {
        gd_ok(session);
    } else {
        gd_put_hex(&session->reply, text.data, text.bytes);
    }
    gd_free(&text);
}
