// SPDX-License-Identifier: Apache-2.0
/*
 * POSIX threads: mutexes, condition variables, barriers, thread-local storage, and many short
 * threads.
 *
 *     threads [SHORT_THREADS]      all of it (default 1000 short threads)
 *     threads cancel               cancellation and clean-up handlers
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { TEAM = 8, ROUNDS = 200 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t items;
static atomic_long destroyed, initialised, served;
static long counter, turn;
static _Thread_local long own = 5;
static _Thread_local char scratch[3000];

static void initialise(void)
{
    initialised++;
}
static void destroy(void *value)
{
    destroyed += (long)(intptr_t)value;
}

/** Everybody counts under the mutex, in turn round the ring, and meets the others at the barrier.
 */
static void *member(void *argument)
{
    long self = (long)(intptr_t)argument, heads = 0;
    CHECK(own == 5 && scratch[0] == 0 && scratch[sizeof scratch - 1] == 0);
    memset(scratch, (int)self, sizeof scratch);
    pthread_once(&once, initialise);
    CHECK(pthread_setspecific(key, (void *)(intptr_t)(self + 1)) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % TEAM != self) {
            pthread_cond_wait(&changed, &lock);
        }
        turn++;
        counter += own;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
        own = self + i;
    }
    for (int i = 0; i < 20; i++) {
        heads += pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
        CHECK(pthread_rwlock_rdlock(&shared) == 0 && pthread_rwlock_unlock(&shared) == 0);
        if (i % 5 == 0) {
            CHECK(pthread_rwlock_wrlock(&shared) == 0);
            served++;
            CHECK(pthread_rwlock_unlock(&shared) == 0);
        }
        sched_yield();
    }
    for (size_t i = 0; i < sizeof scratch; i++) {
        CHECK(scratch[i] == (char)self);
    }
    CHECK(own == self + ROUNDS - 1);
    return (void *)(intptr_t)heads;
}

static void team(void)
{
    pthread_t thread[TEAM];
    void *value;
    long heads = 0;
    CHECK(pthread_barrier_init(&barrier, NULL, TEAM) == 0 &&
          pthread_key_create(&key, destroy) == 0);
    for (long i = 0; i < TEAM; i++) {
        CHECK(pthread_create(&thread[i], NULL, member, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < TEAM; i++) {
        CHECK(pthread_join(thread[i], &value) == 0);
        heads += (long)(intptr_t)value;
    }
    printf("team of %d: turns %ld, counter %ld, barriers %ld, once %ld, keys %ld, written %ld\n",
           TEAM, turn, counter, heads, (long)initialised, (long)destroyed, (long)served);
}

static void *brief(void *argument)
{
    char page[2048];
    memset(page, 1, sizeof page);
    own += (long)(intptr_t)argument + page[5] - 1;
    pthread_mutex_lock(&lock);
    counter += own;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void many(long count)
{
    enum { AT_ONCE = 25 };
    pthread_t thread[AT_ONCE];
    counter = 0;
    for (long i = 0; i < count; i += AT_ONCE) {
        for (int j = 0; j < AT_ONCE; j++) {
            CHECK(pthread_create(&thread[j], NULL, brief, (void *)(intptr_t)(i + j)) == 0);
        }
        for (int j = 0; j < AT_ONCE; j++) {
            CHECK(pthread_join(thread[j], NULL) == 0);
        }
    }
    printf("%ld short threads: counter %ld\n", count, counter);
}

static void *detached(void *argument)
{
    (void)argument;
    sem_post(&items);
    return NULL;
}

static void odds_and_ends(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_mutexattr_t recursive;
    pthread_mutex_t mutex;
    struct timespec until;
    CHECK(sem_init(&items, 0, 0) == 0 && sem_trywait(&items) == -1 && errno == EAGAIN);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 256 * 1024) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(pthread_create(&thread, &attributes, detached, NULL) == 0);
    }
    for (int i = 0; i < 20; i++) {
        CHECK(sem_wait(&items) == 0);
    }
    CHECK(pthread_mutexattr_init(&recursive) == 0);
    CHECK(pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE) == 0);
    CHECK(pthread_mutex_init(&mutex, &recursive) == 0);
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_lock(&mutex) == 0);
    CHECK(pthread_mutex_unlock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
    CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
    until.tv_nsec += 2000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    int late = pthread_cond_timedwait(&changed, &lock, &until);
    pthread_mutex_unlock(&lock);
    CHECK(late == ETIMEDOUT && sem_timedwait(&items, &until) == -1 && errno == ETIMEDOUT);
    printf("detached, recursive, timed: as they should be\n");
}

static void cleanup(void *argument)
{
    *(int *)argument += 1;
}

static void *endless(void *argument)
{
    pthread_cleanup_push(cleanup, argument);
    pthread_mutex_lock(&lock);
    turn = 1;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    for (;;) {
        struct timespec nap = {1000, 0};
        nanosleep(&nap, NULL);
    }
    pthread_cleanup_pop(1);
    return NULL;
}

static int cancelling(void)
{
    int cleaned = 0;
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        void *value;
        turn = 0;
        CHECK(pthread_create(&thread, NULL, endless, &cleaned) == 0);
        pthread_mutex_lock(&lock);
        while (turn == 0) {
            pthread_cond_wait(&changed, &lock);
        }
        pthread_mutex_unlock(&lock);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &value) == 0 &&
              value == PTHREAD_CANCELED);
    }
    printf("20 threads cancelled, %d cleaned up\n", cleaned);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "cancel") == 0) {
        return cancelling();
    }
    team();
    many(argc > 1 ? atol(argv[1]) : 1000);
    odds_and_ends();
    return 0;
}
