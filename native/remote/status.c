/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

void vh_status_text(const struct vmmhpc_status_page *page, bool alive, char *text, size_t bytes)
{
    text[0] = '\0';
    if (alive) {
        return;
    }
    uint32_t phase = page->phase;
    if (phase == VMMHPC_PHASE_ALIVE && page->state >= VMMHPC_STATE_STOPPED) {
        phase = VMMHPC_PHASE_ENDED; /* but for giving back its descriptors */
    }
    switch (phase) {
    case VMMHPC_PHASE_ENDED:
        (void)snprintf(text, bytes, "%.*s", (int)sizeof(page->stop.text) - 1, page->stop.text);
        break;
    case VMMHPC_PHASE_FAILED:
        (void)snprintf(text, bytes, "the monitor ended by a fault: %.*s",
                       (int)sizeof(page->words) - 1, page->words);
        break;
    case VMMHPC_PHASE_STARTING:
        (void)snprintf(text, bytes, "the monitor ended before the machine was started");
        break;
    default:
        /* All other ends leave their words. */
        (void)snprintf(text, bytes,
                       "the monitor was killed (SIGKILL): by somebody, or by the host's kernel for "
                       "want of memory");
        break;
    }
}

uint64_t vh_process_start(uint32_t pid)
{
    char path[32];
    char line[512];
    (void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t got = read(fd, line, sizeof(line) - 1);
    (void)close(fd);
    line[got > 0 ? got : 0] = '\0';
    /* The name, field 2, may hold anything; behind its last parenthesis the fields are regular. */
    const char *at = strrchr(line, ')');
    if (at == NULL || strlen(at) < 3 || at[2] == 'Z' || at[2] == 'X') {
        return 0;
    }
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

static bool is_alive(const struct vmmhpc_status_page *page)
{
    return page->pid != 0 && page->pid_start != 0 && vh_process_start(page->pid) == page->pid_start;
}

int32_t vmmhpc_monitor_status(const char *directory, struct vmmhpc_monitor_status *status,
                              struct vmmhpc_error *err)
{
    if (directory == NULL || status == NULL || status->size != sizeof(*status)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no directory, or no room for the status");
    }
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = at < 0 ? -1 : openat(at, "status", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int failed = errno;
    if (at >= 0) {
        (void)close(at);
    }
    if (fd < 0) {
        return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, failed, 0,
                       "there is no monitor's status in %.150s", directory);
    }
    memset(status, 0, sizeof(*status));
    status->size = sizeof(*status);
    ssize_t got = read(fd, &status->page, sizeof(status->page));
    (void)close(fd);
    struct vmmhpc_status_page *page = &status->page;
    if (got != (ssize_t)sizeof(*page) || page->magic != VMMHPC_STATUS_MAGIC) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0, "%.150s/status is damaged", directory);
    }
    if (page->version != 1) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, page->version,
                       "%.150s/status has version %u, this knows 1", directory, page->version);
    }
    page->name[sizeof(page->name) - 1] = '\0';
    page->words[sizeof(page->words) - 1] = '\0';
    page->thread[sizeof(page->thread) - 1] = '\0';
    page->stop.text[sizeof(page->stop.text) - 1] = '\0';
    status->alive = is_alive(page) ? 1 : 0;
    status->pid = page->pid;
    bool ended = page->phase != VMMHPC_PHASE_FAILED && page->state >= VMMHPC_STATE_STOPPED;
    bool known = ended || status->alive != 0;
    status->state =
        known && page->state <= VMMHPC_STATE_CRASHED ? page->state : VMMHPC_STATE_CRASHED;
    vh_status_text(page, status->alive != 0 && !ended, status->text, sizeof(status->text));
    return VMMHPC_OK;
}
