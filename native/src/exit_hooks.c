/* SPDX-License-Identifier: Apache-2.0 */
/* Exit hooks: what modules see of an exit before the machine handles it. */
#include <string.h>

#include "machine.h"

/* The exit as hooks see it: of KVM's structure only what it is about. */
static void describe(const struct vh_vcpu *vcpu, struct vmmhpc_module_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    *exit = (struct vmmhpc_module_exit){
        .size = sizeof(*exit), .vcpu = vcpu->index, .reason = run->exit_reason};
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        exit->direction =
            run->io.direction == KVM_EXIT_IO_OUT ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ;
        exit->address = run->io.port;
        exit->bytes = run->io.size;
        exit->count = run->io.count;
        exit->data = (uint8_t *)run + run->io.data_offset;
        break;
    case KVM_EXIT_MMIO:
        exit->direction = run->mmio.is_write != 0 ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ;
        exit->address = run->mmio.phys_addr;
        exit->bytes = run->mmio.len > 8 ? 8 : run->mmio.len;
        exit->count = 1;
        exit->data = run->mmio.data;
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        exit->detail = run->internal.suberror;
        break;
    case KVM_EXIT_FAIL_ENTRY:
        exit->detail = run->fail_entry.hardware_entry_failure_reason;
        break;
    case KVM_EXIT_UNKNOWN:
        exit->detail = run->hw.hardware_exit_reason;
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        exit->detail = run->system_event.type;
        break;
    default:
        break;
    }
    if (exit->count == 1 && exit->direction == VMMHPC_ACCESS_WRITE) {
        memcpy(&exit->value, exit->data, exit->bytes);
    } else if (exit->count == 1) {
        exit->value = UINT64_MAX;
    }
}

static bool wants(const struct vh_part *part, uint32_t reason)
{
    return part->reasons == 0 || (reason < 64 && (part->reasons >> reason & 1) != 0);
}

/* What one hook has decided; a module that has failed lets everything pass. */
static int32_t ask(struct vh_part *part, const struct vmmhpc_module_exit *exit)
{
    if (!wants(part, exit->reason) || !vh_module_alive(part->module)) {
        return VMMHPC_HOOK_PASS;
    }
    vh_module_count(&part->module->hook_calls);
    struct vmmhpc_module_exit view = *exit; /* its own: the next one sees what came */
    int32_t action = part->call.hook(part->opaque, &view);
    if (action < 0 || action > VMMHPC_HOOK_STOP) {
        vh_module_fail(part->module, "an exit hook of it failed");
        return VMMHPC_HOOK_PASS;
    }
    if (action != VMMHPC_HOOK_PASS && exit->count == 1 && exit->direction == VMMHPC_ACCESS_READ) {
        memcpy(exit->data, &view.value, exit->bytes);
    }
    return action;
}

/* What belongs to a debugger is no exit of the guest's. */
static bool is_debuggers(const struct vh_vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    return run->exit_reason == KVM_EXIT_DEBUG ||
           (run->exit_reason == KVM_EXIT_IO && run->io.port == VH_TRAP_PORT &&
            atomic_load(&vcpu->vm->debug) != NULL);
}

bool vh_exit_hooks(struct vh_vcpu *vcpu)
{
    const struct vh_table *table =
        atomic_load_explicit(&vcpu->vm->tables[VH_SPACE_HOOK], memory_order_acquire);
    if (table == NULL || table->count == 0 || is_debuggers(vcpu)) {
        return false;
    }
    struct vmmhpc_module_exit exit;
    describe(vcpu, &exit);
    for (uint32_t i = 0; i < table->count; i++) {
        struct vh_part *part = table->ranges[i].opaque;
        int32_t action = ask(part, &exit);
        if (action == VMMHPC_HOOK_STOP) {
            vh_request(vcpu->vm, VH_WANT_STOP, VMMHPC_STOP_REQUEST, "stopped by an exit hook");
        }
        if (action != VMMHPC_HOOK_PASS) {
            return true;
        }
    }
    return false;
}
