// SPDX-License-Identifier: Apache-2.0
/* Begin and end of the world: an endpoint, and a link to each other rank. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define START_SECONDS 120u /* for the others to come; $V3M_MPI_START_SECONDS is another number */

struct mpi v3m_mpi;
struct v3m_mpi_comm v3m_mpi_world = {.context = 0, .size = 1};
struct v3m_mpi_comm v3m_mpi_self = {.context = 2, .size = 1};

static uint64_t start_time(void)
{
    const char *text = getenv("V3M_MPI_START_SECONDS");
    uint64_t seconds = text == NULL ? 0 : strtoull(text, NULL, 10);
    return (seconds == 0 ? START_SECONDS : seconds) * 1000000u;
}

static int meet_all(struct bypass *bypass)
{
    for (uint32_t peer = 0; peer < bypass_peers(bypass); peer++) {
        int32_t code = bypass_connect(bypass, peer, start_time());
        if (code != BYPASS_OK) {
            fprintf(stderr, "rank %u: MPI_Init: rank %u: %s\n", bypass_id(bypass), peer,
                    bypass_text(code));
            return mpi_code(code);
        }
    }
    return MPI_SUCCESS;
}

int MPI_Init(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct bypass_config config = {.size = sizeof(config), .strict = 1, .heap_bytes = 4096};
    if (v3m_mpi.initialized) {
        return mpi_fail(NULL, "MPI_Init", MPI_ERR_OTHER);
    }
    v3m_mpi.next_context = 4;
    int32_t opened = bypass_open(&config, &v3m_mpi.bypass);
    if (opened != BYPASS_OK) {
        fprintf(stderr, "MPI_Init: no window: %s\n", bypass_text(opened));
        return mpi_fail(NULL, "MPI_Init", mpi_code(opened));
    }
    v3m_mpi_world.size = (int)bypass_peers(v3m_mpi.bypass);
    v3m_mpi_world.rank = (int)bypass_id(v3m_mpi.bypass);
    v3m_mpi_self.peers = &v3m_mpi_world.rank;
    int met = meet_all(v3m_mpi.bypass);
    if (met != MPI_SUCCESS) {
        return mpi_fail(NULL, "MPI_Init", met);
    }
    v3m_mpi.initialized = 1;
    return MPI_SUCCESS;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    *provided = required < MPI_THREAD_SERIALIZED ? required : MPI_THREAD_SERIALIZED;
    return MPI_Init(argc, argv);
}

int MPI_Initialized(int *flag)
{
    *flag = v3m_mpi.initialized;
    return MPI_SUCCESS;
}

int MPI_Finalized(int *flag)
{
    *flag = v3m_mpi.finalized;
    return MPI_SUCCESS;
}

static void say_counts(void)
{
    struct bypass_stats stats;
    bypass_stats(v3m_mpi.bypass, &stats);
    fprintf(stderr,
            "rank %d: sent %llu messages, %llu bytes; received %llu, %llu bytes; unexpected %llu, "
            "rendezvous %llu, doorbells %llu, sleeps %llu, stalls %llu\n",
            v3m_mpi_world.rank, (unsigned long long)stats.sent_messages,
            (unsigned long long)stats.sent_bytes, (unsigned long long)stats.received_messages,
            (unsigned long long)stats.received_bytes, (unsigned long long)stats.unexpected_messages,
            (unsigned long long)stats.rendezvous, (unsigned long long)stats.doorbells,
            (unsigned long long)stats.sleeps, (unsigned long long)stats.stalls);
}

int MPI_Finalize(void)
{
    if (!v3m_mpi.initialized || v3m_mpi.finalized) {
        return mpi_fail(NULL, "MPI_Finalize", MPI_ERR_OTHER);
    }
    int code = MPI_Barrier(MPI_COMM_WORLD);
    v3m_mpi.finalized = 1;
    if (v3m_mpi.bypass != NULL) {
        if (getenv("V3M_MPI_STATS") != NULL) {
            say_counts();
        }
        bypass_close(v3m_mpi.bypass);
        v3m_mpi.bypass = NULL;
    }
    return code;
}

/* The others find this rank gone, and end, too, unless they handle errors. It does not leave by
 * itself before: so its status is there first. */
int MPI_Abort(MPI_Comm comm, int code)
{
    (void)comm;
    exit(code);
}

double MPI_Wtime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double MPI_Wtick(void)
{
    struct timespec step;
    clock_getres(CLOCK_MONOTONIC, &step);
    return (double)step.tv_sec + (double)step.tv_nsec / 1e9;
}

int MPI_Get_processor_name(char *name, int *length)
{
    if (gethostname(name, MPI_MAX_PROCESSOR_NAME) != 0) {
        snprintf(name, MPI_MAX_PROCESSOR_NAME, "rank%d", v3m_mpi_world.rank);
    }
    name[MPI_MAX_PROCESSOR_NAME - 1] = '\0';
    *length = (int)strlen(name);
    return MPI_SUCCESS;
}

int MPI_Get_version(int *version, int *subversion)
{
    *version = MPI_VERSION;
    *subversion = MPI_SUBVERSION;
    return MPI_SUCCESS;
}
