/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and doorbells by descriptor: KVM's GSI routes, irqfd and ioeventfd. All take the
 * machine's kvm_lock; without a KVM VM (between two lives) they do nothing and succeed. */
#ifndef VH_KVM_IRQ_H
#define VH_KVM_IRQ_H

#include "internal.h"

/** A GSI for an MSI, beyond the IOAPIC's pins; they are never given back. E_LIMIT: none is left. */
int32_t vh_irq_new_gsi(struct vmmhpc *vm, uint32_t *gsi, struct vmmhpc_error *err);

/** What writing to `fd` does from now on: send this message. */
int32_t vh_irq_route_msi(struct vmmhpc *vm, uint32_t gsi, uint64_t address, uint32_t data,
                         struct vmmhpc_error *err);

/** Bind an eventfd to a GSI. resample_fd: -1, or what KVM signals when the guest has ended a
 *  level-triggered interrupt, which KVM then has taken back. */
int32_t vh_irqfd_bind(struct vmmhpc *vm, int fd, int resample_fd, uint32_t gsi,
                      struct vmmhpc_error *err);
void vh_irqfd_unbind(struct vmmhpc *vm, int fd, uint32_t gsi);

/** Bind an eventfd to guest writes of any width to one address in memory. */
int32_t vh_ioeventfd_bind(struct vmmhpc *vm, int fd, uint64_t gpa, struct vmmhpc_error *err);
void vh_ioeventfd_unbind(struct vmmhpc *vm, int fd, uint64_t gpa);

/** A new KVM VM: routes as at power-on. kvm_lock is held. */
int32_t vh_irq_reset_routes(struct vmmhpc *vm, struct vmmhpc_error *err);

#endif
