// SPDX-License-Identifier: Apache-2.0
// What the tests of the launcher need: arguments and environment as they arrived, signals as they arrive,
// ranks of which one fails, a crash with functions to name.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

extern char **environ;

__attribute__((noinline, noclone)) static int store_deeply(volatile int *where, int what) {
    (void)getppid(); /* makes it a function with a frame of its own */
    *where = what;
    return what + 1;
}

__attribute__((noinline, noclone)) static int call_store(volatile int *where, int what) {
    return store_deeply(where, what) + 1;
}

static int show(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        printf("argument %d <%s>\n", i, argv[i]);
    }
    for (char **variable = environ; *variable != NULL; variable++) {
        printf("variable <%s>\n", *variable);
    }
    printf("path <%s>\n", (const char *)getauxval(AT_EXECFN));
    char exe[512];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe);
    printf("exe <%.*s>\n", length < 0 ? 0 : (int)length, exe);
    return 0;
}

static volatile sig_atomic_t last;

static void note(int signal) {
    last = signal;
}

/* Says which signals arrive; SIGTERM ends it with status 7. */
static int listen(void) {
    const int all[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGTERM};
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        signal(all[i], note);
        sigaddset(&blocked, all[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    puts("listening");
    fflush(stdout);
    for (;;) {
        last = 0;
        sigsuspend(&none);
        if (last != 0) {
            printf("signal %d\n", (int)last);
            fflush(stdout);
        }
        if (last == SIGTERM) {
            return 7;
        }
    }
}

/* Ignores what can be ignored. */
_Noreturn static void ignore(void) {
    for (int number = 1; number < 32; number++) {
        signal(number, SIG_IGN);
    }
    puts("ignoring");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

/* Rank `which` fails; the others wait. */
static int fail(const char *which) {
    const char *rank = getenv("V3M_RANK");
    printf("rank %s of %s\n", rank, getenv("V3M_SIZE"));
    fflush(stdout);
    if (strcmp(rank, which) == 0) {
        return 40 + atoi(which);
    }
    for (;;) {
        pause();
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "show") == 0) {
        return show(argc, argv);
    } else if (strcmp(mode, "null") == 0) {
        return call_store(NULL, argc);
    } else if (strcmp(mode, "listen") == 0) {
        return listen();
    } else if (strcmp(mode, "ignore") == 0) {
        ignore();
    } else if (strcmp(mode, "sleep") == 0) {
        puts("sleeping");
        fflush(stdout);
        sleep(1000);
    } else if (strcmp(mode, "fail") == 0 && argc == 3) {
        return fail(argv[2]);
    } else if (strcmp(mode, "exit") == 0 && argc == 3) {
        return atoi(argv[2]);
    }
    return 64;
}
