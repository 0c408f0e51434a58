/* SPDX-License-Identifier: Apache-2.0 */
/* Traps: bytes in guest memory that breakpoints are made of. All vCPUs are held while they change,
 * but for those that were waited for (vh_debug_place()). */
#include <string.h>
#include <sys/ioctl.h>

#include "debug.h"
#include "machine.h"

#define IDT_INT3 3u
#define GATE_BYTES 16u
#define EFER_LMA 0x400ull

struct vh_patch *vh_debug_patch_at(struct vh_debug *debug, uint64_t gpa)
{
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        if (debug->patches[i].users > 0 && debug->patches[i].gpa == gpa) {
            return &debug->patches[i];
        }
    }
    return NULL;
}

static void write_byte(struct vmmhpc *vm, uint64_t gpa, uint8_t value)
{
    uint8_t *at = vh_memory_at(&vm->memory, gpa, 1);
    if (at != NULL) {
        *at = value;
    }
}

static void put_patch(struct vmmhpc *vm, struct vh_patch *patch, bool in)
{
    if (patch->users > 0 && patch->in != in) {
        write_byte(vm, patch->gpa, in ? patch->trap : patch->original);
        patch->in = in;
    }
}

void vh_debug_patch(struct vmmhpc *vm, bool in)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        put_patch(vm, &debug->patches[i], in);
    }
}

void vh_debug_patch_anew(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        struct vh_patch *patch = &debug->patches[i];
        const uint8_t *at = vh_memory_at(&vm->memory, patch->gpa, 1);
        patch->in = false;
        if (at != NULL && *at == patch->original) {
            put_patch(vm, patch, true);
        }
    }
}

int32_t vh_debug_take_patch(struct vmmhpc *vm, uint64_t gpa, uint8_t trap, struct vmmhpc_error *err)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    struct vh_patch *patch = vh_debug_patch_at(debug, gpa);
    const uint8_t *at = vh_memory_at(&vm->memory, gpa, 1);
    if (at == NULL) {
        return vh_fail(err, VMMHPC_E_RANGE, 0, gpa, "no RAM at 0x%llx", (unsigned long long)gpa);
    }
    if (patch != NULL) {
        if (patch->trap != trap) {
            return vh_fail(err, VMMHPC_E_OVERLAP, 0, gpa,
                           "two breakpoints overlap: they take two bytes on this host");
        }
        patch->users++;
        return VMMHPC_OK;
    }
    for (uint32_t i = 0; i < VH_PATCHES_MAX; i++) {
        patch = &debug->patches[i];
        if (patch->users == 0) {
            *patch = (struct vh_patch){
                .gpa = gpa, .users = 1, .original = *at, .trap = trap, .in = true};
            write_byte(vm, gpa, trap);
            return VMMHPC_OK;
        }
    }
    return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_PATCHES_MAX, "too many breakpoints");
}

void vh_debug_drop_patch(struct vmmhpc *vm, uint64_t gpa)
{
    struct vh_patch *patch = vh_debug_patch_at(atomic_load(&vm->debug), gpa);
    if (patch != NULL && --patch->users == 0 && patch->in) {
        write_byte(vm, gpa, patch->original);
        patch->in = false;
    }
}

/*
 * OUT with its port in the instruction takes two bytes. Over an instruction of one byte the second
 * one may be jumped to, so there OUT DX, AL stands. Whatever is in DX: but for the few ports that
 * KVM has devices of its own at it comes out. PUSH is not among these: functions begin with it, and
 * nothing jumps behind it.
 */
static bool is_short(uint8_t opcode)
{
    return (opcode >= 0x58 && opcode <= 0x5f) || opcode == 0x90 || opcode == 0x98 ||
           opcode == 0x99 || opcode == 0x9c || opcode == 0x9d ||
           (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf) ||
           opcode == 0xc3 || opcode == 0xc9 || opcode == 0xcf ||
           (opcode >= 0xec && opcode <= 0xef) || opcode == 0xf4 || opcode == 0xf5 ||
           (opcode >= 0xf8 && opcode <= 0xfd);
}

/* The guest's byte, whatever is in memory now. */
static bool original_at(const struct vmmhpc *vm, uint64_t gpa, uint8_t *byte)
{
    const struct vh_patch *patch = vh_debug_patch_at(atomic_load(&vm->debug), gpa);
    const uint8_t *at = vh_memory_at(&vm->memory, gpa, 1);
    if (at != NULL) {
        *byte = patch != NULL ? patch->original : *at;
    }
    return at != NULL;
}

static int32_t take_both(struct vmmhpc *vm, const uint64_t gpa[2], struct vmmhpc_error *err)
{
    int32_t status = vh_debug_take_patch(vm, gpa[0], VH_TRAP_OUT, err);
    if (status == VMMHPC_OK) {
        status = vh_debug_take_patch(vm, gpa[1], VH_TRAP_PORT, err);
        if (status != VMMHPC_OK) {
            vh_debug_drop_patch(vm, gpa[0]);
        }
    }
    return status;
}

int32_t vh_debug_take_out(struct vmmhpc *vm, struct vh_break *added, struct vmmhpc_error *err)
{
    uint8_t opcode = 0;
    bool one = original_at(vm, added->gpa[0], &opcode) && is_short(opcode);
    added->patch_count = one ? 1 : 2;
    return one ? vh_debug_take_patch(vm, added->gpa[0], VH_TRAP_OUT_DX, err)
               : take_both(vm, added->gpa, err);
}

/* Where a vCPU's handler for INT3 is (AMD64 manual, volume 2, 8.9). */
static bool handler_of(const struct vh_vcpu *vcpu, uint64_t *address)
{
    struct kvm_sregs s;
    uint64_t gate[2];
    uint64_t gpa = 0;
    bool user = false;
    if (ioctl(vcpu->fd, KVM_GET_SREGS, &s) != 0 || (s.efer & EFER_LMA) == 0 ||
        s.idt.limit + 1u < (IDT_INT3 + 1) * GATE_BYTES ||
        !vh_debug_find(vcpu, s.idt.base + (uint64_t)IDT_INT3 * GATE_BYTES, &gpa, &user)) {
        return false;
    }
    const void *at = vh_memory_at(&vcpu->vm->memory, gpa, sizeof(gate));
    if (at == NULL) {
        return false;
    }
    memcpy(gate, at, sizeof(gate));
    *address = (gate[0] & 0xffff) | (gate[0] >> 48) << 16 | gate[1] << 32;
    return (gate[0] >> 40 & 0xee) == 0xee; /* a present gate that user mode may use */
}

static int32_t hook(const struct vh_vcpu *vcpu, struct vmmhpc_error *err)
{
    struct vmmhpc *vm = vcpu->vm;
    struct vh_debug *debug = atomic_load(&vm->debug);
    struct vh_hook added = {0};
    bool user = false;
    if (!handler_of(vcpu, &added.address) ||
        !vh_debug_find(vcpu, added.address, &added.gpa[0], &user) ||
        !vh_debug_find(vcpu, added.address + 1, &added.gpa[1], &user)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, vcpu->index,
                       "on this host breakpoints in user mode need the guest's handler for INT3, "
                       "which is not set up yet");
    }
    for (uint32_t i = 0; i < debug->hook_count; i++) {
        if (debug->hooks[i].address == added.address) {
            return VMMHPC_OK;
        }
    }
    if (debug->hook_count == VH_HOOKS_MAX) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, VH_HOOKS_MAX, "too many handlers for INT3");
    }
    int32_t status = take_both(vm, added.gpa, err);
    if (status == VMMHPC_OK) {
        debug->hooks[debug->hook_count++] = added;
    }
    return status;
}

int32_t vh_debug_hook(struct vmmhpc *vm, uint32_t first, struct vmmhpc_error *err)
{
    int32_t status = hook(&vm->vcpus[first], err);
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->cpus; i++) {
        uint64_t unused = 0;
        if (handler_of(&vm->vcpus[i], &unused)) { /* one that is not started has none */
            status = hook(&vm->vcpus[i], err);
        }
    }
    return status;
}

void vh_debug_unhook(struct vmmhpc *vm)
{
    struct vh_debug *debug = atomic_load(&vm->debug);
    for (uint32_t i = 0; i < VMMHPC_BREAKS_MAX; i++) {
        if (debug->breaks[i].used && debug->breaks[i].in_user) {
            return;
        }
    }
    for (uint32_t i = 0; i < debug->hook_count; i++) {
        vh_debug_drop_patch(vm, debug->hooks[i].gpa[0]);
        vh_debug_drop_patch(vm, debug->hooks[i].gpa[1]);
    }
    debug->hook_count = 0;
}
