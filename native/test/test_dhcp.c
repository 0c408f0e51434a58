/* SPDX-License-Identifier: Apache-2.0 */
/* The DHCP server of v3m-supervise: what a client is told, and who is told nothing. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "../supervise/dhcp.h"
#include "tap.h"

#define LEASE "10.77.0.1,10.77.0.2,30,52:54:00:12:34:56,192.0.2.53,192.0.2.54"

struct packet {
    uint8_t data[512];
    size_t bytes;
};

static struct dhcp_lease lease(void)
{
    struct dhcp_lease value;
    CHECK_EQ(dhcp_parse(&value, LEASE), 0);
    return value;
}

/* A client's packet of a kind, without its end. */
static struct packet from_client(uint8_t kind)
{
    static const uint8_t mac[] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    static const uint8_t cookie[] = {99, 130, 83, 99};
    struct packet p = {.bytes = 243};
    p.data[0] = 1;
    p.data[1] = 1;
    p.data[2] = 6;
    memcpy(p.data + 4, "\xde\xad\xbe\xef", 4);
    memcpy(p.data + 28, mac, sizeof(mac));
    memcpy(p.data + 236, cookie, sizeof(cookie));
    p.data[240] = 53;
    p.data[241] = 1;
    p.data[242] = kind;
    return p;
}

static void add(struct packet *p, uint8_t code, const char *address)
{
    p->data[p->bytes] = code;
    p->data[p->bytes + 1] = 4;
    CHECK_EQ(inet_pton(AF_INET, address, p->data + p->bytes + 2), 1);
    p->bytes += 6;
}

static int answer(struct packet *p, struct dhcp_reply *reply)
{
    struct dhcp_lease value = lease();
    p->data[p->bytes++] = 255;
    return dhcp_answer(&value, p->data, p->bytes, reply);
}

/* An option of an answer as text: addresses with blanks between, other values in hexadecimal. */
static const char *said(const struct dhcp_reply *reply, uint8_t code)
{
    static char text[128];
    for (size_t at = 240; at < reply->bytes && reply->data[at] != 255;
         at += 2u + reply->data[at + 1]) {
        const uint8_t *value = reply->data + at + 2;
        size_t bytes = reply->data[at + 1];
        if (reply->data[at] != code) {
            continue;
        }
        text[0] = '\0';
        for (size_t i = 0; i < bytes; i += 4) {
            char one[32];
            if (bytes % 4 == 0) {
                (void)inet_ntop(AF_INET, value + i, one, sizeof(one));
            } else {
                (void)snprintf(one, sizeof(one), "%02x", value[i]);
            }
            (void)strcat(strcat(text, i == 0 ? "" : " "), one);
        }
        return text;
    }
    return "nothing";
}

static const char *given(const struct dhcp_reply *reply)
{
    static char text[32];
    return inet_ntop(AF_INET, reply->data + 16, text, sizeof(text));
}

#define CHECK_TEXT(actual, expected) CHECK_EQ(strcmp((actual), (expected)), 0)

TEST(dhcp_offers_what_there_is)
{
    struct packet p = from_client(1);
    struct dhcp_reply reply;

    CHECK_EQ(answer(&p, &reply), 1);
    CHECK_EQ(reply.data[0], 2);
    CHECK_EQ(memcmp(reply.data + 4, "\xde\xad\xbe\xef", 4), 0);
    CHECK_EQ(memcmp(reply.data + 28, p.data + 28, 6), 0);
    CHECK_TEXT(given(&reply), "10.77.0.2");
    CHECK_TEXT(said(&reply, 53), "02");
    CHECK_TEXT(said(&reply, 54), "10.77.0.1");
    CHECK_TEXT(said(&reply, 51), "255.255.255.255");
    CHECK_TEXT(said(&reply, 1), "255.255.255.252");
    CHECK_TEXT(said(&reply, 3), "10.77.0.1");
    CHECK_TEXT(said(&reply, 6), "192.0.2.53 192.0.2.54");
    CHECK_EQ(reply.to, 0);
    CHECK(reply.bytes >= 300);
}

TEST(dhcp_gives_the_one_address)
{
    struct packet p = from_client(3);
    struct dhcp_reply reply;

    add(&p, 50, "10.77.0.2");
    add(&p, 54, "10.77.0.1");
    CHECK_EQ(answer(&p, &reply), 1);
    CHECK_TEXT(said(&reply, 53), "05");
    CHECK_TEXT(given(&reply), "10.77.0.2");
}

TEST(dhcp_renews_where_the_client_is)
{
    struct packet p = from_client(3);
    struct dhcp_reply reply;

    CHECK_EQ(inet_pton(AF_INET, "10.77.0.2", p.data + 12), 1);
    CHECK_EQ(answer(&p, &reply), 1);
    CHECK_TEXT(said(&reply, 53), "05");
    CHECK_EQ(reply.to, inet_addr("10.77.0.2"));
}

TEST(dhcp_refuses_another_address)
{
    struct packet p = from_client(3);
    struct dhcp_reply reply;

    add(&p, 50, "10.77.0.9");
    CHECK_EQ(answer(&p, &reply), 1);
    CHECK_TEXT(said(&reply, 53), "06");
    CHECK_TEXT(given(&reply), "0.0.0.0");
    CHECK_TEXT(said(&reply, 3), "nothing");
}

TEST(dhcp_informs_without_an_address)
{
    struct packet p = from_client(8);
    struct dhcp_reply reply;

    CHECK_EQ(answer(&p, &reply), 1);
    CHECK_TEXT(said(&reply, 53), "05");
    CHECK_TEXT(given(&reply), "0.0.0.0");
    CHECK_TEXT(said(&reply, 51), "nothing");
    CHECK_TEXT(said(&reply, 3), "10.77.0.1");
}

TEST(dhcp_says_nothing_to_others)
{
    struct dhcp_reply reply;
    struct packet other_server = from_client(3);
    add(&other_server, 54, "10.77.0.3");
    CHECK_EQ(answer(&other_server, &reply), 0);
    struct packet release = from_client(7);
    CHECK_EQ(answer(&release, &reply), 0);
    /* Each of these makes it another's packet, or none. */
    static const size_t offsets[] = {0, 1, 2, 28, 33, 236, 240};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct packet p = from_client(1);
        p.data[offsets[i]] ^= 0xff;
        CHECK_EQ(answer(&p, &reply), 0);
    }
}

TEST(dhcp_packets_cut_off)
{
    struct dhcp_lease value = lease();
    struct dhcp_reply reply;
    struct packet p = from_client(3);
    add(&p, 50, "10.77.0.2");
    for (size_t bytes = 0; bytes < 243; bytes++) {
        CHECK_EQ(dhcp_answer(&value, p.data, bytes, &reply), 0);
    }
    /* An option that says that it is longer than the packet is none. */
    p.data[244] = 200;
    CHECK_EQ(dhcp_answer(&value, p.data, p.bytes, &reply), 1);
    CHECK_TEXT(said(&reply, 53), "06");
}

TEST(dhcp_leases_in_words)
{
    static const char *const wrong[] = {
        "",
        "10.77.0.1",
        "10.77.0.1,10.77.0.2,30",
        "10.77.0.1,10.77.0.2,30,52:54:00:12:34",
        "10.77.0.1,10.77.0.2,30,52:54:00:12:34:56:78",
        "10.77.0.1,10.77.0.2,30,52:54:00:12:34:5x",
        "10.77.0.1,10.77.0.2,0,52:54:00:12:34:56",
        "10.77.0.1,10.77.0.2,33,52:54:00:12:34:56",
        "10.77.0.1,10.77.0,30,52:54:00:12:34:56",
        "10.77.0.1,10.77.0.2,30,52:54:00:12:34:56,192.0.2",
        LEASE ",192.0.2.55,192.0.2.56",
    };
    struct dhcp_lease value = lease();

    CHECK_EQ(value.name_server_count, 2);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_EQ(dhcp_parse(&value, wrong[i]), -1);
    }
}
