/* SPDX-License-Identifier: Apache-2.0 */
/* Breakpoints and watchpoints: where they are, and what makes them. All vCPUs are held while they
 * change. */
#include <string.h>
#include <sys/ioctl.h>

#include "debug.h"
#include "machine.h"

#define DR7_FIXED 0x400ull
#define DR7_EXACT 0x200ull

static int32_t add_in_memory(const struct vh_vcpu *vcpu, struct vh_break *added,
                             struct vmmhpc_error *err)
{
    struct vmmhpc *vm = vcpu->vm;
    const struct vh_debug *debug = atomic_load(&vm->debug);
    bool user = false;
    if (!vh_debug_find(vcpu, added->address, &added->gpa[0], &user)) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, added->address, "vCPU %u has no page at 0x%llx",
                       vcpu->index, (unsigned long long)added->address);
    }
    added->in_memory = true;
    added->patch_count = 1;
    if ((debug->features & VMMHPC_DEBUG_INT3) != 0) {
        return vh_debug_take_patch(vm, added->gpa[0], VH_TRAP_INT3, err);
    }
    if (user) {
        int32_t status = vh_debug_hook(vm, vcpu->index, err);
        if (status == VMMHPC_OK) {
            added->in_user = true;
            status = vh_debug_take_patch(vm, added->gpa[0], VH_TRAP_INT3, err);
        }
        return status;
    }
    if (!vh_debug_find(vcpu, added->address + 1, &added->gpa[1], &user)) {
        added->gpa[1] = UINT64_MAX; /* refused below, where it is needed */
    }
    return vh_debug_take_out(vm, added, err);
}

const struct vh_break *vh_debug_break_in(const struct vh_debug *debug, uint32_t slot)
{
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        const struct vh_break *at = &debug->breaks[i];
        if (at->used && !at->in_memory && !at->compared && !at->awaited && at->slot == slot) {
            return at;
        }
    }
    return NULL;
}

static int32_t add_in_register(const struct vh_debug *debug, struct vh_break *added,
                               struct vmmhpc_error *err)
{
    for (uint32_t slot = 0; slot < VH_DEBUG_REGISTERS; slot++) {
        if (vh_debug_break_in(debug, slot) == NULL) {
            added->slot = slot;
            return VMMHPC_OK;
        }
    }
    return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_DEBUG_REGISTERS,
                   "a CPU has %u hardware breakpoints and watchpoints", VH_DEBUG_REGISTERS);
}

static int32_t add_compared(const struct vh_vcpu *vcpu, struct vh_break *added,
                            struct vmmhpc_error *err)
{
    bool user = false;
    if (added->kind != VMMHPC_BREAK_WRITE) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, added->kind,
                       "the CPU of this host does not let a guest's reads be watched");
    }
    if (!vh_debug_find(vcpu, added->address, &added->gpa[0], &user) ||
        vh_memory_at(&vcpu->vm->memory, added->gpa[0], added->bytes) == NULL) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, added->address, "vCPU %u has no RAM at 0x%llx",
                       vcpu->index, (unsigned long long)added->address);
    }
    added->compared = true;
    return VMMHPC_OK;
}

static struct vh_break *find(struct vh_debug *debug, uint32_t kind, uint64_t address,
                             uint32_t bytes)
{
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        struct vh_break *at = &debug->breaks[i];
        if (at->used && at->kind == kind && at->address == address &&
            (kind <= VMMHPC_BREAK_HARDWARE || at->bytes == bytes)) {
            return at;
        }
    }
    return NULL;
}

static void update_flags(struct vh_debug *debug)
{
    debug->comparing = false;
    debug->traps = false;
    bool out = (debug->features & VMMHPC_DEBUG_INT3) == 0;
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        const struct vh_break *at = &debug->breaks[i];
        debug->comparing = debug->comparing || (at->used && (at->compared || at->awaited));
        debug->traps = debug->traps || (at->used && at->in_memory && out);
    }
}

static int32_t add(const struct vh_vcpu *vcpu, struct vh_break *wanted, struct vmmhpc_error *err)
{
    struct vh_debug *debug = atomic_load(&vcpu->vm->debug);
    struct vh_break *at = NULL;
    for (uint32_t i = 0; at == NULL && i < VMMHPC_BREAKS_MAX; i++) {
        at = debug->breaks[i].used ? NULL : &debug->breaks[i];
    }
    if (at == NULL) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, VMMHPC_BREAKS_MAX, "at most %u breakpoints",
                       VMMHPC_BREAKS_MAX);
    }
    int32_t status = VMMHPC_OK;
    bool registers = (debug->features & VMMHPC_DEBUG_HARDWARE) != 0;
    if (wanted->kind != VMMHPC_BREAK_SOFTWARE && registers) {
        status = add_in_register(debug, wanted, err);
    } else if (wanted->kind <= VMMHPC_BREAK_HARDWARE) {
        status = add_in_memory(vcpu, wanted, err);
        if (status == VMMHPC_E_RANGE && wanted->kind == VMMHPC_BREAK_HARDWARE) {
            /* A kernel that has not turned paging on yet: hardware would not mind. */
            *wanted = (struct vh_break){.kind = wanted->kind,
                                        .address = wanted->address,
                                        .bytes = wanted->bytes,
                                        .awaited = true};
            status = VMMHPC_OK;
        }
    } else {
        status = add_compared(vcpu, wanted, err);
    }
    if (status == VMMHPC_OK) {
        *at = *wanted;
        at->used = true;
        update_flags(debug);
    } else {
        vh_debug_unhook(vcpu->vm);
    }
    return status;
}

int32_t vmmhpc_debug_add_break(struct vmmhpc *vm, uint32_t vcpu, uint32_t kind, uint64_t address,
                               uint32_t bytes, struct vmmhpc_error *err)
{
    bool watch = kind > VMMHPC_BREAK_HARDWARE;
    if (kind > VMMHPC_BREAK_ACCESS) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, kind, "no such kind of breakpoint");
    }
    if (watch && ((bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) || address % bytes != 0)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, bytes,
                       "a watchpoint is on 1, 2, 4 or 8 bytes, aligned");
    }
    int32_t status = vh_debug_enter(vm, vcpu, err);
    if (status == VMMHPC_OK) {
        struct vh_break wanted = {
            .kind = kind, .address = address, .bytes = watch ? (uint8_t)bytes : 1};
        if (find(atomic_load(&vm->debug), kind, address, bytes) == NULL) {
            status = add(&vm->vcpus[vcpu], &wanted, err);
        }
        vh_debug_leave(vm);
    }
    return status;
}

void vh_debug_place(const struct vh_vcpu *vcpu)
{
    struct vmmhpc *vm = vcpu->vm;
    struct vh_debug *debug = atomic_load(&vm->debug);
    struct kvm_sregs sregs;
    bool known = false;
    for (uint32_t i = 0; debug->comparing && i < VMMHPC_BREAKS_MAX; i++) {
        struct vh_break *at = &debug->breaks[i];
        bool user = false;
        if (!at->used || !at->awaited) {
            continue;
        }
        known = known || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0;
        if (known && vh_debug_walk(&vm->memory, &sregs, at->address, &at->gpa[0], &user) && !user &&
            vh_debug_walk(&vm->memory, &sregs, at->address + 1, &at->gpa[1], &user) &&
            vh_debug_take_out(vm, at, NULL) == VMMHPC_OK) {
            at->awaited = false;
            at->in_memory = true;
        }
    }
    if (known) {
        update_flags(debug);
    }
}

static void take_away(struct vmmhpc *vm, struct vh_break *at)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < at->patch_count; i++) {
        vh_debug_drop_patch(vm, at->gpa[i]);
    }
    *at = (struct vh_break){0};
    vh_debug_unhook(vm);
    update_flags(debug);
}

int32_t vmmhpc_debug_remove_break(struct vmmhpc *vm, uint32_t kind, uint64_t address,
                                  uint32_t bytes, struct vmmhpc_error *err)
{
    int32_t status = vh_debug_enter(vm, 0, err);
    if (status == VMMHPC_OK) {
        struct vh_break *at = find(atomic_load(&vm->debug), kind, address, bytes);
        if (at != NULL) {
            take_away(vm, at);
        } else {
            status = vh_fail(err, VMMHPC_E_INVALID, 0, address, "no such breakpoint at 0x%llx",
                             (unsigned long long)address);
        }
        vh_debug_leave(vm);
    }
    return status;
}

void vh_debug_clear(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        if (debug->breaks[i].used) {
            take_away(vm, &debug->breaks[i]);
        }
    }
}

int32_t vmmhpc_debug_remove_all(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = vh_debug_enter(vm, 0, err);
    if (status == VMMHPC_OK) {
        vh_debug_clear(vm);
        vh_debug_leave(vm);
    }
    return status;
}

const struct vh_break *vh_debug_break_at(const struct vh_debug *debug, uint64_t address, bool user)
{
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        const struct vh_break *at = &debug->breaks[i];
        if (at->used && at->in_memory && at->address == address && at->in_user == user) {
            return at;
        }
    }
    return NULL;
}

bool vh_debug_in_trap(const struct vh_debug *debug, uint64_t address)
{
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        const struct vh_break *at = &debug->breaks[i];
        if (at->used && at->patch_count == 2 && at->address + 1 == address) {
            return true;
        }
    }
    return false;
}

void vh_debug_compare_from_here(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; debug->comparing && i < VMMHPC_BREAKS_MAX; i++) {
        struct vh_break *at = &debug->breaks[i];
        const void *now =
            at->used && at->compared ? vh_memory_at(&vm->memory, at->gpa[0], at->bytes) : NULL;
        if (now != NULL) {
            memcpy(at->value, now, at->bytes);
        }
    }
}

const struct vh_break *vh_debug_changed(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; debug->comparing && i < VMMHPC_BREAKS_MAX; i++) {
        struct vh_break *at = &debug->breaks[i];
        const void *now =
            at->used && at->compared ? vh_memory_at(&vm->memory, at->gpa[0], at->bytes) : NULL;
        if (now != NULL && memcmp(at->value, now, at->bytes) != 0) {
            memcpy(at->value, now, at->bytes);
            return at;
        }
    }
    return NULL;
}

/* AMD64 manual, volume 2, 13.1.1.4. */
void vh_debug_registers(const struct vh_debug *debug, uint64_t dr[8])
{
    static const uint8_t types[] = {0, 0, 1, 3, 3};
    memset(dr, 0, 8 * sizeof(*dr));
    dr[7] = DR7_FIXED;
    for (uint32_t slot = 0; slot < VH_DEBUG_REGISTERS; slot++) {
        const struct vh_break *at = vh_debug_break_in(debug, slot);
        if (at != NULL) {
            uint64_t length = at->bytes == 8 ? 2 : at->bytes - 1u;
            dr[slot] = at->address;
            dr[7] |=
                DR7_EXACT | 2ull << (2 * slot) | (types[at->kind] | length << 2) << (16 + 4 * slot);
        }
    }
}
