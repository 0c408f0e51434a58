/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: the eventfd that the host's handler signals is an irqfd of KVM's, so that neither
 * comes by here. MSI-X vectors are those of pci/msix.c, where masking one holds its signal back:
 * the device's own vectors are never masked. INTx is masked by the host when it comes, and let
 * through again when KVM says (KVM_IRQFD_FLAG_RESAMPLE) that the guest has ended it.
 */
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "device.h"
#include "layout.h"

static bool set(const struct vh_vfio *vfio, uint32_t index, uint32_t action, const int *fds,
                uint32_t count)
{
    union {
        struct vfio_irq_set head;
        uint8_t bytes[sizeof(struct vfio_irq_set) + VH_MSIX_VECTORS_MAX * sizeof(int)];
    } request = {
        .head = {
            .argsz = (uint32_t)(sizeof(struct vfio_irq_set) + count * sizeof(int)),
            .flags = action | (count > 0 ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
            .index = index,
            .count = count,
        }};
    if (count > 0) {
        memcpy(request.bytes + sizeof(struct vfio_irq_set), fds, count * sizeof(int));
    }
    return ioctl(vfio->function.device, VFIO_DEVICE_SET_IRQS, &request) == 0;
}

static void forget_signals(int fd)
{
    eventfd_t count = 0;
    (void)eventfd_read(fd, &count);
}

static void leave(struct vh_vfio *vfio)
{
    if (vfio->interrupts == VH_VFIO_IRQ_MSIX) {
        (void)set(vfio, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
    } else if (vfio->interrupts == VH_VFIO_IRQ_INTX) {
        (void)set(vfio, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
        vfio->core->irqfd_unbind(vfio->pci.vm, vfio->intx_fd,
                                 VH_PCI_FIRST_GSI + VH_PCI_LINE(vfio->pci.slot));
        forget_signals(vfio->intx_fd);
        forget_signals(vfio->unmask_fd);
    }
    vfio->interrupts = VH_VFIO_IRQ_NONE;
}

static bool enter_msix(struct vh_vfio *vfio)
{
    int fds[VH_MSIX_VECTORS_MAX];
    const struct vh_msix *msix = &vfio->pci.msix;
    for (uint32_t i = 0; i < msix->count; i++) {
        fds[i] = msix->vectors[i].fd;
    }
    return set(vfio, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, fds, msix->count);
}

static bool enter_intx(struct vh_vfio *vfio)
{
    return vfio->core->irqfd_bind(vfio->pci.vm, vfio->intx_fd, vfio->unmask_fd,
                                  VH_PCI_FIRST_GSI + VH_PCI_LINE(vfio->pci.slot),
                                  NULL) == VMMHPC_OK &&
           set(vfio, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, &vfio->intx_fd, 1) &&
           set(vfio, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, &vfio->unmask_fd, 1);
}

static enum vh_vfio_interrupts wanted(const struct vh_vfio *vfio)
{
    if (vfio->pci.msix.count > 0 && atomic_load(&vfio->pci.msix.enabled)) {
        return VH_VFIO_IRQ_MSIX;
    }
    const bool works = (vfio->command & (VH_PCI_COMMAND_MEMORY | VH_PCI_COMMAND_MASTER)) != 0;
    return vfio->function.intx && works && (vfio->command & VH_PCI_COMMAND_INTX_OFF) == 0
               ? VH_VFIO_IRQ_INTX
               : VH_VFIO_IRQ_NONE;
}

void vh_vfio_interrupts(struct vh_vfio *vfio, bool off)
{
    const enum vh_vfio_interrupts want = off ? VH_VFIO_IRQ_NONE : wanted(vfio);
    if (want == vfio->interrupts) {
        return;
    }
    leave(vfio); /* the kernel has one kind at a time */
    vfio->interrupts = want;
    if ((want == VH_VFIO_IRQ_MSIX && !enter_msix(vfio)) ||
        (want == VH_VFIO_IRQ_INTX && !enter_intx(vfio))) {
        leave(vfio); /* there is nobody to tell: the guest sees none */
    }
}
