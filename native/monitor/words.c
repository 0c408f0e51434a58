/* SPDX-License-Identifier: Apache-2.0 */
/* Last words: whatever ends the monitor, but SIGKILL, says so in the status page, which is a file.
 */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor/monitor.h"

static struct vh_monitor *watched;
static __thread const char *thread_name = "control";

void vh_words_thread(void *opaque, enum vh_thread_kind kind)
{
    static const char *const names[] = {
        [VH_THREAD_VCPU] = "vcpu",
        [VH_THREAD_IO] = "io",
        [VH_THREAD_DISK] = "disk",
    };
    (void)opaque;
    thread_name = names[kind];
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
static void last_words(int number, uint32_t call, const char *what, const char *more)
{
    struct vmmhpc_status_page *page = watched->page;
    if (page == NULL || page->phase >= VMMHPC_PHASE_ENDED) {
        return;
    }
    page->signal = number;
    page->system_call = call;
    page->thread[0] = '\0';
    put(page->thread, sizeof(page->thread), thread_name);
    page->words[0] = '\0';
    put(page->words, sizeof(page->words), what);
    put(page->words, sizeof(page->words), more);
    put(page->words, sizeof(page->words), " in its thread ");
    put(page->words, sizeof(page->words), thread_name);
    page->ended_ns = now_ns();
    __atomic_store_n(&page->phase, VMMHPC_PHASE_FAILED, __ATOMIC_RELEASE);
}

static void on_fault(int number)
{
    last_words(number, 0, name_of(number), "");
    _exit(128 + number);
}

/* Of a call that has no name here; stdio may not be used. */
static const char *digits_of(uint32_t number, char *text, size_t bytes)
{
    char *at = text + bytes - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0 && at > text);
    return at;
}

static void on_forbidden(enum vh_seccomp_kind kind, uint32_t number)
{
    char digits[16];
    const char *name = vh_seccomp_name(number);
    (void)kind;
    last_words(SIGSYS, number, "a system call that its jail forbids: ",
               name[0] != '\0' ? name : digits_of(number, digits, sizeof(digits)));
}

void vh_words_watch(struct vh_monitor *monitor)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_RESETHAND};
    watched = monitor;
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < VH_COUNT(faults); i++) {
        (void)sigaction(faults[i], &action, NULL);
    }
    (void)vh_seccomp_on_trap(on_forbidden, NULL);
}

void vh_words_ended(struct vmmhpc_status_page *page)
{
    page->ended_ns = now_ns();
    __atomic_store_n(&page->phase, VMMHPC_PHASE_ENDED, __ATOMIC_RELEASE);
}
