/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a paused machine, and giving a new one its state: the order of the parts. */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "snapshot.h"

/* The library works on struct vmmhpc itself. */
static int32_t check_build(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    if (vm == NULL) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "no machine");
    }
    return vmmhpc_snapshot_hooks()->machine_bytes == sizeof(*vm)
               ? VMMHPC_OK
               : vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, vmmhpc_snapshot_hooks()->machine_bytes,
                         "libvmmhpc and libvmmhpc-snapshot are of different builds");
}

/* ------------------------------------------------------------------ saving */

static int32_t save_parts(struct vmmhpc *vm, int memory_fd, const struct vh_snap_base *base,
                          struct vh_snap_writer *writer, struct vmmhpc_error *err)
{
    int32_t status = vh_snap_drain(vm, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_save_machine(vm, writer, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->cpus; i++) {
        status = vh_snap_save_vcpu(&vm->vcpus[i], writer, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_save_time(vm, writer, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_save_chips(vm, writer, err);
    }
    if (status == VMMHPC_OK) {
        vh_snap_save_uart(vm, writer);
        status = vh_snap_save_devices(vm, writer, err);
    }
    /* Last: KVM and devices have put into it what they had to. */
    return status == VMMHPC_OK ? vh_snap_save_memory(vm, memory_fd, base, writer, err) : status;
}

static int32_t finish(struct vh_snap_writer *writer, int state_fd, struct vmmhpc_error *err)
{
    struct vh_snap_header header = {.library_version = vmmhpc_version()};
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    header.created_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
    /* Not getrandom(): the monitor's control thread may not make it. */
    const uint64_t seed[2] = {header.created_ns, vh_now_ns()};
    memcpy(header.id, seed, sizeof(header.id));
    return vh_snap_finish(writer, &header, state_fd, err);
}

static int32_t save(struct vmmhpc *vm, int state_fd, int memory_fd, const struct vh_snap_base *base,
                    const void *note, uint64_t note_bytes, struct vmmhpc_error *err)
{
    struct vh_snap_writer writer = {.data = NULL};
    if (note_bytes > 0) {
        vh_snap_section(&writer, VH_SNAP_NOTE, 0, note, note_bytes);
    }
    int32_t status = save_parts(vm, memory_fd, base, &writer, err);
    if (status == VMMHPC_OK) {
        status = finish(&writer, state_fd, err);
    }
    free(writer.data);
    return status;
}

/* The machine, paused for it. */
static int32_t save_paused(struct vmmhpc *vm, int state_fd, int memory_fd,
                           const struct vh_snap_base *base, const void *note, uint64_t note_bytes,
                           struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    bool ran = vmmhpc_get_state(vm) == VMMHPC_STATE_RUNNING;
    if (ran) {
        status = vmmhpc_pause(vm, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    /* With the lock nobody lets it go on, and no reset begins. */
    (void)pthread_mutex_lock(&vm->lock);
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_PAUSED || vm->stop_requested) {
        status = vh_fail(err, VMMHPC_E_STATE, 0, state,
                         "only a machine that runs or is paused can be saved");
    } else {
        status = save(vm, state_fd, memory_fd, base, note, note_bytes, err);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    if (ran) {
        (void)vmmhpc_resume(vm, NULL); /* unless somebody stopped it */
    }
    return status;
}

int32_t vh_snap_write(struct vmmhpc *vm, int state_fd, int memory_fd,
                      const struct vh_snapshot_files *base_files, const void *note,
                      uint64_t note_bytes, struct vmmhpc_error *err)
{
    struct vh_snap_base base = {.reader = {.data = NULL}};
    int32_t status = check_build(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if ((note == NULL) != (note_bytes == 0) || note_bytes > VMMHPC_SNAPSHOT_NOTE_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, note_bytes, "a note has at most %llu bytes",
                       VMMHPC_SNAPSHOT_NOTE_MAX);
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->snapshot(vm, state_fd, memory_fd, base_files, note, note_bytes,
                                         err);
    }
    if (base_files != NULL) {
        status = vh_snap_open_file(&base.reader, base_files->state_fd, err);
        if (status == VMMHPC_OK) {
            status = vh_snap_memory_open(&base.memory, base_files, &base.reader, NULL, err);
        }
    }
    if (status == VMMHPC_OK) {
        status = save_paused(vm, state_fd, memory_fd, base_files == NULL ? NULL : &base, note,
                             note_bytes, err);
    }
    vh_snap_close(&base.reader);
    return status;
}

int32_t vmmhpc_snapshot_write(struct vmmhpc *vm, int32_t state_fd, int32_t memory_fd,
                              const void *note, uint64_t note_bytes, struct vmmhpc_error *err)
{
    return vh_snap_write(vm, state_fd, memory_fd, NULL, note, note_bytes, err);
}

/* ------------------------------------------------------------------ loading */

static int32_t load_parts(struct vmmhpc *vm, const struct vh_snapshot_files *files,
                          const struct vh_snap_reader *reader, uint32_t flags,
                          struct vmmhpc_error *err)
{
    int32_t status = vh_snap_check_machine(vm, reader, err);
    if (status == VMMHPC_OK) {
        status = vh_snap_load_memory(vm, files, reader, (flags & VH_RESTORE_TAKE) != 0, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_load_chips(vm, reader, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_load_time(vm, reader, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->cpus; i++) {
        status = vh_snap_load_vcpu(&vm->vcpus[i], reader, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_load_uart(vm, reader, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_load_devices(vm, reader, flags, err);
    }
    return status == VMMHPC_OK ? vh_snap_load_machine(vm, reader, err) : status;
}

static int32_t check_name(const char *name, struct vmmhpc_error *err)
{
    size_t length = strnlen(name, VMMHPC_CLONE_NAME_MAX + 1);
    bool valid = length > 0 && length <= VMMHPC_CLONE_NAME_MAX;
    for (size_t i = 0; valid && i < length; i++) {
        valid = name[i] > ' ' && name[i] < 0x7f;
    }
    return valid ? VMMHPC_OK
                 : vh_fail(err, VMMHPC_E_INVALID, 0, length,
                           "a clone's name has 1 to %u printable characters, and no space",
                           VMMHPC_CLONE_NAME_MAX);
}

int32_t vh_snap_load(struct vmmhpc *vm, const struct vh_snapshot_files *files, uint32_t flags,
                     const char *name, struct vmmhpc_error *err)
{
    struct vh_snap_reader reader;
    int32_t status = check_build(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if ((flags & ~(VMMHPC_RESTORE_CLONE | VH_RESTORE_TAKE)) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, flags, "unknown flags 0x%x", flags);
    }
    if (name != NULL) {
        status = check_name(name, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->restore(vm, files, flags, name, err);
    }
    (void)pthread_mutex_lock(&vm->lock);
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_CREATED || vm->has_io_thread || vm->recipe.present || vm->restored) {
        status = vh_fail(err, VMMHPC_E_STATE, 0, state,
                         "a snapshot is restored before anything is loaded");
    } else {
        if (name != NULL) {
            memcpy(vm->generation.clone, name, strlen(name));
        }
        vm->restored = true; /* also where it fails: the machine is neither new nor the old one */
        status = vh_snap_open_file(&reader, files->state_fd, err);
        if (status == VMMHPC_OK) {
            status = load_parts(vm, files, &reader, flags, err);
        }
        vh_snap_close(&reader);
    }
    (void)pthread_mutex_unlock(&vm->lock);
    return status;
}
