/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot's `state`, from somebody who knows how to compute its checksum. The input either is
 * the file, or changes to a good one, by itself, with a base, or with compressed memory: 16 bits of
 * offset in units of two bytes, 16 bits of value.
 * What must hold: no access outside of anything (ASan), a BAR is decoded only in the windows, and a
 * machine that was restored serves its devices, and starts from zero after a reset.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../snapshot/snapshot_packed.h"
#include "../test/machine_rig.h"
#include "vmmhpc_snapshot.h"

#define WHOLE 1u  /* in the first byte: the input is the file */
#define BASED 2u  /* there are two files of memory, and the good one has a base */
#define PACKED 4u /* else: the file of memory is compressed */

static struct {
    uint8_t *data;
    size_t bytes;
    int fd;
    int memory_fd;
} good[3]; /* [1] is based on [0], [2] is [0] compressed */

static struct vmmhpc *machine(void)
{
    struct vmmhpc *vm = machine_rig_new(1);
    MUST(pthread_mutex_init(&vm->uart.lock, NULL) == 0);
    MUST(pthread_mutex_init(&vm->console_lock, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        MUST(machine_rig_echo(vm) != NULL);
    }
    return vm;
}

static void new_files(int which)
{
    good[which].fd = memfd_create("state", MFD_CLOEXEC);
    good[which].memory_fd = memfd_create("memory", MFD_CLOEXEC);
}

static void keep(int which)
{
    int fd = good[which].fd;
    size_t bytes = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *data = malloc(bytes);
    MUST(data != NULL && pread(fd, data, bytes, 0) == (ssize_t)bytes);
    good[which].data = data;
    good[which].bytes = bytes;
}

/* Two devices in use, saved; and saved again, when memory has changed here and there. */
static void make_good(void)
{
    struct vmmhpc *vm = machine();
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
    new_files(0);
    MUST(vh_snap_write(vm, good[0].fd, good[0].memory_fd, NULL, "note", 4, NULL) == VMMHPC_OK);
    keep(0);
    memset(vh_memory_at(&vm->memory, 0x10000, 4096), 0, 4096);
    memset(vh_memory_at(&vm->memory, 0x40000, 0x20000), 0x22, 0x20000);
    memset(vh_memory_at(&vm->memory, 0x80000, 4096), 0x33, 4096);
    const struct vh_snapshot_files base = {
        .state_fd = good[0].fd, .layers = 1, .memory_fds = {good[0].memory_fd}};
    new_files(1);
    MUST(vh_snap_write(vm, good[1].fd, good[1].memory_fd, &base, "note", 4, NULL) == VMMHPC_OK);
    keep(1);
    const struct vh_snap_pair plain = {good[0].fd, good[0].memory_fd};
    new_files(2);
    const struct vh_snap_pair packed = {good[2].fd, good[2].memory_fd};
    MUST(vh_snap_compress(&plain, &packed, false, NULL) == VMMHPC_OK);
    keep(2);
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

static bool load(const uint8_t *data, size_t bytes, int which)
{
    struct vmmhpc *vm = machine();
    int fd = memfd_create("state", MFD_CLOEXEC);
    MUST(pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_snapshot_files files = {.state_fd = fd, .layers = which == 1 ? 2 : 1};
    files.memory_fds[0] = good[which].memory_fd;
    files.memory_fds[1] = good[0].memory_fd;
    bool done = vh_snap_load_plain(vm, &files, 0, NULL, &err) == VMMHPC_OK;
    MUST(done || (err.code < 0 && err.text[0] != '\0'));
    (void)vh_snap_verify(&files, &err);
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
    if (good[0].data == NULL) {
        make_good();
    }
    if (bytes == 0) {
        return 0;
    }
    bool whole = (data[0] & WHOLE) != 0;
    int which = (data[0] & BASED) != 0 ? 1 : (data[0] & PACKED) != 0 ? 2 : 0;
    size_t length = whole ? bytes - 1 : good[which].bytes;
    uint8_t *file = malloc(length + 1);
    MUST(file != NULL);
    if (whole) {
        memcpy(file, data + 1, length);
    } else {
        memcpy(file, good[which].data, length);
        for (size_t at = 1; at + 4 <= bytes; at += 4) {
            uint16_t change[2];
            memcpy(change, data + at, sizeof(change));
            size_t where = (size_t)change[0] * 2 % (length - 1);
            memcpy(file + where, &change[1], 2);
        }
    }
    put_right(file, length);
    fuzz_count(load(file, length, which));
    free(file);
    return 0;
}
