// SPDX-License-Identifier: Apache-2.0
// For a Linux guest: uses what an adaptation module offers (examples/tally), from user space, while it comes and goes,
// until SIGTERM. Each answer must be right, or say that nobody is there or has just failed; else it ends with 1.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../native/include/vmmhpc_hypercall.h"

#define TALLY_PORT 0x510
#define TALLY_ADD VMMHPC_HYPERCALL_FIRST

static volatile sig_atomic_t over;
static uint64_t answers;
static uint64_t unknown;
static uint64_t failed;
static uint64_t device;

static void on_term(int signal)
{
    (void)signal;
    over = 1;
}

static int check(int64_t result, uint64_t expected)
{
    if (result == (int64_t)expected) {
        answers++;
    } else if (result == VMMHPC_HYPERCALL_E_UNKNOWN) {
        unknown++;
    } else if (result == VMMHPC_HYPERCALL_E_FAILED) {
        failed++;
    } else {
        printf("modules: %" PRIx64 " instead of %" PRIx64 "\n", (uint64_t)result, expected);
        return -1;
    }
    return 0;
}

static int call_all(volatile void *page, uint64_t i)
{
    outl(1, TALLY_PORT);
    device += inl(TALLY_PORT) != UINT32_MAX;
    if (check(vmmhpc_hypercall_port(TALLY_ADD, i, i << 33, 0), i + (i << 33)) != 0) {
        return -1;
    }
    return check(vmmhpc_hypercall_page(page, TALLY_ADD, i, 7, 0), i + 7);
}

int main(void)
{
    if (ioperm(TALLY_PORT, 8, 1) != 0 || ioperm(VMMHPC_HYPERCALL_PORT, 4, 1) != 0) {
        printf("modules: ioperm: %s\n", strerror(errno));
        return 1;
    }
    int fd = open("/dev/mem", O_RDWR | O_SYNC);
    void *page = fd < 0 ? MAP_FAILED
                        : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, VMMHPC_HYPERCALL_GPA);
    if (page == MAP_FAILED) {
        printf("modules: /dev/mem: %s\n", strerror(errno));
        return 1;
    }
    int64_t probe = vmmhpc_hypercall_port(VMMHPC_HYPERCALL_PROBE, 0, 0, 0);
    if (probe != (int64_t)(VMMHPC_HYPERCALL_HERE | 1) ||
        vmmhpc_hypercall_page(page, VMMHPC_HYPERCALL_PROBE, 0, 0, 0) != probe) {
        printf("modules: no gate: %" PRIx64 "\n", (uint64_t)probe);
        return 1;
    }
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    for (uint64_t i = 1; !over; i++) {
        if (call_all(page, i) != 0) {
            return 1;
        }
    }
    printf("modules: answers %" PRIu64 " unknown %" PRIu64 " failed %" PRIu64 " device %" PRIu64 "\n", answers, unknown,
           failed, device);
    return 0;
}
