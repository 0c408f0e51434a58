/* SPDX-License-Identifier: Apache-2.0 */
#include "dhcp.h"

#include <string.h>

/* Offsets of RFC 2131, figure 1. */
enum {
    OP = 0,
    HARDWARE = 1,
    HARDWARE_BYTES = 2,
    XID = 4,
    FLAGS = 10,
    CIADDR = 12,
    YIADDR = 16,
    SIADDR = 20,
    GIADDR = 24,
    CHADDR = 28,
    COOKIE = 236,
    OPTIONS = 240,
    /** Shorter ones some clients do not take. */
    SHORTEST = 300,
};

enum { REQUEST = 1, REPLY = 2, ETHERNET = 1 };
enum { DISCOVER = 1, OFFER = 2, ASK = 3, ACK = 5, NAK = 6, INFORM = 8 };
enum {
    PAD = 0,
    SUBNET = 1,
    ROUTER = 3,
    NAME_SERVER = 6,
    WANTED = 50,
    LEASE_TIME = 51,
    KIND = 53,
    SERVER = 54,
    END = 255,
};

static const uint8_t MAGIC[] = {99, 130, 83, 99};

/* The value of an option if it has just that many bytes. */
static const uint8_t *option(const uint8_t *data, size_t bytes, uint8_t wanted, size_t length)
{
    size_t at = OPTIONS;
    while (at < bytes && data[at] != END) {
        if (data[at] == PAD) {
            at++;
            continue;
        }
        if (bytes - at < 2 || bytes - at - 2 < data[at + 1]) {
            return NULL;
        }
        if (data[at] == wanted) {
            return data[at + 1] == length ? data + at + 2 : NULL;
        }
        at += 2u + data[at + 1];
    }
    return NULL;
}

static uint32_t address(const uint8_t *at)
{
    uint32_t value = 0;
    if (at != NULL) {
        memcpy(&value, at, sizeof(value));
    }
    return value;
}

/* There is room: all options together are far shorter than DHCP_REPLY_MAX. */
static void put(struct dhcp_reply *reply, uint8_t code, const void *value, size_t bytes)
{
    reply->data[reply->bytes++] = code;
    reply->data[reply->bytes++] = (uint8_t)bytes;
    memcpy(reply->data + reply->bytes, value, bytes);
    reply->bytes += bytes;
}

static void begin(const struct dhcp_lease *lease, const uint8_t *request, uint8_t kind,
                  struct dhcp_reply *reply)
{
    *reply = (struct dhcp_reply){.bytes = OPTIONS};
    memcpy(reply->data, request, COOKIE);
    memset(reply->data + CHADDR + 16, 0, COOKIE - CHADDR - 16); /* no names of servers and files */
    reply->data[OP] = REPLY;
    memset(reply->data + YIADDR, 0, CHADDR - YIADDR);
    memcpy(reply->data + COOKIE, MAGIC, sizeof(MAGIC));
    put(reply, KIND, &kind, 1);
    put(reply, SERVER, &lease->host, 4);
}

static void finish(struct dhcp_reply *reply)
{
    reply->data[reply->bytes++] = END;
    if (reply->bytes < SHORTEST) {
        reply->bytes = SHORTEST;
    }
}

static void grant(const struct dhcp_lease *lease, const uint8_t *request, uint8_t kind,
                  struct dhcp_reply *reply)
{
    static const uint8_t FOREVER[] = {255, 255, 255, 255};
    begin(lease, request, kind == DISCOVER ? OFFER : ACK, reply);
    memcpy(reply->data + SIADDR, &lease->host, 4);
    if (kind != INFORM) {
        memcpy(reply->data + YIADDR, &lease->guest, 4);
        put(reply, LEASE_TIME, FOREVER, sizeof(FOREVER));
    }
    put(reply, SUBNET, &lease->mask, 4);
    put(reply, ROUTER, &lease->host, 4);
    if (lease->name_server_count > 0) {
        put(reply, NAME_SERVER, lease->name_servers, 4 * (size_t)lease->name_server_count);
    }
    finish(reply);
    reply->to = address(request + CIADDR) == lease->guest ? lease->guest : 0;
}

static void refuse(const struct dhcp_lease *lease, const uint8_t *request, struct dhcp_reply *reply)
{
    begin(lease, request, NAK, reply);
    memset(reply->data + CIADDR, 0, 4);
    finish(reply);
}

int dhcp_answer(const struct dhcp_lease *lease, const uint8_t *request, size_t bytes,
                struct dhcp_reply *reply)
{
    if (bytes < OPTIONS || request[OP] != REQUEST || request[HARDWARE] != ETHERNET ||
        request[HARDWARE_BYTES] != sizeof(lease->mac) ||
        memcmp(request + CHADDR, lease->mac, sizeof(lease->mac)) != 0 ||
        memcmp(request + COOKIE, MAGIC, sizeof(MAGIC)) != 0) {
        return 0;
    }
    const uint8_t *kind = option(request, bytes, KIND, 1);
    const uint8_t *server = option(request, bytes, SERVER, 4);
    if (kind == NULL || (server != NULL && address(server) != lease->host)) {
        return 0;
    }
    if (*kind == DISCOVER || *kind == INFORM) {
        grant(lease, request, *kind, reply);
        return 1;
    }
    if (*kind != ASK) {
        return 0; /* what is given back or turned down stays the guest's */
    }
    const uint8_t *wanted = option(request, bytes, WANTED, 4);
    uint32_t asked = wanted != NULL ? address(wanted) : address(request + CIADDR);
    if (asked == lease->guest) {
        grant(lease, request, ASK, reply);
    } else {
        refuse(lease, request, reply);
    }
    return 1;
}
