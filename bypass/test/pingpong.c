// SPDX-License-Identifier: Apache-2.0
/*
 * Peer 0 sends COUNT messages of BYTES to peer 1, which sends them back:
 *
 *   pingpong COUNT BYTES       prints the time of half a round, and what was counted
 */
#include "bypass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int32_t play(struct bypass *bypass, uint64_t count, uint8_t *buffer, uint64_t bytes)
{
    uint32_t other = 1 - bypass_id(bypass);
    int32_t code = bypass_connect(bypass, other, 10000000);
    double begin = now();
    for (uint64_t i = 0; i < count && code == BYPASS_OK; i++) {
        if (other == 1) {
            memset(buffer, (int)i, bytes < 8 ? bytes : 8);
            code = bypass_send(bypass, other, i, buffer, bytes);
        }
        if (code == BYPASS_OK) {
            code = bypass_recv(bypass, (int32_t)other, i, 0, buffer, bytes, NULL);
        }
        if (code == BYPASS_OK && bytes != 0 && buffer[0] != (uint8_t)i) {
            code = BYPASS_E_PROTOCOL;
        }
        if (other == 0 && code == BYPASS_OK) {
            code = bypass_send(bypass, other, i, buffer, bytes);
        }
    }
    if (other == 1 && code == BYPASS_OK) {
        printf("%.3f us\n", (now() - begin) * 1e6 / (double)count / 2);
    }
    return code;
}

int main(int argc, char **argv)
{
    struct bypass_config config = {.size = sizeof(config)};
    struct bypass *bypass = NULL;
    struct bypass_stats stats;
    uint64_t count = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t bytes = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    uint8_t *buffer = calloc(1, bytes + 1);
    int32_t code = bypass_open(&config, &bypass);
    if (count == 0 || buffer == NULL || code != BYPASS_OK) {
        fprintf(stderr, "pingpong: %s\n", bypass_text(code));
        free(buffer);
        return 2;
    }
    code = play(bypass, count, buffer, bytes);
    bypass_stats(bypass, &stats);
    printf("peer %u: %s, received %llu, doorbells %llu, sleeps %llu\n", bypass_id(bypass),
           bypass_text(code), (unsigned long long)stats.received_messages,
           (unsigned long long)stats.doorbells, (unsigned long long)stats.sleeps);
    bypass_close(bypass);
    free(buffer);
    return code == BYPASS_OK ? 0 : 1;
}
