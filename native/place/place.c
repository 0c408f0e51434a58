/* SPDX-License-Identifier: Apache-2.0 */
/* vmmhpc_place(): from what is asked for to what the machine keeps. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "place.h"

static uint64_t exits_for_kvm(uint32_t without)
{
    return ((without & VMMHPC_EXIT_HALT) != 0 ? KVM_X86_DISABLE_EXITS_HLT : 0ull) |
           ((without & VMMHPC_EXIT_PAUSE) != 0 ? KVM_X86_DISABLE_EXITS_PAUSE : 0ull);
}

/* A KVM without hardware behind it emulates the guest's kernel, and offers what it then ignores. */
static bool has_hardware(void)
{
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    const bool vmx = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 5 & 1) != 0;
    return vmx || (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c >> 2 & 1) != 0);
}

static int32_t check_exits(const struct vmmhpc *vm, uint32_t without, struct vmmhpc_error *err)
{
    if (without != 0 && !has_hardware()) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, without,
                       "there is no virtualization hardware behind this host's KVM: it emulates "
                       "halt and pause, and cannot go without exits for them");
    }
    const int offered = ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
    const uint64_t missing = exits_for_kvm(without) & ~(offered > 0 ? (uint64_t)offered : 0);
    return missing == 0 ? VMMHPC_OK
                        : vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, missing,
                                  "this host's KVM cannot go without exits for %s "
                                  "(KVM_CAP_X86_DISABLE_EXITS offers 0x%x)",
                                  (missing & KVM_X86_DISABLE_EXITS_HLT) != 0 ? "halt" : "pause",
                                  offered > 0 ? (unsigned)offered : 0);
}

/* KVM takes it only before the first vCPU is made. */
static int32_t vm_made(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    const uint32_t without = vh_place_of(vm)->without_exits;
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_DISABLE_EXITS,
                                 .args = {exits_for_kvm(without)}};
    if (without == 0 || ioctl(vm->vm_fd, KVM_ENABLE_CAP, &cap) == 0) {
        return VMMHPC_OK;
    }
    return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, without,
                   "this host's KVM does not disable exits");
}

/* A copy of `from` behind what is there. */
static const void *keep(uint8_t **end, const void *from, size_t bytes)
{
    void *copy = *end;
    if (bytes > 0) {
        memcpy(copy, from, bytes);
    }
    *end += bytes;
    return copy;
}

static struct vh_place *new_place(const struct vmmhpc *vm, const struct vmmhpc_placement *asked)
{
    const size_t word = sizeof(uint32_t);
    const size_t vcpus = asked->nodes > 0 ? vm->cpus : 0;
    const size_t regions = asked->nodes > 0 ? vm->memory.mapping_count : 0;
    const size_t pairs = (size_t)asked->nodes * asked->nodes;
    struct vh_place *place =
        calloc(1, sizeof(*place) + word * (vcpus + regions + asked->io_pin_count) + pairs);
    if (place == NULL) {
        return NULL;
    }
    uint8_t *end = (uint8_t *)(place + 1);
    place->io_pin = keep(&end, asked->io_pin, word * asked->io_pin_count);
    place->vcpu_nodes = keep(&end, asked->vcpu_nodes, word * vcpus);
    place->memory_nodes = keep(&end, asked->memory_nodes, word * regions);
    place->distances = end;
    for (size_t i = 0; i < pairs; i++) {
        const bool same = i / asked->nodes == i % asked->nodes;
        end[i] = asked->distances != NULL ? asked->distances[i]
                 : same                   ? VMMHPC_DISTANCE_LOCAL
                                          : VMMHPC_DISTANCE_REMOTE;
    }
    place->io_pin_count = asked->io_pin_count;
    place->without_exits = asked->without_exits;
    place->vcpu_priority = asked->vcpu_priority;
    place->io_priority = asked->io_priority;
    place->nodes = asked->nodes;
    place->base.vm_made = vm_made;
    place->base.cpuid = vh_place_cpuid;
    return place;
}

static int32_t check_call(const struct vmmhpc_placement *placement,
                          const struct vh_place_hooks *core, struct vmmhpc_error *err)
{
    if (placement == NULL || placement->size != sizeof(*placement)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, placement == NULL ? 0 : placement->size,
                       "the placement is missing or of another version");
    }
    if (core->machine_bytes != sizeof(struct vmmhpc)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, core->machine_bytes,
                       "libvmmhpc and libvmmhpc-place are of different builds");
    }
    return VMMHPC_OK;
}

/* The VM and its vCPUs are made anew where they have to be told something: nothing else refers to
 * them yet. */
static int32_t rebuild(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                       const struct vh_place *place, struct vmmhpc_error *err)
{
    if (placement->without_exits == 0 && placement->nodes == 0 && placement->cache_cores == 0) {
        return VMMHPC_OK;
    }
    place->core->kvm_teardown(vm);
    int32_t status = place->core->kvm_build(vm, err);
    if (status == VMMHPC_OK && placement->cache_cores > 0 && !place->cache_is_told) {
        status = vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, placement->cache_cores,
                         "this host's KVM tells of no last-level cache that cores could share");
    }
    return status;
}

int32_t vmmhpc_place(struct vmmhpc *vm, const struct vmmhpc_placement *placement,
                     struct vmmhpc_error *err)
{
    const struct vh_place_hooks *core = vmmhpc_place_hooks();
    int32_t status = check_call(placement, core, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->place(vm, placement, err);
    }
    if (vm->placing != NULL || vm->recipe.present || vm->pci.window_bytes != 0 ||
        atomic_load(&vm->state) != VMMHPC_STATE_CREATED) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0,
                       "a machine is placed once, before its devices and its guest");
    }
    uint32_t cache_bits = 0;
    status = vh_place_check(vm, placement, err);
    if (status == VMMHPC_OK) {
        status = vh_place_cache_bits(vm, placement, &cache_bits, err);
    }
    if (status == VMMHPC_OK) {
        status = check_exits(vm, placement->without_exits, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    struct vh_place *place = new_place(vm, placement);
    if (place == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, vm->cpus, "no memory for a placement");
    }
    place->core = core;
    place->cache_bits = cache_bits;
    place->shows_more = placement->nodes > 0 || placement->cache_cores > 0;
    vm->placing = &place->base;
    if (placement->nodes > 0) {
        memcpy(vm->acpi_tables, vh_place_tables, sizeof(vh_place_tables));
        vm->acpi_table_count = VH_PLACE_TABLES;
    }
    vh_place_threads(vm, place);
    return rebuild(vm, placement, place, err);
}
