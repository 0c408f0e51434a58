/* SPDX-License-Identifier: Apache-2.0 */
/* Last words: whatever ends the monitor, but SIGKILL, says so in the status page, which is a file.
 */
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

static struct vh_monitor *watched;
static __thread const char *thread_name = "control";

void vh_words_thread(const char *name)
{
    thread_name = name;
}

static uint64_t now_ns(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static const char *name_of(int number)
{
    switch (number) {
    case SIGSEGV:
        return "a bad memory access (SIGSEGV)";
    case SIGBUS:
        return "memory or a file that is not there any more (SIGBUS)";
    case SIGILL:
        return "an illegal instruction (SIGILL)";
    case SIGFPE:
        return "an arithmetic fault (SIGFPE)";
    case SIGSYS:
        return "a system call that its jail forbids (SIGSYS)";
    default:
        return "abort (SIGABRT)";
    }
}

static void put(char *text, size_t bytes, const char *more)
{
    size_t at = strnlen(text, bytes - 1);
    size_t length = strnlen(more, bytes - 1 - at);
    memcpy(text + at, more, length);
    text[at + length] = '\0';
}

/* Only what may be done in a handler; other threads may still be running. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    struct vmmhpc_status_page *page = watched->page;
    (void)context;
    if (page != NULL && page->phase < VMMHPC_PHASE_ENDED) {
        page->signal = number;
        page->system_call = number == SIGSYS ? (uint32_t)info->si_syscall : 0;
        page->thread[0] = '\0';
        put(page->thread, sizeof(page->thread), thread_name);
        page->words[0] = '\0';
        put(page->words, sizeof(page->words), name_of(number));
        put(page->words, sizeof(page->words), " in its thread ");
        put(page->words, sizeof(page->words), thread_name);
        page->ended_ns = now_ns();
        __atomic_store_n(&page->phase, VMMHPC_PHASE_FAILED, __ATOMIC_RELEASE);
    }
    _exit(128 + number);
}

static void on_term(int number)
{
    (void)number;
    watched->quit = true;
    (void)eventfd_write(watched->wake_fd, 1);
}

void vh_words_watch(struct vh_monitor *monitor)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    watched = monitor;
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < VH_COUNT(faults); i++) {
        (void)sigaction(faults[i], &action, NULL);
    }
    struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    (void)sigaction(SIGTERM, &term, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

void vh_words_ended(struct vmmhpc_status_page *page)
{
    page->ended_ns = now_ns();
    __atomic_store_n(&page->phase, VMMHPC_PHASE_ENDED, __ATOMIC_RELEASE);
}
