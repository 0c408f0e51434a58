/* SPDX-License-Identifier: Apache-2.0 */
/*
 * v3m-channel: serves a channel to machines of several processes.
 *
 *   v3m-channel --dir DIR --peers N --area BYTES [--common BYTES] [--linger MS]
 *
 * Listens on DIR/socket, with DIR/lock locked. Ends when nobody was connected for so long (2 s
 * unless told otherwise), and at once with status 0 where another one serves that directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm.h"

#define LINGER_MS 2000
#define SOCKET "socket"

struct options {
    const char *directory;
    struct vmmhpc_channel_config config;
    int linger_ms;
};

static bool number(const char *text, uint64_t most, uint64_t *value)
{
    char *end = NULL;
    errno = 0;
    unsigned long long got = strtoull(text, &end, 10);
    *value = got;
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && got <= most;
}

static bool parse(int argc, char **argv, struct options *options)
{
    *options =
        (struct options){.config = {.size = sizeof(options->config)}, .linger_ms = LINGER_MS};
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = 0;
        if (strcmp(argv[i], "--dir") == 0) {
            options->directory = argv[i + 1];
            continue;
        }
        if (!number(argv[i + 1], INT32_MAX, &value)) {
            return false;
        }
        if (strcmp(argv[i], "--peers") == 0) {
            options->config.peers = (uint32_t)value;
        } else if (strcmp(argv[i], "--area") == 0) {
            options->config.area_bytes = value;
        } else if (strcmp(argv[i], "--common") == 0) {
            options->config.common_bytes = value;
        } else if (strcmp(argv[i], "--linger") == 0) {
            options->linger_ms = (int)value;
        } else {
            return false;
        }
    }
    return argc % 2 == 1 && options->directory != NULL;
}

/* The listening socket, or -1; *taken where somebody else has the directory. */
static int listen_there(const char *directory, bool *taken)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    *taken = false;
    if (chdir(directory) != 0) {
        return -1;
    }
    int lock = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* held until the end */
    if (lock < 0) {
        return -1;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        *taken = errno == EWOULDBLOCK;
        return -1;
    }
    (void)unlink(SOCKET);
    (void)umask(0077);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 64) != 0) {
        return -1;
    }
    return listener;
}

int main(int argc, char **argv)
{
    struct options options;
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_shm_server *server = NULL;
    bool taken = false;
    if (!parse(argc, argv, &options)) {
        (void)fprintf(stderr, "usage: v3m-channel --dir DIR --peers N --area BYTES "
                              "[--common BYTES] [--linger MS]\n");
        return 2;
    }
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (vh_shm_server_new(&options.config, &server, &err) != VMMHPC_OK) {
        (void)fprintf(stderr, "v3m-channel: %s\n", err.text);
        return 1;
    }
    int listener = listen_there(options.directory, &taken);
    if (listener < 0) {
        int failed = errno;
        vh_shm_server_free(server);
        if (!taken) {
            (void)fprintf(stderr, "v3m-channel: cannot listen in %s: %s\n", options.directory,
                          vh_errno_text(failed));
        }
        return taken ? 0 : 1;
    }
    vh_shm_server_run(server, listener, -1, -1, options.linger_ms);
    /* Who connected meanwhile is cut off, and tries again: another one may serve by then. */
    (void)unlink(SOCKET);
    (void)close(listener);
    vh_shm_server_free(server);
    return 0;
}
