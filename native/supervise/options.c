/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/** The program gets its descriptors below this. */
#define MAX_FD 1000

enum {
    DIRECTORY = 1,
    CHANNEL,
    SOCKET,
    NETWORK,
    FD,
    KEEP,
    INPUT,
    HOLD,
    HELLO,
    LOG,
    PASS,
    AFTER,
};

static const struct option LONG[] = {
    {"dir", required_argument, NULL, DIRECTORY},
    {"channel", required_argument, NULL, CHANNEL},
    {"socket", required_argument, NULL, SOCKET},
    {"fd", required_argument, NULL, FD},
    {"dhcp", required_argument, NULL, NETWORK},
    {"keep", required_argument, NULL, KEEP},
    {"input", no_argument, NULL, INPUT},
    {"hold", no_argument, NULL, HOLD},
    {"hello", required_argument, NULL, HELLO},
    {"log", required_argument, NULL, LOG},
    {"pass", required_argument, NULL, PASS},
    {"after", required_argument, NULL, AFTER},
    {0},
};

static bool number(const char *text, unsigned long long max, unsigned long long *value)
{
    char *end = NULL;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *text != '-' && *value <= max;
}

/* Of a channel, or of a socket: of what was named last. */
struct latest {
    struct channel_options *channel;
    int *fd;
};

static const char *channel_option(struct latest *latest, int option, char *value)
{
    unsigned long long parsed = 0;
    if (latest->channel == NULL) {
        return "an option of a channel comes behind --channel";
    }
    switch (option) {
    case KEEP:
        if (!number(value, RING_MAX, &parsed) || parsed < RING_MIN) {
            return "--keep: not a number from 4096 to 2^30";
        }
        latest->channel->keep = parsed;
        return NULL;
    case INPUT:
        latest->channel->input = true;
        return NULL;
    case HOLD:
        latest->channel->hold = true;
        return NULL;
    case HELLO:
        latest->channel->hello = value;
        return NULL;
    default:
        latest->channel->log = value;
        return NULL;
    }
}

static const char *add_channel(struct options *options, struct latest *latest, char *name)
{
    if (options->channel_count == MAX_CHANNELS || strlen(name) > 32) {
        return "--channel: too many, or too long a name";
    }
    struct channel_options *channel = &options->channels[options->channel_count++];
    *channel = (struct channel_options){.name = name, .number = -1, .keep = RING_MIN};
    *latest = (struct latest){.channel = channel, .fd = &channel->number};
    return NULL;
}

static const char *add_socket(struct options *options, struct latest *latest, char *path)
{
    if (options->socket_count == MAX_SOCKETS) {
        return "--socket: too many";
    }
    struct socket_option *socket = &options->sockets[options->socket_count++];
    *socket = (struct socket_option){.path = path, .number = -1};
    *latest = (struct latest){.fd = &socket->number};
    return NULL;
}

/* DEVICE,LEASE: see dhcp_parse(). */
static const char *add_network(struct options *options, char *text)
{
    char *lease = strchr(text, ',');
    if (options->network_count == MAX_NETWORKS || lease == NULL) {
        return "--dhcp: too many, or no addresses";
    }
    struct network_option *network = &options->networks[options->network_count++];
    *lease = '\0';
    network->device = text;
    return dhcp_parse(&network->lease, lease + 1) == 0 ? NULL : "--dhcp: not addresses";
}

/* The arguments of --after and those of the program share argv, which is cut in two. */
static const char *split(struct options *options, int argc, char **argv, int first,
                         unsigned long long after)
{
    if ((unsigned long long)(argc - first) <= after) {
        return "no program";
    }
    options->program = argv + first + after;
    if (after > 0) {
        options->after = calloc((size_t)after + 1, sizeof(char *));
        if (options->after == NULL) {
            return "no memory";
        }
        memcpy(options->after, argv + first, (size_t)after * sizeof(char *));
    }
    return NULL;
}

static const char *check(const struct options *options)
{
    for (size_t i = 0; i < options->channel_count; i++) {
        if (options->channels[i].number < 2) {
            return "a channel has no --fd of 2 or more";
        }
    }
    for (size_t i = 0; i < options->socket_count; i++) {
        if (options->sockets[i].number < 2) {
            return "a socket has no --fd of 2 or more";
        }
    }
    return options->directory == NULL ? "no --dir" : NULL;
}

const char *parse_options(struct options *options, int argc, char **argv)
{
    struct latest latest = {0};
    unsigned long long value = 0;
    unsigned long long after = 0;
    const char *wrong = NULL;
    int option = 0;
    *options = (struct options){0};
    opterr = 0;
    while (wrong == NULL && (option = getopt_long(argc, argv, "+", LONG, NULL)) != -1) {
        switch (option) {
        case DIRECTORY:
            options->directory = optarg;
            break;
        case CHANNEL:
            wrong = add_channel(options, &latest, optarg);
            break;
        case SOCKET:
            wrong = add_socket(options, &latest, optarg);
            break;
        case NETWORK:
            wrong = add_network(options, optarg);
            break;
        case FD:
            if (latest.fd == NULL || !number(optarg, MAX_FD, &value)) {
                return "--fd: not a number to 1000, or not behind --channel or --socket";
            }
            *latest.fd = (int)value;
            break;
        case PASS:
            if (!number(optarg, MAX_FD, &value)) {
                return "--pass: not a number to 1000";
            }
            options->pass = (int)value;
            break;
        case AFTER:
            if (!number(optarg, (unsigned long long)argc, &after)) {
                return "--after: not a number of arguments";
            }
            break;
        case '?':
            return "unknown option, or one without its value";
        default:
            wrong = channel_option(&latest, option, optarg);
        }
    }
    wrong = wrong != NULL ? wrong : split(options, argc, argv, optind, after);
    return wrong != NULL ? wrong : check(options);
}
