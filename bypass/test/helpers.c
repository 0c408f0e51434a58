// SPDX-License-Identifier: Apache-2.0
#include "check.h"

uint32_t check_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

void check_fill(uint8_t *data, uint64_t length, uint64_t seed)
{
    for (uint64_t i = 0; i < length; i++) {
        data[i] = (uint8_t)(check_random(&seed) >> 3);
    }
}

int32_t check_filled(const uint8_t *data, uint64_t length, uint64_t seed)
{
    for (uint64_t i = 0; i < length; i++) {
        if (data[i] != (uint8_t)(check_random(&seed) >> 3)) {
            return 0;
        }
    }
    return 1;
}

void check_connect_all(struct bypass *bypass)
{
    for (uint32_t peer = 0; peer < bypass_peers(bypass); peer++) {
        CHECK_CODE(BYPASS_OK, bypass_connect(bypass, peer, 20 * SECOND));
    }
}

void check_reopen(struct bypass **bypass)
{
    struct bypass_config config = {.size = sizeof(config)};
    bypass_close(*bypass);
    *bypass = NULL;
    CHECK_CODE(BYPASS_OK, bypass_open(&config, bypass));
}

void check_barrier(struct bypass *bypass)
{
    uint32_t self = bypass_id(bypass);
    uint32_t peers = bypass_peers(bypass);
    for (uint32_t step = 1; step < peers; step *= 2) {
        CHECK_CODE(BYPASS_OK, bypass_send(bypass, (self + step) % peers, UINT64_MAX, NULL, 0));
        CHECK_CODE(BYPASS_OK, bypass_recv(bypass, (int32_t)((self + peers - step) % peers),
                                          UINT64_MAX, 0, NULL, 0, NULL));
    }
}
