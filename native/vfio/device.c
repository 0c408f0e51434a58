/* SPDX-License-Identifier: Apache-2.0 */
/* A function of the host's on the machine's bus: added, reset, given back. */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "remote_ops.h"

/* Whoever has it next, host or guest, finds nothing of this guest in it. */
static void reset_function(struct vh_vfio *vfio)
{
    if (vfio->function.resets) {
        (void)ioctl(vfio->function.device, VFIO_DEVICE_RESET);
    }
}

/* It sends nothing, answers nowhere, and reaches no memory. The bus's lock is held, or nobody else
 * is there. */
static void quieten(struct vh_vfio *vfio)
{
    memset(vfio->pci.config + VH_PCI_COMMAND, 0, 2);
    vh_vfio_command(vfio);
    vh_vfio_interrupts(vfio, true);
    reset_function(vfio);
    vh_vfio_dma_unmap(vfio);
}

static void reset(struct vh_pci_device *device)
{
    struct vh_vfio *vfio = vh_vfio_of(device);
    (void)pthread_mutex_lock(&device->vm->pci.lock);
    quieten(vfio);
    vh_vfio_bars_home(vfio);
    (void)pthread_mutex_unlock(&device->vm->pci.lock);
}

static void destroy(struct vh_pci_device *device)
{
    struct vh_vfio *vfio = vh_vfio_of(device);
    quieten(vfio);
    vh_vfio_free(vfio);
}

static const struct vh_pci_ops ops = {.bar_access = vh_vfio_bar_access,
                                      .decodes = vh_vfio_decodes,
                                      .config_read = vh_vfio_config_read,
                                      .config_written = vh_vfio_config_written,
                                      .reset = reset,
                                      .destroy = destroy};

/* ------------------------------------------------------------------ adding it */

struct vh_vfio *vh_vfio_new(const struct vh_device_hooks *core)
{
    struct vh_vfio *vfio = calloc(1, sizeof(*vfio));
    if (vfio != NULL) {
        vfio->core = core;
        vfio->function.container = vfio->function.group = vfio->function.device = -1;
        vfio->intx_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        vfio->unmask_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return vfio;
}

void vh_vfio_free(struct vh_vfio *vfio)
{
    const int fds[] = {vfio->function.device, vfio->function.group, vfio->function.container,
                       vfio->intx_fd, vfio->unmask_fd};
    vh_vfio_bars_free(vfio);
    for (size_t i = 0; i < VH_COUNT(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    free(vfio);
}

int32_t vh_vfio_add(struct vmmhpc *vm, struct vh_vfio *vfio, struct vmmhpc_error *err)
{
    struct vh_pci_device *pci = &vfio->pci;
    const uint32_t vectors = vfio->function.msix_count;
    pci->ops = &ops;
    /* Not the device's identity, by which libvmmhpc would take some for its own. */
    pci->vendor_device = UINT32_MAX;
    pci->msix_vectors = vectors < VH_MSIX_VECTORS_MAX ? vectors : VH_MSIX_VECTORS_MAX;
    pci->vm = vm;
    int32_t status = VMMHPC_OK;
    if (vfio->function.container >= 0) {
        status = vh_vfio_dma_map(vfio, err);
    }
    if (status == VMMHPC_OK) {
        status = vfio->core->pci_add(vm, pci, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    /* The bus has it; no guest is there yet. */
    status = vh_vfio_config_new(vfio, err);
    if (status == VMMHPC_OK) {
        status = vh_vfio_bars_new(vfio, err);
    }
    if (status == VMMHPC_OK) {
        vh_vfio_bars_home(vfio);
        reset_function(vfio);
        pci->hook_end = VH_PCI_CONFIG_BYTES;
        vh_vfio_command(vfio);
    }
    return status;
}

static int32_t check_call(const struct vmmhpc_vfio *vfio, const struct vh_device_hooks *core,
                          struct vmmhpc_error *err)
{
    if (vfio == NULL || vfio->size != sizeof(*vfio)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, vfio == NULL ? 0 : vfio->size,
                       "the configuration is missing or of another version");
    }
    if (core->machine_bytes != sizeof(struct vmmhpc)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, core->machine_bytes,
                       "libvmmhpc and libvmmhpc-vfio are of different builds");
    }
    return VMMHPC_OK;
}

static int32_t duplicate(struct vh_vfio_function *function, const struct vmmhpc_vfio *vfio,
                         struct vmmhpc_error *err)
{
    function->container = fcntl(vfio->container, F_DUPFD_CLOEXEC, 0);
    function->group = fcntl(vfio->group, F_DUPFD_CLOEXEC, 0);
    function->device = fcntl(vfio->device, F_DUPFD_CLOEXEC, 0);
    if (function->container < 0 || function->group < 0 || function->device < 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(int64_t)vfio->device,
                       "cannot use descriptors %d, %d and %d for a device", vfio->container,
                       vfio->group, vfio->device);
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_add_vfio(struct vmmhpc *vm, const struct vmmhpc_vfio *config, uint32_t *id,
                        struct vmmhpc_error *err)
{
    const struct vh_device_hooks *core = vmmhpc_device_hooks();
    int32_t status = check_call(config, core, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->add_vfio(vm, config, id, err);
    }
    struct vh_vfio *vfio = vh_vfio_new(core);
    if (vfio == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*vfio), "no memory for a device");
    }
    status = duplicate(&vfio->function, config, err);
    if (status == VMMHPC_OK) {
        status = vh_vfio_describe(&vfio->function, err);
    }
    const uint32_t before = vm->pci.count;
    if (status == VMMHPC_OK) {
        status = vh_vfio_add(vm, vfio, err);
    }
    if (status != VMMHPC_OK && vm->pci.count == before) {
        vh_vfio_free(vfio); /* the bus has not got it */
        return status;
    }
    if (id != NULL) {
        *id = vfio->pci.slot;
    }
    return status;
}
