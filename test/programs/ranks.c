// SPDX-License-Identifier: Apache-2.0
/*
 * One rank of several that v2m yod started, over their channel: who waits, waits for doorbells.
 *
 *   ranks ring ROUNDS     a token goes round; each rank adds its number and one
 *   ranks sum COUNT       all ranks get the sum of all ranks' vectors
 *   ranks fail RANK CODE  that rank exits with the code, the others wait for ever
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel-file.h"

/* The start of an area. Who has written it rings those who wait for it. */
struct area {
    volatile uint64_t step; /* only grows */
    volatile uint64_t token;
    volatile uint64_t vector[];
};

static struct channel_file channel;
static uint32_t rank, ranks;
static uint64_t waits;

static void fail(const char *what)
{
    fprintf(stderr, "ranks: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint32_t variable(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "ranks: %s is not set\n", name);
        exit(2);
    }
    return (uint32_t)strtoul(value, NULL, 10);
}

static struct area *area(uint32_t peer)
{
    return (struct area *)(channel.window + channel.areas + channel.area_bytes * peer);
}

static uint32_t state(uint32_t peer)
{
    return ((volatile uint32_t *)channel.window)[peer];
}

static void ring(uint32_t peer)
{
    channel.registers[REG_DOORBELL] = peer << 16 | 1;
}

static void rest(void)
{
    uint32_t count;
    if (read(channel.fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        fail("waiting for an interrupt");
    }
    waits++;
}

/* Say that we have come so far, and wait until all have. One that left had: its area reads as zero then. */
static void meet(uint64_t step)
{
    area(rank)->step = step;
    for (uint32_t peer = 0; peer < ranks; peer++) {
        if (peer != rank) {
            ring(peer);
        }
    }
    for (uint32_t peer = 0; peer < ranks; peer++) {
        while (area(peer)->step < step && state(peer) != 0) {
            rest();
        }
    }
}

static void start(void)
{
    rank = variable("V3M_RANK");
    ranks = variable("V3M_RANKS");
    if (channel_file_open(&channel) != 0) {
        fail(CHANNEL_FILE);
    }
    if (channel.registers[REG_ID] != rank || channel.registers[REG_PEERS] != ranks) {
        fprintf(stderr, "ranks: the channel has us as %u of %u\n", channel.registers[REG_ID],
                channel.registers[REG_PEERS]);
        exit(1);
    }
    channel.registers[REG_INTERRUPTS] = 1;
    channel.registers[REG_STATE] = 1;
    for (uint32_t peer = 0; peer < ranks; peer++) {
        while (state(peer) == 0) {
            rest();
        }
    }
}

static void go_round(uint64_t rounds)
{
    uint32_t before = (rank + ranks - 1) % ranks;
    uint32_t next = (rank + 1) % ranks;
    uint64_t token = 0;
    for (uint64_t round = 1; round <= rounds; round++) {
        if (rank != 0 || round > 1) {
            uint64_t due = rank == 0 ? round - 1 : round;
            while (area(before)->step < due) {
                rest();
            }
            token = area(before)->token;
        }
        area(rank)->token = token + rank + 1;
        area(rank)->step = round;
        ring(next);
    }
    meet(rounds + 1);
    printf("token %llu\n", (unsigned long long)area(ranks - 1)->token);
}

static void sum(uint64_t count)
{
    uint64_t total = 0;
    if (count > (channel.area_bytes - sizeof(struct area)) / sizeof(uint64_t)) {
        fprintf(stderr, "ranks: an area holds less\n");
        exit(1);
    }
    for (uint64_t i = 0; i < count; i++) {
        area(rank)->vector[i] = (rank + 1) * i;
    }
    meet(1);
    for (uint32_t peer = 0; peer < ranks; peer++) {
        for (uint64_t i = 0; i < count; i++) {
            total += area(peer)->vector[i];
        }
    }
    printf("sum %llu\n", (unsigned long long)total);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: ranks ring ROUNDS | sum COUNT | fail RANK CODE\n");
        return 2;
    }
    start();
    if (strcmp(argv[1], "ring") == 0) {
        go_round(strtoull(argv[2], NULL, 10));
    } else if (strcmp(argv[1], "sum") == 0) {
        sum(strtoull(argv[2], NULL, 10));
    } else if (argc == 4 && strcmp(argv[1], "fail") == 0) {
        if (rank == (uint32_t)atoi(argv[2])) {
            return atoi(argv[3]);
        }
        printf("here\n");
        fflush(stdout);
        for (;;) {
            rest();
        }
    }
    meet(UINT64_MAX); /* nobody leaves while others read */
    fprintf(stderr, "waits %llu\n", (unsigned long long)waits);
    return 0;
}
