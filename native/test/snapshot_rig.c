/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pci_driver.h"
#include "snapshot.h"
#include "tap.h"

struct vmmhpc *snapshot_rig_machine(struct vh_virtio **device)
{
    struct vmmhpc *vm = machine_rig_new(4);
    (void)pthread_mutex_init(&vm->uart.lock, NULL);
    (void)pthread_mutex_init(&vm->console_lock, NULL);
    *device = machine_rig_echo(vm);
    CHECK(*device != NULL);
    return vm;
}

struct snapshot_rig snapshot_rig_saved(bool msix)
{
    struct snapshot_rig rig = {.err = {.size = sizeof(rig.err)}};
    rig.vm = snapshot_rig_machine(&rig.device);
    rig.state_fd = memfd_create("state", MFD_CLOEXEC);
    rig.memory_fd = memfd_create("memory", MFD_CLOEXEC);
    (void)driver_bring_up(rig.vm, msix);
    driver_offer(rig.vm, 0);
    driver_out(rig.vm, driver_bar(rig.vm, 0) + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(rig.vm);
    rig.vm->uart.connected = true;
    (void)vh_uart_access(&rig.vm->uart, 0, 0, 1, VMMHPC_ACCESS_WRITE, 'x');
    (void)vh_uart_access(&rig.vm->uart, 0, 7, 1, VMMHPC_ACCESS_WRITE, 0x5a);
    memset(vh_memory_at(&rig.vm->memory, 0x3ff000, 4096), 0xa5, 4096);
    atomic_store(&rig.vm->state, VMMHPC_STATE_PAUSED);
    CHECK_OK(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, "note", 4, &rig.err),
             &rig.err);
    return rig;
}

void snapshot_rig_release(struct snapshot_rig *rig)
{
    machine_rig_free(rig->vm);
    (void)close(rig->state_fd);
    (void)close(rig->memory_fd);
}

uint8_t *snapshot_rig_contents(int fd, size_t *bytes)
{
    struct stat info;
    CHECK_EQ(fstat(fd, &info), 0);
    *bytes = (size_t)info.st_size;
    uint8_t *data = malloc(*bytes);
    CHECK(data != NULL && pread(fd, data, *bytes, 0) == (ssize_t)*bytes);
    return data;
}

void snapshot_rig_replace(int fd, const uint8_t *data, size_t bytes)
{
    CHECK_EQ(ftruncate(fd, 0), 0);
    CHECK_EQ(pwrite(fd, data, bytes, 0), bytes);
}

size_t snapshot_rig_payload(const uint8_t *data, size_t bytes, uint32_t type)
{
    struct vh_snap_section section;
    for (size_t at = sizeof(struct vh_snap_header); at < bytes;
         at += sizeof(section) + (section.bytes + 7) / 8 * 8) {
        memcpy(&section, data + at, sizeof(section));
        if (section.type == type) {
            return at + sizeof(section);
        }
    }
    CHECK(false);
    return 0;
}

void snapshot_rig_patch(int state_fd, uint8_t *data, size_t bytes, size_t at, uint64_t value)
{
    struct vh_snap_header header;
    uint64_t before = 0;
    memcpy(&before, data + at, sizeof(before));
    memcpy(data + at, &value, sizeof(value));
    memcpy(&header, data, sizeof(header));
    header.crc = 0;
    memcpy(data, &header, sizeof(header));
    header.crc = vh_crc32c(0, data, bytes);
    memcpy(data, &header, sizeof(header));
    snapshot_rig_replace(state_fd, data, bytes);
    memcpy(data + at, &before, sizeof(before));
}

char *snapshot_rig_scratch(void)
{
    char *path = strdup("/tmp/v3m-snapshot-XXXXXX");
    CHECK(path != NULL && mkdtemp(path) != NULL);
    return path;
}

void snapshot_rig_join(char *to, size_t room, const char *directory, const char *name)
{
    (void)snprintf(to, room, "%s/%s", directory, name);
}
