/* SPDX-License-Identifier: Apache-2.0 */
/* gdb's protocol: frames, questions, memory, registers, breakpoints, going on and stopping. */
#include <stdio.h>
#include <string.h>

#include "gdb_rig.h"
#include "tap.h"

static struct gdb_rig rig;

#define CHECK_ANSWER(packet, answer) CHECK_EQ(strcmp(gdb_rig_ask(&rig, packet), answer), 0)
#define RAW(text) gdb_rig_raw(&rig, text, strlen(text))

static void open_rig(void)
{
    CHECK(gdb_rig_open(&rig));
}

TEST(gdb_frames_and_acknowledgements)
{
    open_rig();
    CHECK_EQ(strcmp(RAW("+$qC#b4"), "+$QC1#c5"), 0);
    CHECK_EQ(strcmp(RAW("-"), "$QC1#c5"), 0);           /* again */
    CHECK_EQ(strcmp(RAW("$qC#b5"), "-"), 0);            /* a wrong sum */
    CHECK_EQ(strcmp(RAW("$qC#zz"), "-"), 0);            /* no sum */
    CHECK_EQ(strcmp(RAW("$m10$qC#b4"), "+$QC1#c5"), 0); /* one that broke off */
    CHECK_EQ(strcmp(RAW("noise#00$qC#b4"), "+$QC1#c5"), 0);
    CHECK_EQ(strcmp(RAW("$QStartNoAckMode#b0"), "+$OK#9a"), 0);
    CHECK_EQ(strcmp(RAW("$qC#b4"), "$QC1#c5"), 0);
    CHECK_EQ(strcmp(RAW("$"), ""), 0);
    CHECK_EQ(strcmp(RAW("q"), ""), 0);
    CHECK_EQ(strcmp(RAW("C#b"), ""), 0);
    CHECK_EQ(strcmp(RAW("4"), "$QC1#c5"), 0); /* in pieces */
    gdb_rig_close(&rig);
}

TEST(gdb_other_protocols_are_refused)
{
    static const char *const others[] = {"GET / HTTP/1.1\r\n", "POST /$k#6b", "\n", "SSH-2.0"};
    for (size_t i = 0; i < VH_COUNT(others); i++) {
        open_rig();
        CHECK(!gd_session_feed(&rig.session, (const uint8_t *)others[i], strlen(others[i])));
        CHECK(!rig.over);
        gdb_rig_close(&rig);
    }
}

TEST(gdb_too_long_a_packet)
{
    static char packet[2 * GD_PACKET];
    open_rig();
    memset(packet, 'm', sizeof(packet) - 1);
    CHECK_EQ(strcmp(gdb_rig_ask(&rig, packet), "E01"), 0);
    rig.session.no_ack = false;
    CHECK_EQ(strcmp(RAW("$qC#b4"), "+$QC1#c5"), 0);
    gdb_rig_close(&rig);
}

TEST(gdb_questions)
{
    open_rig();
    CHECK_CONTAINS(gdb_rig_ask(&rig, "qSupported:multiprocess+;swbreak+"), "PacketSize=4000;");
    CHECK_CONTAINS(gdb_rig_ask(&rig, "qSupported"), "qXfer:features:read+");
    CHECK_ANSWER("qfThreadInfo", "m1,2,3");
    CHECK_ANSWER("qsThreadInfo", "l");
    CHECK_ANSWER("qThreadExtraInfo,2", "6370752031"); /* cpu 1 */
    CHECK_ANSWER("qThreadExtraInfo,4", "E01");
    CHECK_ANSWER("qThreadExtraInfo,-1", "E01");
    CHECK_ANSWER("qAttached", "1");
    CHECK_ANSWER("T3", "OK");
    CHECK_ANSWER("T4", "E01");
    CHECK_ANSWER("?", "T05thread:1;");
    CHECK_ANSWER("vMustReplyEmpty", "");
    CHECK_ANSWER("qTStatus", "");
    CHECK_ANSWER("!", "");
    CHECK_ANSWER("", "");
    CHECK_ANSWER("Hg2", "OK");
    CHECK_ANSWER("Hg9", "E01");
    CHECK_ANSWER("Hx1", "E01");
    CHECK_ANSWER("H", "E01");
    gdb_rig_close(&rig);
}

TEST(gdb_description_of_registers)
{
    static char xml[65536];
    size_t bytes = 0;
    open_rig();
    for (;;) {
        char question[64];
        (void)snprintf(question, sizeof(question), "qXfer:features:read:target.xml:%zx,100", bytes);
        const char *answer = gdb_rig_ask(&rig, question);
        if (!CHECK(answer[0] == 'm' || answer[0] == 'l') || bytes + strlen(answer) > sizeof(xml)) {
            break;
        }
        memcpy(xml + bytes, answer + 1, strlen(answer));
        bytes += strlen(answer) - 1;
        if (answer[0] == 'l') {
            break;
        }
    }
    CHECK_CONTAINS(xml, "<architecture>i386:x86-64</architecture>");
    CHECK_CONTAINS(xml, "<reg name=\"r15\" bitsize=\"64\" type=\"int64\" regnum=\"15\"/>");
    CHECK_CONTAINS(xml, "<reg name=\"xmm15\" bitsize=\"128\" type=\"vec128\" regnum=\"55\"/>");
    CHECK_CONTAINS(xml, "name=\"fs_base\"");
    CHECK_CONTAINS(xml, "</target>");
    CHECK_ANSWER("qXfer:features:read:target.xml:fffff,10", "E01");
    CHECK_ANSWER("qXfer:features:read:other.xml:0,10", "E01");
    CHECK_ANSWER("qXfer:features:read:target.xml:0", "E01");
    gdb_rig_close(&rig);
}

TEST(gdb_memory)
{
    open_rig();
    CHECK_ANSWER("M1000,4:01020304", "OK");
    CHECK_ANSWER("m1000,4", "01020304");
    CHECK_ANSWER("X1004,3:a}\003b", "OK"); /* }\003 is # */
    CHECK_ANSWER("m1004,3", "612362");
    CHECK_ANSWER("X1004,0:", "OK");
    CHECK_ANSWER("m10ffe,8", "0000"); /* what there is */
    CHECK_ANSWER("m11000,8", "E07");
    CHECK_ANSWER("mffffffffffffffff,8", "E07");
    CHECK_ANSWER("M10ffe,4:01020304", "E07");
    CHECK_ANSWER("M1000,4:010203", "E01");
    CHECK_ANSWER("M1000,4:0102zz04", "E01");
    CHECK_ANSWER("Mffffffffffffffffff,1:00", "E01");
    CHECK_ANSWER("X1000,ffffffffffffffff:a", "E01");
    CHECK_ANSWER("X1000,2:a", "E01");
    CHECK_ANSWER("X1000,1:ab", "E01");
    CHECK_ANSWER("X1000,1:}", "E01");
    CHECK_ANSWER("m1000", "E01");
    CHECK_ANSWER("m", "E01");
    CHECK_EQ(strlen(gdb_rig_ask(&rig, "m1000,ffffffff")), GD_PACKET);
    gdb_rig_close(&rig);
}

TEST(gdb_registers)
{
    open_rig();
    rig.regs[0].gpr[0] = 0x1122334455667788;
    rig.regs[0].ftw = 0x81;
    rig.regs[1].gpr[15] = 0x42;
    CHECK_ANSWER("p0", "8877665544332211");
    CHECK_ANSWER("pf", "0000000000000000");
    CHECK_ANSWER("Hg2", "OK");
    CHECK_ANSWER("pf", "4200000000000000");
    CHECK_ANSWER("Pf=0100000000000000", "OK");
    CHECK_EQ(rig.regs[1].gpr[15], 1);
    CHECK_EQ(rig.groups, VMMHPC_REGS_GENERAL);
    CHECK_ANSWER("P12=3300000", "E01");
    CHECK_ANSWER("P12=33000000", "OK"); /* cs */
    CHECK_EQ(rig.regs[1].segment[VMMHPC_SEGMENT_CS].selector, 0x33);
    CHECK_EQ(rig.groups, VMMHPC_REGS_SYSTEM);
    CHECK_ANSWER("Hg1", "OK");
    CHECK_ANSWER("p22", "fc3f0000"); /* ftag: registers 0 and 7 are in use */
    CHECK_ANSWER("P22=ffff0000", "OK");
    CHECK_EQ(rig.regs[0].ftw, 0);
    CHECK_ANSWER("pffff", "E01");
    CHECK_ANSWER("p", "E01");
    CHECK_ANSWER("Pffff=00", "E01");
    CHECK_ANSWER("P0", "E01");
    rig.held = false;
    CHECK_ANSWER("p0", "E0c");
    CHECK_ANSWER("g", "E0c");
    gdb_rig_close(&rig);
}

TEST(gdb_all_registers)
{
    static char packet[4096] = "G";
    open_rig();
    for (uint32_t i = 0; i < sizeof(rig.regs[0]) - 8; i++) {
        ((uint8_t *)&rig.regs[0])[8 + i] = (uint8_t)(i * 7);
    }
    rig.regs[0].rflags = 0x246;
    struct vmmhpc_debug_regs before = rig.regs[0];
    const char *all = gdb_rig_ask(&rig, "g");
    CHECK_EQ(strlen(all), 2 * gd_register_bytes());
    (void)snprintf(packet + 1, sizeof(packet) - 1, "%s", all);
    rig.groups = 0;
    CHECK_ANSWER(packet, "OK");
    CHECK_EQ(rig.groups, 0); /* nothing has changed, so nothing was written */
    CHECK_EQ(memcmp(&before, &rig.regs[0], sizeof(before)), 0);
    packet[1] = packet[1] == '0' ? '1' : '0';
    CHECK_ANSWER(packet, "OK");
    CHECK_EQ(rig.groups, VMMHPC_REGS_GENERAL);
    packet[strlen(packet) - 1] = '\0';
    CHECK_ANSWER(packet, "E01");
    CHECK_EQ(gd_register_count(), 68);
    gdb_rig_close(&rig);
}

TEST(gdb_breakpoints)
{
    open_rig();
    CHECK_ANSWER("Z0,1234,1", "OK");
    CHECK_ANSWER("Z2,2000,8", "OK");
    CHECK_EQ(rig.break_count, 2);
    CHECK_EQ(rig.breaks[1].bytes, 8);
    CHECK_ANSWER("Z3,2000,8", "E05");
    CHECK_ANSWER("Z5,2000,8", "");
    CHECK_ANSWER("Z0,1234", "E01");
    CHECK_ANSWER("Z0,1234,fffffffff", "E01");
    CHECK_ANSWER("Z", "E01");
    CHECK_ANSWER("z0,1234,1", "OK");
    CHECK_ANSWER("z0,1234,1", "E01");
    CHECK_EQ(rig.break_count, 1);
    gdb_rig_close(&rig);
}

static void stops(uint32_t reason, uint32_t vcpu, uint32_t kind, uint64_t address)
{
    struct vmmhpc_debug_stop stop = {
        .size = sizeof(stop), .reason = reason, .vcpu = vcpu, .kind = kind, .address = address};
    rig.held = true;
    gd_clear(&rig.session.out);
    gd_session_stopped(&rig.session, &stop);
    gd_put(&rig.session.out, "", 1);
}

TEST(gdb_goes_on_and_stops)
{
    open_rig();
    CHECK_ANSWER("vCont?", "vCont;c;C;s;S;t");
    CHECK_ANSWER("vCont;s:2;c", "");
    CHECK_EQ(rig.actions[0], VMMHPC_DEBUG_RUN);
    CHECK_EQ(rig.actions[1], VMMHPC_DEBUG_STEP_ONE);
    CHECK_ANSWER("vCont;c", "E0c"); /* it runs */
    stops(VMMHPC_DEBUG_STEPPED, 1, 0, 0);
    CHECK_CONTAINS(rig.session.out.data, "$T05thread:2;#");
    CHECK_ANSWER("?", "T05thread:2;");
    CHECK_ANSWER("qC", "QC2");
    CHECK_ANSWER("vCont;s:3", "");
    CHECK_EQ(rig.actions[0], VMMHPC_DEBUG_HOLD);
    CHECK_EQ(rig.actions[1], VMMHPC_DEBUG_HOLD);
    stops(VMMHPC_DEBUG_BREAKPOINT, 0, VMMHPC_BREAK_SOFTWARE, 0x1000);
    CHECK_CONTAINS(rig.session.out.data, "T05thread:1;swbreak:;");
    CHECK_ANSWER("Hc3", "OK");
    CHECK_ANSWER("s", "");
    CHECK_EQ(rig.actions[2], VMMHPC_DEBUG_STEP_ONE);
    CHECK_EQ(rig.actions[0], VMMHPC_DEBUG_HOLD);
    stops(VMMHPC_DEBUG_WATCH, 2, VMMHPC_BREAK_ACCESS, 0x2000);
    CHECK_CONTAINS(rig.session.out.data, "T05thread:3;awatch:2000;");
    CHECK_ANSWER("Hc-1", "OK");
    CHECK_ANSWER("c4444", "");
    CHECK_EQ(rig.regs[2].rip, 0x4444);
    CHECK_EQ(rig.actions[1], VMMHPC_DEBUG_RUN);
    CHECK_EQ(strcmp(RAW("\003"), "$T02thread:3;#d6"), 0);
    CHECK_ANSWER("C05;zz", "E01");
    CHECK_ANSWER("vCont;x", "E01");
    CHECK_ANSWER("vCont;c:9", "E01");
    CHECK_ANSWER("vCont;t", "E01");
    CHECK_ANSWER("vCont", "E01");
    CHECK_ANSWER("vContinue", "E01");
    CHECK_EQ(rig.resumes, 4);
    gdb_rig_close(&rig);
}

TEST(gdb_an_interrupt_finds_another_stop)
{
    open_rig();
    CHECK_ANSWER("c", "");
    rig.stop = (struct vmmhpc_debug_stop){.size = sizeof(rig.stop),
                                          .reason = VMMHPC_DEBUG_HWBREAK,
                                          .vcpu = 1,
                                          .kind = VMMHPC_BREAK_HARDWARE};
    CHECK_CONTAINS(RAW("\003"), "T05thread:2;hwbreak:;");
    CHECK_EQ(strcmp(RAW("\003"), ""), 0); /* it stands already */
    gdb_rig_close(&rig);
}

TEST(gdb_is_told_of_the_end)
{
    open_rig();
    CHECK_ANSWER("c", "");
    rig.over = true;
    stops(VMMHPC_DEBUG_ENDED, 0, 0, 0);
    CHECK_CONTAINS(rig.session.out.data, "$O6f7665720a#"); /* "over" */
    CHECK_CONTAINS(rig.session.out.data, "$W00#b7");
    CHECK_ANSWER("?", "W00");
    CHECK_ANSWER("c", "W00");
    gdb_rig_close(&rig);
    open_rig();
    rig.crashed = true;
    CHECK_ANSWER("c", "");
    rig.over = true;
    CHECK_CONTAINS(RAW("\003"), "$X06#be");
    gdb_rig_close(&rig);
}

TEST(gdb_takes_its_leave)
{
    open_rig();
    CHECK_ANSWER("D", "OK");
    CHECK(rig.session.detached && !rig.over);
    gdb_rig_close(&rig);
    open_rig();
    CHECK_ANSWER("k", "");
    CHECK(rig.session.detached && rig.over);
    CHECK(!gd_session_feed(&rig.session, (const uint8_t *)"$c#63", 5));
    CHECK_EQ(rig.resumes, 0);
    gdb_rig_close(&rig);
}

TEST(gdb_monitor)
{
    open_rig();
    CHECK_ANSWER("qRcmd,7265736574", "OK"); /* reset */
    CHECK_EQ(rig.resets, 1);
    CHECK_CONTAINS(gdb_rig_ask(&rig, "qRcmd,68656c70"), "696e666f"); /* help: info */
    CHECK_ANSWER("qRcmd,7472616e736c6174652030783132333435", "3078323334350a");
    CHECK_CONTAINS(gdb_rig_ask(&rig, "qRcmd,696e666f"), "6e6f206d616368696e650a");
    CHECK_ANSWER("qRcmd,zz", "E01");
    CHECK_CONTAINS(gdb_rig_ask(&rig, "qRcmd,"), "696e666f");
    CHECK_ANSWER("qRcmd,71756974", "OK"); /* quit */
    CHECK(rig.over);
    gdb_rig_close(&rig);
}
