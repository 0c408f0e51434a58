// SPDX-License-Identifier: Apache-2.0
/* Debian's libgomp.a was built for glibc. These are the two names that it wants and musl does not
 * have. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

long __sysconf(int name);
int pthread_attr_setaffinity_np(pthread_attr_t *attributes, size_t bytes, const cpu_set_t *set);

/* The numbers of sysconf's names are glibc's in musl, too. */
long __sysconf(int name)
{
    return sysconf(name);
}

/* Only with GOMP_CPU_AFFINITY or OMP_PROC_BIND. */
int pthread_attr_setaffinity_np(pthread_attr_t *attributes, size_t bytes, const cpu_set_t *set)
{
    (void)attributes;
    (void)bytes;
    (void)set;
    return ENOTSUP;
}
