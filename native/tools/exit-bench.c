/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit-bench: what a port access costs that libvmmhpc dispatches to a device in C, its statistics
 * included; the calling thread runs the vCPU.
 *
 *   exit-bench WARM COUNT      prints nanoseconds an exit
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "exit-guest.h"
#include "vmmhpc.h"

struct device {
    uint64_t latch;
    int64_t start;
    int64_t stop;
};

static int64_t now_ns(void)
{
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static uint64_t data_port(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                          uint32_t direction, uint64_t value)
{
    struct device *device = opaque;
    (void)vcpu;
    (void)offset;
    (void)bytes;
    if (direction == VMMHPC_ACCESS_WRITE) {
        device->latch = value;
    }
    return device->latch;
}

static uint64_t mark_port(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                          uint32_t direction, uint64_t value)
{
    struct device *device = opaque;
    (void)vcpu;
    (void)offset;
    (void)bytes;
    (void)direction;
    device->start = device->stop;
    device->stop = now_ns();
    return value;
}

static int32_t run(struct device *device, const uint8_t *image, struct vmmhpc_error *err)
{
    struct vmmhpc_memory memory = {.size = sizeof(memory), .bytes = 2u << 20, .numa_node = -1};
    struct vmmhpc_config config = {
        .size = sizeof(config),
        .cpus = 1,
        .flags = VMMHPC_FLAG_EXTERNAL_VCPUS | VMMHPC_FLAG_NO_UART | VMMHPC_FLAG_BARE,
        .memory_count = 1,
        .memory = &memory,
    };
    struct vmmhpc_boot boot = {
        .size = sizeof(boot),
        .kind = VMMHPC_IMAGE_FLAT16,
        .kernel = image,
        .kernel_bytes = EXIT_GUEST_BYTES,
        .load_address = EXIT_GUEST_GPA,
    };
    struct vmmhpc *vm = NULL;
    int32_t status = vmmhpc_create(&config, &vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    status = vmmhpc_load(vm, &boot, err);
    if (status == VMMHPC_OK) {
        status = vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, EXIT_DATA_PORT, 1, data_port, device, NULL,
                                   err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, EXIT_MARK_PORT, 1, mark_port, device, NULL,
                                   err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_start(vm, err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_vcpu_run(vm, 0, err);
    }
    vmmhpc_destroy(vm);
    return status;
}

int main(int argc, char **argv)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct device device = {0};
    uint8_t image[EXIT_GUEST_BYTES];
    if (argc != 3) {
        (void)fputs("usage: exit-bench WARM COUNT\n", stderr);
        return 1;
    }
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 0);
    exit_guest(image, (uint32_t)strtoul(argv[1], NULL, 0), count);
    if (run(&device, image, &err) != VMMHPC_OK || device.start == 0) {
        (void)fprintf(stderr, "exit-bench: %s (%s)\n", err.text, vmmhpc_status_name(err.code));
        return 1;
    }
    (void)printf("%.1f\n", (double)(device.stop - device.start) / (2.0 * count));
    return 0;
}
