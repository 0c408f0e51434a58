/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and doorbells by descriptor. */
#include "kvm_irq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "layout.h"
#include "machine.h"

/* KVM_MAX_IRQ_ROUTES is 4096, and each MSI has a GSI of its own. */
#define MSI_MAX (4096u - VH_IOAPIC_PINS)

static int32_t failed_ioctl(struct vmmhpc_error *err, const char *what, uint64_t value)
{
    int failed = errno;
    return vh_fail(err, VMMHPC_E_SYSCALL, failed, value, "%s failed: %s", what,
                   vh_errno_text(failed));
}

/*
 * Pins lead to the IOAPIC alone. KVM_CREATE_IRQCHIP also makes a pair of 8259s and wires lines 0 to
 * 15 to both. The machine has none: a guest that believes the MADT leaves LINT0 open, and would
 * take their vectors as exceptions.
 */
static int32_t set_routes(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    const struct vh_msi_routes *msi = &vm->msi;
    size_t count = VH_IOAPIC_PINS;
    size_t bytes = sizeof(struct kvm_irq_routing) +
                   (VH_IOAPIC_PINS + msi->count) * sizeof(struct kvm_irq_routing_entry);
    struct kvm_irq_routing *routing = calloc(1, bytes);
    if (routing == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for interrupt routes");
    }
    for (uint32_t pin = 0; pin < VH_IOAPIC_PINS; pin++) {
        routing->entries[pin] = (struct kvm_irq_routing_entry){
            .gsi = pin,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin},
        };
    }
    for (uint32_t i = 0; i < msi->count; i++) {
        if (!msi->routes[i].used) {
            continue;
        }
        routing->entries[count++] = (struct kvm_irq_routing_entry){
            .gsi = VH_IOAPIC_PINS + i,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (uint32_t)msi->routes[i].address,
                      .address_hi = (uint32_t)(msi->routes[i].address >> 32),
                      .data = msi->routes[i].data},
        };
    }
    routing->nr = (uint32_t)count;
    int result = ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, routing);
    int failed = errno;
    free(routing);
    errno = failed;
    return result == 0 ? VMMHPC_OK : failed_ioctl(err, "KVM_SET_GSI_ROUTING", count);
}

int32_t vh_irq_reset_routes(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < vm->msi.count; i++) {
        vm->msi.routes[i].used = false;
    }
    return set_routes(vm, err);
}

int32_t vh_irq_new_gsi(struct vmmhpc *vm, uint32_t *gsi, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->kvm_lock);
    struct vh_msi_route *routes =
        vm->msi.count < MSI_MAX
            ? realloc(vm->msi.routes, (vm->msi.count + 1) * sizeof(vm->msi.routes[0]))
            : NULL;
    if (routes == NULL) {
        status = vh_fail(err, VMMHPC_E_LIMIT, 0, vm->msi.count, "no more message interrupts");
    } else {
        vm->msi.routes = routes;
        routes[vm->msi.count] = (struct vh_msi_route){.used = false};
        *gsi = VH_IOAPIC_PINS + vm->msi.count++;
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

int32_t vh_irq_route_msi(struct vmmhpc *vm, uint32_t gsi, uint64_t address, uint32_t data,
                         struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->kvm_lock);
    struct vh_msi_route *route = &vm->msi.routes[gsi - VH_IOAPIC_PINS];
    if (!route->used || route->address != address || route->data != data) {
        struct vh_msi_route before = *route;
        *route = (struct vh_msi_route){.address = address, .data = data, .used = true};
        status = vm->vm_fd < 0 ? VMMHPC_OK : set_routes(vm, err);
        if (status != VMMHPC_OK) {
            *route = before;
        }
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

static int32_t irqfd(struct vmmhpc *vm, const struct kvm_irqfd *request, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->kvm_lock);
    if (vm->vm_fd >= 0 && ioctl(vm->vm_fd, KVM_IRQFD, request) != 0) {
        status = failed_ioctl(err, "KVM_IRQFD", request->gsi);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

int32_t vh_irqfd_bind(struct vmmhpc *vm, int fd, int resample_fd, uint32_t gsi,
                      struct vmmhpc_error *err)
{
    struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = gsi};
    if (resample_fd >= 0) {
        request.flags = KVM_IRQFD_FLAG_RESAMPLE;
        request.resamplefd = (uint32_t)resample_fd;
    }
    return irqfd(vm, &request, err);
}

void vh_irqfd_unbind(struct vmmhpc *vm, int fd, uint32_t gsi)
{
    struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
    (void)irqfd(vm, &request, NULL);
}

/* Length 0: a write of any width, for which KVM need not decode the instruction on Intel. */
static int32_t ioeventfd(struct vmmhpc *vm, int fd, uint64_t gpa, uint32_t flags,
                         struct vmmhpc_error *err)
{
    struct kvm_ioeventfd request = {.addr = gpa, .len = 0, .fd = fd, .flags = flags};
    int32_t status = VMMHPC_OK;
    (void)pthread_mutex_lock(&vm->kvm_lock);
    if (vm->vm_fd >= 0 && ioctl(vm->vm_fd, KVM_IOEVENTFD, &request) != 0) {
        status = failed_ioctl(err, "KVM_IOEVENTFD", gpa);
    }
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    return status;
}

int32_t vh_ioeventfd_bind(struct vmmhpc *vm, int fd, uint64_t gpa, struct vmmhpc_error *err)
{
    return ioeventfd(vm, fd, gpa, 0, err);
}

void vh_ioeventfd_unbind(struct vmmhpc *vm, int fd, uint64_t gpa)
{
    (void)ioeventfd(vm, fd, gpa, KVM_IOEVENTFD_FLAG_DEASSIGN, NULL);
}
