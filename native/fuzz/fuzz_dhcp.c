/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets from a guest to the DHCP server of v3m-supervise. Half of them get a header that is
 * looked behind. What must hold: no access outside of the packet (ASan), answers that are a
 * server's and short enough, and no address but the lease's.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "../supervise/dhcp.h"

static const uint8_t HEADER[] = {1, 1, 6};
static const uint8_t COOKIE[] = {99, 130, 83, 99};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dhcp_lease lease;
    struct dhcp_reply reply;
    MUST(dhcp_parse(&lease, "10.0.0.1,10.0.0.2,30,52:54:00:12:34:56,192.0.2.53") == 0);
    uint8_t packet[1500];
    size_t bytes = size < sizeof(packet) ? size : sizeof(packet);
    memcpy(packet, data, bytes);
    if (bytes > 240 && (data[0] & 1) == 0) {
        memcpy(packet, HEADER, sizeof(HEADER));
        memcpy(packet + 28, lease.mac, sizeof(lease.mac));
        memcpy(packet + 236, COOKIE, sizeof(COOKIE));
    }
    /* At the end of its own memory, so that a byte behind it is noticed. */
    uint8_t *exact = malloc(bytes + 1);
    MUST(exact != NULL);
    memcpy(exact + 1, packet, bytes);
    bool answered = dhcp_answer(&lease, exact + 1, bytes, &reply) != 0;
    if (answered) {
        uint32_t given = 0;
        memcpy(&given, reply.data + 16, sizeof(given));
        MUST(reply.bytes >= 300 && reply.bytes <= sizeof(reply.data));
        MUST(reply.data[0] == 2 && (given == 0 || given == lease.guest));
        MUST(reply.to == 0 || reply.to == lease.guest);
    }
    fuzz_count(answered);
    free(exact);
    return 0;
}
