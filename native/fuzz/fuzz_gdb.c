/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gdb's protocol from somebody who is no gdb. The input is a list of packets, each behind its
 * length (two bytes): with good sums, so that they are looked into; length 0 gives the rest as raw
 * bytes. Between packets the machine may stop. What must hold: no access outside of anything
 * (ASan), answers in frames, vCPUs that exist, at most one answer owed.
 */
#include "harness.h"

#include <string.h>

#include "../test/gdb_rig.h"

static struct gdb_rig rig;

static void check(void)
{
    const struct gd_text *out = &rig.session.out;
    size_t at = 0;
    while (at < out->bytes) {
        if (out->data[at] == '+' || out->data[at] == '-') {
            at++;
            continue;
        }
        MUST(out->data[at] == '$');
        uint8_t sum = 0;
        for (at++; at < out->bytes && out->data[at] != '#'; at++) {
            MUST(out->data[at] != '$');
            sum = (uint8_t)(sum + (uint8_t)out->data[at]);
        }
        MUST(out->bytes - at >= 3);
        MUST(gd_digit(out->data[at + 1]) * 16 + gd_digit(out->data[at + 2]) == sum);
        at += 3;
    }
    MUST(rig.session.general < GDB_RIG_CPUS && rig.session.stopped < GDB_RIG_CPUS);
    MUST(rig.session.control < GDB_RIG_CPUS || rig.session.control == GD_ALL);
    MUST(rig.break_count <= GDB_RIG_BREAKS);
    MUST(rig.session.running == !rig.held || rig.over);
}

static bool feed(const uint8_t *data, size_t bytes)
{
    gd_clear(&rig.session.out);
    bool goes_on = gd_session_feed(&rig.session, data, bytes);
    check();
    return goes_on;
}

static bool packet(const uint8_t *data, size_t bytes)
{
    static uint8_t frame[65536 + 8];
    static const char digits[] = "0123456789abcdef";
    uint8_t sum = 0;
    frame[0] = '$';
    memcpy(frame + 1, data, bytes);
    for (size_t i = 0; i < bytes; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    frame[bytes + 1] = '#';
    frame[bytes + 2] = (uint8_t)digits[sum >> 4];
    frame[bytes + 3] = (uint8_t)digits[sum & 15];
    return feed(frame, bytes + 4);
}

/* A machine that was let go stops again, for a reason that the resume's number gives. */
static void stop(uint8_t how)
{
    struct vmmhpc_debug_stop stop = {.size = sizeof(stop),
                                     .reason = 1u + how % 5u,
                                     .vcpu = how / 5u % (GDB_RIG_CPUS + 1),
                                     .kind = how / 16u % 6u,
                                     .address = how * 0x1111u};
    if (rig.session.running) {
        rig.held = stop.reason != VMMHPC_DEBUG_ENDED;
        rig.over = rig.over || !rig.held;
        gd_clear(&rig.session.out);
        gd_session_stopped(&rig.session, &stop);
        check();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    bool goes_on = gdb_rig_open(&rig);
    MUST(goes_on);
    while (goes_on && bytes >= 2) {
        size_t length = data[0] | (size_t)(data[1] & 0x7f) << 8;
        uint8_t how = data[1];
        data += 2;
        bytes -= 2;
        if (length == 0) {
            goes_on = feed(data, bytes);
            break;
        }
        length = length < bytes ? length : bytes;
        goes_on = packet(data, length);
        data += length;
        bytes -= length;
        if ((how & 0x80) != 0) {
            stop(bytes > 0 ? data[0] : 0);
        }
    }
    fuzz_count(rig.resumes > 0 || rig.break_count > 0);
    gdb_rig_close(&rig);
    return 0;
}
