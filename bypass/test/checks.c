// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a check as one of its peers: v3m-mpirun -n N checks NAME. Says "peer I: NAME passed"; what
 * is wrong goes to stderr, with status 1.
 */
#include "check.h"

#define CONFIG(...)                                                                                \
    {                                                                                              \
        .size = sizeof(struct bypass_config), __VA_ARGS__                                          \
    }

static const struct check CHECKS[] = {
    {"ring", check_ring, NULL, CONFIG()},
    {"tags", check_tags, NULL, CONFIG()},
    {"unexpected", check_unexpected, NULL, CONFIG(.unexpected_bytes = 64 << 10)},
    {"large", check_large, NULL, CONFIG(.heap_bytes = 2 << 20)},
    {"onesided", check_onesided, NULL, CONFIG()},
    {"heap", check_heap, NULL, CONFIG(.heap_bytes = 16 << 10)},
    {"sleep", check_sleep, NULL, CONFIG(.wait = BYPASS_WAIT_INTERRUPT, .spins = 100)},
    {"crowd", check_crowd, NULL, CONFIG()},
    {"killed", check_killed, NULL, CONFIG()},
    {"leave", check_leave, NULL, CONFIG()},
    {"restart", NULL, check_restart, CONFIG()},
    {"scribble", NULL, check_scribble, CONFIG()},
    {"flood", check_flood, NULL, CONFIG(.unexpected_bytes = 64 << 10)},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof(CHECKS) / sizeof(CHECKS[0]); i++) {
        if (strcmp(CHECKS[i].name, argv[1]) == 0) {
            struct bypass *bypass = NULL;
            CHECK_CODE(BYPASS_OK, bypass_open(&CHECKS[i].config, &bypass));
            check_connect_all(bypass);
            if (CHECKS[i].run_again != NULL) {
                CHECKS[i].run_again(&bypass, bypass_id(bypass));
            } else {
                CHECKS[i].run(bypass, bypass_id(bypass), bypass_peers(bypass));
            }
            printf("peer %u: %s passed\n", bypass_id(bypass), argv[1]);
            fflush(stdout);
            bypass_close(bypass);
            return 0;
        }
    }
    fprintf(stderr, "usage: checks NAME\n");
    return 2;
}
