/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine is, so that the state is not given to another one. */
#include <stdlib.h>

#include "layout.h"
#include "snapshot.h"

/* Flags that the guest can see. */
#define FLAGS_KEPT                                                                                 \
    (VMMHPC_FLAG_NO_UART | VMMHPC_FLAG_HIDE_XSAVE | VMMHPC_FLAG_BARE | VMMHPC_FLAG_POWER_BUTTON)

struct saved_machine {
    uint32_t cpus;
    uint32_t cores_per_socket;
    uint32_t threads_per_core;
    uint32_t flags;
    uint32_t image_kind;
    uint32_t has_generation_id;
    uint8_t generation_id[16];
    uint32_t pci_address; /* what was last written to 0xcf8 */
    uint32_t pci_slots;   /* in use, the host bridge's included */
    uint64_t pci_window_gpa;
    uint64_t pci_window_bytes;
    uint32_t extra_count; /* of pmem */
    uint32_t reserved;
    struct {
        uint64_t gpa;
        uint64_t bytes;
    } extra[VH_EXTRA_MEMORY_MAX];
};

/* A range of ports or memory that a device answers for. */
struct saved_range {
    uint32_t space; /* enum vmmhpc_space */
    uint32_t reserved;
    uint64_t base;
    uint64_t last;
};

static struct saved_machine describe(const struct vmmhpc *vm)
{
    const struct vh_pci_bus *bus = &vm->pci;
    struct saved_machine machine = {
        .cpus = vm->cpus,
        .cores_per_socket = vm->cores_per_socket,
        .threads_per_core = vm->threads_per_core,
        .flags = (vm->flags & FLAGS_KEPT) | (vm->hide_xsave ? VMMHPC_FLAG_HIDE_XSAVE : 0),
        .image_kind = vm->recipe.entry.kind,
        .has_generation_id = vm->has_generation_id ? 1 : 0,
        .pci_address = atomic_load_explicit(&bus->address, memory_order_relaxed),
        .pci_slots = bus->count,
        .pci_window_gpa = bus->window_gpa,
        .pci_window_bytes = bus->window_bytes,
        .extra_count = vm->extra_memory_count,
    };
    memcpy(machine.generation_id, vm->generation.id, sizeof(machine.generation_id));
    for (uint32_t i = 0; i < vm->extra_memory_count; i++) {
        machine.extra[i].gpa = vm->extra_memory[i].gpa;
        machine.extra[i].bytes = vm->extra_memory[i].bytes;
    }
    return machine;
}

int32_t vh_snap_save_machine(const struct vmmhpc *vm, struct vh_snap_writer *writer,
                             struct vmmhpc_error *err)
{
    if (vm->modules.count > 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, vm->modules.count,
                       "a machine with modules cannot be saved: only they know their state");
    }
    const struct saved_machine machine = describe(vm);
    vh_snap_section(writer, VH_SNAP_MACHINE, 0, &machine, sizeof(machine));
    vh_snap_begin(writer, VH_SNAP_RANGES, 0);
    for (uint32_t space = VMMHPC_SPACE_PIO; space <= VMMHPC_SPACE_MMIO; space++) {
        const struct vh_table *table = atomic_load(&vm->tables[space]);
        for (uint32_t i = 0; table != NULL && i < table->count; i++) {
            const struct saved_range range = {
                .space = space, .base = table->ranges[i].base, .last = table->ranges[i].last};
            vh_snap_put(writer, &range, sizeof(range));
        }
    }
    vh_snap_end(writer);
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ comparing */

static int32_t another(struct vmmhpc_error *err, const char *what, uint64_t snapshot,
                       uint64_t machine)
{
    return vh_fail(err, VMMHPC_E_INVALID, 0, snapshot,
                   "the snapshot is of another machine: %s is %llu there, %llu here", what,
                   (unsigned long long)snapshot, (unsigned long long)machine);
}

static int32_t compare(const struct saved_machine *there, const struct saved_machine *here,
                       struct vmmhpc_error *err)
{
    const struct {
        const char *what;
        uint64_t there;
        uint64_t here;
    } rows[] = {
        {"the number of vCPUs", there->cpus, here->cpus},
        {"the number of cores per socket", there->cores_per_socket, here->cores_per_socket},
        {"the number of threads per core", there->threads_per_core, here->threads_per_core},
        {"UART, power button, XSAVE (flags)", there->flags, here->flags},
        {"a generation ID", there->has_generation_id, here->has_generation_id},
        {"the number of PCI devices", there->pci_slots - 1ull, here->pci_slots - 1ull},
        {"the address of PCI memory (width of the host's addresses)", there->pci_window_gpa,
         here->pci_window_gpa},
        {"the size of PCI memory (width of the host's addresses)", there->pci_window_bytes,
         here->pci_window_bytes},
        {"the number of pmem devices", there->extra_count, here->extra_count},
    };
    for (size_t i = 0; i < VH_COUNT(rows); i++) {
        if (rows[i].there != rows[i].here) {
            return another(err, rows[i].what, rows[i].there, rows[i].here);
        }
    }
    for (uint32_t i = 0; i < here->extra_count; i++) {
        if (there->extra[i].gpa != here->extra[i].gpa ||
            there->extra[i].bytes != here->extra[i].bytes) {
            return another(err, "the size of a pmem device", there->extra[i].bytes,
                           here->extra[i].bytes);
        }
    }
    return VMMHPC_OK;
}

/* Every range that a device answered for has one here; who it is only its owner knows. */
static int32_t compare_ranges(const struct vmmhpc *vm, const struct vh_snap_reader *reader,
                              struct vmmhpc_error *err)
{
    size_t bytes = 0;
    const struct saved_range *ranges = vh_snap_find(reader, VH_SNAP_RANGES, 0, &bytes);
    if (ranges == NULL || bytes % sizeof(*ranges) != 0) {
        return vh_snap_damaged(err, VH_SNAP_RANGES, 0, "what it says of devices makes no sense");
    }
    for (size_t i = 0; i < bytes / sizeof(*ranges); i++) {
        const struct saved_range *want = &ranges[i];
        bool found = false;
        const struct vh_table *table =
            want->space <= VMMHPC_SPACE_MMIO ? atomic_load(&vm->tables[want->space]) : NULL;
        for (uint32_t j = 0; table != NULL && !found && j < table->count; j++) {
            found = table->ranges[j].base == want->base && table->ranges[j].last == want->last;
        }
        if (!found) {
            return vh_fail(err, VMMHPC_E_INVALID, 0, want->base,
                           "the snapshot is of another machine: no device is at %s 0x%llx here",
                           want->space == VMMHPC_SPACE_PIO ? "port" : "address",
                           (unsigned long long)want->base);
        }
    }
    return VMMHPC_OK;
}

int32_t vh_snap_check_machine(const struct vmmhpc *vm, const struct vh_snap_reader *reader,
                              struct vmmhpc_error *err)
{
    struct saved_machine there;
    const struct saved_machine here = describe(vm);
    int32_t status = vh_snap_get(reader, VH_SNAP_MACHINE, 0, &there, sizeof(there), err);
    if (status == VMMHPC_OK) {
        status = compare(&there, &here, err);
    }
    return status == VMMHPC_OK ? compare_ranges(vm, reader, err) : status;
}

/* A clone that was saved and restored is still called what it was. */
static void keep_name(struct vmmhpc *vm)
{
    const struct vh_generation *there =
        vmmhpc_memory_at(vm, VH_GENERATION_GPA, sizeof(vm->generation));
    if (there != NULL) {
        memcpy(vm->generation.clone, there->clone, sizeof(vm->generation.clone) - 1);
    }
}

int32_t vh_snap_load_machine(struct vmmhpc *vm, const struct vh_snap_reader *reader,
                             struct vmmhpc_error *err)
{
    struct saved_machine there;
    int32_t status = vh_snap_get(reader, VH_SNAP_MACHINE, 0, &there, sizeof(there), err);
    if (status != VMMHPC_OK) {
        return status;
    }
    atomic_store_explicit(&vm->pci.address, there.pci_address, memory_order_relaxed);
    vm->recipe.entry.kind = there.image_kind;
    const bool named = vm->generation.clone[0] != '\0';
    if (!named) {
        keep_name(vm);
    }
    const bool changed =
        memcmp(there.generation_id, vm->generation.id, sizeof(vm->generation.id)) != 0;
    if (named || (vm->has_generation_id && changed)) {
        status = vmmhpc_snapshot_hooks()->generation_write(vm, err);
        if (status == VMMHPC_OK && vm->has_generation_id) {
            status = vmmhpc_irq_set(vm, VH_GED_GSI, 1, err); /* an edge */
            (void)vmmhpc_irq_set(vm, VH_GED_GSI, 0, NULL);
        }
    }
    return status;
}

int32_t vh_snap_info(const struct vh_snap_reader *reader, struct vmmhpc_snapshot_info *info,
                     struct vmmhpc_error *err)
{
    struct saved_machine machine;
    const struct vh_snap_region *regions = NULL;
    struct vh_snap_layers layers;
    struct vh_snap_packed packed[VH_SNAPSHOT_LAYERS];
    uint32_t count = 0;
    int32_t status = vh_snap_get(reader, VH_SNAP_MACHINE, 0, &machine, sizeof(machine), err);
    if (status == VMMHPC_OK) {
        status = vh_snap_regions(reader, &regions, &count, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_layers(reader, &layers, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_snap_packed(reader, layers.count, packed, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    size_t bytes = 0;
    const uint64_t *clock = vh_snap_find(reader, VH_SNAP_CLOCK, 0, &bytes);
    *info = (struct vmmhpc_snapshot_info){
        .size = sizeof(*info),
        .major = reader->header.major,
        .minor = reader->header.minor,
        .library_version = reader->header.library_version,
        .cpus = machine.cpus,
        .image_kind = machine.image_kind,
        .layers = layers.count,
        .created_ns = reader->header.created_ns,
        .guest_time_ns = clock != NULL && bytes >= sizeof(*clock) ? *clock : 0,
    };
    memcpy(info->id, reader->header.id, sizeof(info->id));
    for (uint32_t i = 0; i < count; i++) {
        info->memory_bytes += regions[i].bytes;
        info->data_bytes += regions[i].data_bytes;
    }
    memcpy(info->base, layers.base, sizeof(info->base));
    info->own_bytes = layers.count > 1 ? layers.own_bytes : info->data_bytes;
    info->codec = packed[0].codec;
    info->stored_bytes =
        packed[0].codec == VMMHPC_SNAPSHOT_PLAIN ? info->own_bytes : packed[0].file_bytes;
    (void)vh_snap_find(reader, VH_SNAP_NOTE, 0, &bytes);
    info->note_bytes = bytes;
    return VMMHPC_OK;
}
