/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to add a device, in C: a memory-mapped adder, and a guest of 30 bytes that uses it.
 * docs/how-to/add-a-device.md explains it step by step; adder.ts is the same in TypeScript.
 *
 * After `make build`: native/build/release/adder
 */
#include <inttypes.h>
#include <stdio.h>

#include "vmmhpc.h"

/* Where the guest finds it: behind RAM, below the devices that every machine has. */
#define ADDER_GPA 0xd8000000u
#define ADDER_BYTES 16u

enum { SUM = 0, COUNT = 8 }; /* registers, each of 8 bytes */

/* The device: what it remembers. One vCPU uses it; with more, this needs a lock. */
struct adder {
    uint64_t sum;
    uint64_t count;
};

/* Called for every access of the guest, in the thread of its vCPU, which waits meanwhile. */
static uint64_t adder_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                             uint32_t direction, uint64_t value)
{
    struct adder *adder = opaque;
    (void)vcpu;
    /* A guest may send anything: what is no register reads as all ones and is not written. */
    if (bytes != 8 || (offset != SUM && offset != COUNT)) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_READ) {
        return offset == SUM ? adder->sum : adder->count;
    }
    if (offset == SUM) {
        adder->sum += value;
        adder->count++;
    } else { /* writing the count clears both */
        adder->sum = 0;
        adder->count = 0;
    }
    return 0;
}

/* 64-bit code: adds 10, 9 ... 1, then powers off (docs/reference/vmm.md, "flat images"). */
static const uint8_t guest[] = {
    0xbf, 0x00, 0x00, 0x00, 0xd8, /*       mov edi, ADDER_GPA */
    0xb9, 0x0a, 0x00, 0x00, 0x00, /*       mov ecx, 10 */
    0x48, 0x89, 0x0f,             /* next: mov [rdi + SUM], rcx */
    0xff, 0xc9,                   /*       dec ecx */
    0x75, 0xf9,                   /*       jnz next */
    0xb0, 0x34,                   /*       mov al, 0x34 */
    0x66, 0xba, 0x00, 0x06,       /*       mov dx, 0x600 */
    0xee,                         /*       out dx, al: power off */
    0xf4,                         /*       hlt */
};

static int32_t run(struct vmmhpc *vm, struct adder *adder, struct vmmhpc_error *err)
{
    const struct vmmhpc_boot boot = {
        .size = sizeof(boot),
        .kind = VMMHPC_IMAGE_FLAT64,
        .kernel = guest,
        .kernel_bytes = sizeof(guest),
        .load_address = 0x100000,
    };
    int32_t status = vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, ADDER_GPA, ADDER_BYTES, adder_access,
                                       adder, NULL, err);
    if (status == VMMHPC_OK) {
        status = vmmhpc_load(vm, &boot, err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_start(vm, err);
    }
    return status == VMMHPC_OK ? vmmhpc_wait(vm, -1, err) : status;
}

int main(void)
{
    const struct vmmhpc_memory memory = {
        .size = sizeof(memory), .bytes = 2u << 20, .numa_node = -1};
    const struct vmmhpc_config config = {
        .size = sizeof(config), .cpus = 1, .memory = &memory, .memory_count = 1};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct adder adder = {0};
    struct vmmhpc *vm = NULL;
    int32_t status = vmmhpc_create(&config, &vm, &err);
    if (status == VMMHPC_OK) {
        status = run(vm, &adder, &err);
    }
    vmmhpc_destroy(vm);
    if (status != VMMHPC_OK) {
        (void)fprintf(stderr, "adder: %s\n", err.text);
        return 1;
    }
    (void)printf("%" PRIu64 " additions, sum %" PRIu64 "\n", adder.count, adder.sum);
    return 0;
}
