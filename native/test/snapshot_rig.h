/* SPDX-License-Identifier: Apache-2.0 */
/* A machine without KVM that was saved, and its files to be damaged. */
#ifndef SNAPSHOT_RIG_H
#define SNAPSHOT_RIG_H

#include "machine_rig.h"
#include "vmmhpc_snapshot.h"

struct snapshot_rig {
    struct vmmhpc *vm;
    struct vh_virtio *device;
    int state_fd;
    int memory_fd;
    struct vmmhpc_error err;
};

/** 4 MiB and a virtio device, which is also put into *device. */
struct vmmhpc *snapshot_rig_machine(struct vh_virtio **device);
/** Such a machine with the device in use and something in RAM and UART, paused and saved. */
struct snapshot_rig snapshot_rig_saved(bool msix);
void snapshot_rig_release(struct snapshot_rig *rig);

/** All of a file, for free(). */
uint8_t *snapshot_rig_contents(int fd, size_t *bytes);
void snapshot_rig_replace(int fd, const uint8_t *data, size_t bytes);
/** Where the payload of a section is in a state. */
size_t snapshot_rig_payload(const uint8_t *data, size_t bytes, uint32_t type);
/** Write a state with 8 other bytes in it and a checksum that fits; `data` stays as it is. */
void snapshot_rig_patch(int state_fd, uint8_t *data, size_t bytes, size_t at, uint64_t value);

/** A directory for a test's files, for free(). */
char *snapshot_rig_scratch(void);
void snapshot_rig_join(char *to, size_t room, const char *directory, const char *name);

#endif
