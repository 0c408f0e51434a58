/* What one run is to do. The host writes it on the scratch disk (harness/intel/scratch.ts); the
 * agent reads it. */
#ifndef V3M_JOB_H
#define V3M_JOB_H

struct job {
    const char *now;     /* seconds since 1970, the host's clock */
    const char *seed;    /* random text from the host */
    const char *cwd;     /* where the command starts */
    const char *out;     /* directory to carry back; empty: none */
    const char *modules; /* directory that is to be /lib/modules; empty: none */
    int terminal;        /* give the command a terminal instead of three pipes */
    int rows, columns;   /* of the terminal */
    char **argv;
    char **envp;
};

/* Reads the job from the scratch disk; ends the machine by fail() if it makes no sense. */
struct job read_job(int scratch);

#endif
