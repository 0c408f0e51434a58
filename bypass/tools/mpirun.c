// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a program as several processes of this host that share a window:
 *
 *   v3m-mpirun -n 4 [--area BYTES] [--keep-going] [--] program argument…
 *
 * Each finds the window by $BYPASS_WINDOW and who it is by $BYPASS_PEER. When one fails, the others
 * are ended, or left alone. The status is that of the first that failed; 128 + N if it was killed
 * by signal N.
 */
#include "bypass.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: v3m-mpirun -n N [--area BYTES] [--keep-going] [--] PROGRAM [ARGUMENT…]\n"
    "Runs N processes (1 … 64) that share memory, BYTES of each (default 4194304).\n"
    "When one fails the others are ended, but for --keep-going.\n"
    "example: v3m-mpirun -n 4 ./heat 512\n";

struct options {
    uint32_t processes;
    uint64_t area_bytes;
    int32_t keeps_going;
    char **program;
};

static int32_t number(const char *text, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    *out = text == NULL ? 0 : strtoull(text, &end, 10);
    return end != NULL && end != text && *end == '\0' && errno == 0;
}

static int32_t parse(char **argv, struct options *options)
{
    uint64_t processes = 0;
    char **at = argv + 1;
    options->area_bytes = 4u << 20;
    while (*at != NULL && (*at)[0] == '-') {
        if (strcmp(*at, "--") == 0) {
            at++;
            break;
        }
        if (strcmp(*at, "--keep-going") == 0) {
            options->keeps_going = 1;
            at++;
            continue;
        }
        uint64_t *value = strcmp(*at, "-n") == 0 || strcmp(*at, "-np") == 0 ? &processes
                          : strcmp(*at, "--area") == 0                      ? &options->area_bytes
                                                                            : NULL;
        if (value == NULL || !number(at[1], value)) {
            return 0;
        }
        at += 2;
    }
    options->processes = (uint32_t)processes;
    options->program = at;
    return processes >= 1 && processes <= BYPASS_PEERS_MAX && *at != NULL;
}

/* Become the program, as this peer. */
static void become(const struct options *options, const char *path, uint32_t peer)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", peer);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("BYPASS_PEER", text, 1);
    if (options->processes > 1) {
        setenv("BYPASS_WINDOW", path, 1);
    } else {
        setenv("BYPASS_WINDOW", "alone", 1);
    }
    execvp(options->program[0], options->program);
    fprintf(stderr, "v3m-mpirun: %s: %s\n", options->program[0], strerror(errno));
    _exit(127);
}

static int32_t status_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Wait for all; when one fails, end the others. */
static int32_t wait_all(pid_t *children, const struct options *options)
{
    int32_t result = 0;
    int status = 0;
    pid_t ended = 0;
    while ((ended = wait(&status)) > 0 || errno == EINTR) {
        for (uint32_t i = 0; ended > 0 && i < options->processes; i++) {
            children[i] = children[i] == ended ? 0 : children[i];
        }
        if (ended > 0 && result == 0 && status_of(status) != 0) {
            result = status_of(status);
            for (uint32_t i = 0; i < options->processes && !options->keeps_going; i++) {
                if (children[i] != 0) {
                    kill(children[i], SIGTERM);
                }
            }
        }
    }
    return result;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    pid_t children[BYPASS_PEERS_MAX] = {0};
    char path[64];
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (!parse(argv, &options)) {
        fputs(USAGE, stderr);
        return 2;
    }
    /* Without a name, so that nothing of it is left however this ends. */
    int memory = memfd_create("bypass", 0);
    snprintf(path, sizeof(path), "file:/proc/self/fd/%d", memory);
    if (memory < 0 || (options.processes > 1 &&
                       bypass_file_create(path + 5, options.processes, options.area_bytes) < 0)) {
        fprintf(stderr, "v3m-mpirun: no window: %s\n",
                memory < 0 ? strerror(errno) : "see the size of areas");
        return 1;
    }
    for (uint32_t peer = 0; peer < options.processes; peer++) {
        children[peer] = fork();
        if (children[peer] == 0) {
            become(&options, path, peer);
        }
        if (children[peer] < 0) {
            fprintf(stderr, "v3m-mpirun: fork: %s\n", strerror(errno));
            return 1;
        }
    }
    return wait_all(children, &options);
}
