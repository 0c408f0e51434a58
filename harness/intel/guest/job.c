#include "job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"

#define MAGIC "V3MJOB1"

/* The job is a sequence of NUL-terminated strings. */
static char *cursor, *end;

static char *next(void)
{
    char *text = cursor;
    char *nul = cursor < end ? memchr(cursor, 0, (size_t)(end - cursor)) : NULL;
    if (!nul)
        fail("the job is cut off");
    cursor = nul + 1;
    return text;
}

/* A count, and so many strings. */
static char **next_list(void)
{
    long count = atol(next());
    if (count < 0 || count > SCRATCH_JOB_LIMIT)
        fail("the job is damaged");
    char **list = calloc((size_t)count + 1, sizeof *list);
    if (!list)
        fail("no memory for the job");
    for (long i = 0; i < count; i++)
        list[i] = next();
    return list;
}

struct job read_job(int scratch)
{
    char *buffer = malloc(SCRATCH_JOB_LIMIT);
    if (!buffer)
        fail("no memory for the job");
    ssize_t length = pread(scratch, buffer, SCRATCH_JOB_LIMIT, SCRATCH_JOB);
    if (length < 0)
        fail_errno("cannot read the job");
    cursor = buffer;
    end = buffer + length;
    if (strcmp(next(), MAGIC) != 0)
        fail("there is no job on the scratch disk");

    struct job job = {0};
    job.now = next();
    job.seed = next();
    job.cwd = next();
    job.out = next();
    job.modules = next();
    job.terminal = atoi(next());
    job.rows = atoi(next());
    job.columns = atoi(next());
    job.argv = next_list();
    job.envp = next_list();
    if (!job.argv[0])
        fail("the job names no command");
    return job;
}
