/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's `state`, from somebody who knows how to compute its checksum. The input either is
 * the file, or changes to a good one: 16 bits of offset in units of two bytes, 16 bits of value.
 * What must hold: no access outside of anything (ASan), a BAR is decoded only in the windows, and a
 * machine that was restored serves its devices, and starts from zero after a reset.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../snapshot/format.h"
#include "../test/machine_rig.h"
#include "vmmhpc_snapshot.h"

#define WHOLE 1u /* in the first byte: the input is the file */

static uint8_t *good;
static size_t good_bytes;
static int memory_fd = -1;

static struct vmmhpc *machine(void)
{
    struct vmmhpc *vm = machine_rig_new(1);
    MUST(pthread_mutex_init(&vm->uart.lock, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        MUST(machine_rig_echo(vm) != NULL);
    }
    return vm;
}

/* Two devices in use, saved. */
static void make_good(void)
{
    struct vmmhpc *vm = machine();
    int fd = memfd_create("state", MFD_CLOEXEC);
    memory_fd = memfd_create("memory", MFD_CLOEXEC);
    for (uint32_t slot = 1; slot < vm->pci.count; slot++) {
        vh_pci_config_write(&vm->pci, slot, VH_PCI_COMMAND, 2, 6);
        struct vh_virtio *device = (struct vh_virtio *)vh_virtio_find(vm, VH_VIRTIO_RNG);
        device->queues[0].size = 16;
        device->queues[0].enabled = true;
        device->queues[0].desc_gpa = 0x10000;
        device->queues[0].avail_gpa = 0x11000;
        device->queues[0].used_gpa = 0x12000;
        device->features_acked = vh_virtio_offered(device);
        device->broken = false;
        (void)vh_virtio_start(device, &vm->memory, NULL);
    }
    memset(vh_memory_at(&vm->memory, 0x10000, 4096), 0x11, 4096);
    memset(vh_memory_at(&vm->memory, 0x12000, 4096), 0, 4096);
    atomic_store(&vm->state, VMMHPC_STATE_PAUSED);
    MUST(vmmhpc_snapshot_write(vm, fd, memory_fd, "note", 4, NULL) == VMMHPC_OK);
    good_bytes = (size_t)lseek(fd, 0, SEEK_END);
    good = malloc(good_bytes);
    MUST(good != NULL && pread(fd, good, good_bytes, 0) == (ssize_t)good_bytes);
    (void)close(fd);
    machine_rig_free(vm);
}

/* The checksum fits, and so does the length. */
static void put_right(uint8_t *data, size_t bytes)
{
    struct vh_snap_header header;
    if (bytes < sizeof(header)) {
        return;
    }
    memcpy(&header, data, sizeof(header));
    header.magic = VH_SNAP_MAGIC;
    header.major = VMMHPC_SNAPSHOT_MAJOR;
    header.header_bytes = sizeof(header);
    header.file_bytes = bytes;
    header.crc = 0;
    memcpy(data, &header, sizeof(header));
    header.crc = vh_crc32c(0, data, bytes);
    memcpy(data, &header, sizeof(header));
}

static void check(const struct vmmhpc *vm)
{
    for (uint32_t slot = 1; slot < vm->pci.count; slot++) {
        const struct vh_pci_device *device = vm->pci.devices[slot];
        for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
            uint64_t gpa = device->bars[i].gpa;
            MUST(device->bars[i].bytes == 0 || gpa == VH_PCI_NOWHERE ||
                 (gpa >= VH_PCI_WINDOW_GPA && gpa < VH_PCI_WINDOW_GPA + VH_PCI_WINDOW_BYTES) ||
                 (gpa >= vm->pci.window_gpa && gpa < vm->pci.window_gpa + vm->pci.window_bytes));
        }
    }
}

static bool load(const uint8_t *data, size_t bytes)
{
    struct vmmhpc *vm = machine();
    int fd = memfd_create("state", MFD_CLOEXEC);
    MUST(pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
    struct vmmhpc_error err = {.size = sizeof(err)};
    bool done = vmmhpc_snapshot_load(vm, fd, memory_fd, 0, &err) == VMMHPC_OK;
    MUST(done || (err.code < 0 && err.text[0] != '\0'));
    check(vm);
    machine_rig_serve(vm);
    vh_pci_reset(vm);
    MUST(vh_memory_clear(&vm->memory, NULL) == VMMHPC_OK);
    MUST(*(uint8_t *)vh_memory_at(&vm->memory, 0x10000, 1) == 0);
    uint8_t byte = 0;
    (void)vh_uart_access(&vm->uart, 0, 0, 1, VMMHPC_ACCESS_READ, 0);
    (void)vh_uart_peek(&vm->uart, &byte, 1);
    (void)vh_uart_receive(&vm->uart, &byte, 1);
    (void)close(fd);
    machine_rig_free(vm);
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (good == NULL) {
        make_good();
    }
    if (bytes == 0) {
        return 0;
    }
    bool whole = (data[0] & WHOLE) != 0;
    size_t length = whole ? bytes - 1 : good_bytes;
    uint8_t *file = malloc(length + 1);
    MUST(file != NULL);
    if (whole) {
        memcpy(file, data + 1, length);
    } else {
        memcpy(file, good, length);
        for (size_t at = 1; at + 4 <= bytes; at += 4) {
            uint16_t change[2];
            memcpy(change, data + at, sizeof(change));
            size_t where = (size_t)change[0] * 2 % (length - 1);
            memcpy(file + where, &change[1], 2);
        }
    }
    put_right(file, length);
    fuzz_count(load(file, length));
    free(file);
    return 0;
}
