/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI function: configuration, registers, interrupts. */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "remote_ops.h"

#define REGISTERS_BYTES VH_PAGE
#define MSIX_BYTES VH_PAGE
#define CAPABILITY_VENDOR 0x09u
#define CAPABILITY_BYTES 0x18u
#define ANSWER_MS 10000

/* ------------------------------------------------------------------ interrupts */

/*
 * By MSI-X a peer's doorbell is our irqfd (pci/msix.c): nothing of this is at work. By INTx
 * somebody has to keep the status bit in configuration space, without which uio_pci_generic takes
 * no interrupt for its own: the I/O thread. It looks at the doorbells only while it may interrupt.
 */
static bool by_intx(const struct vh_shm *shm)
{
    return shm->interrupts && !shm->intx_masked && !atomic_load(&shm->pci.msix.enabled) &&
           !__atomic_load_n(&shm->pci.intx_asserted, __ATOMIC_RELAXED);
}

/* The device's lock is held. */
static void watch_bells(struct vh_shm *shm)
{
    const uint32_t events = by_intx(shm) ? EPOLLIN : 0;
    for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
        shm->core->io_watch(shm->pci.vm, &shm->bells[i], events);
    }
}

/* I/O thread. */
static void bell_ready(void *opaque, uint32_t events)
{
    struct vh_shm *shm = opaque;
    (void)events;
    (void)pthread_mutex_lock(&shm->lock);
    if (by_intx(shm)) {
        bool rung = false;
        for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
            eventfd_t count = 0;
            rung = eventfd_read(shm->bells[i].fd, &count) == 0 || rung;
        }
        if (rung) {
            shm->core->intx_set(&shm->pci, true);
            watch_bells(shm);
        }
    }
    (void)pthread_mutex_unlock(&shm->lock);
}

void vh_shm_interrupt(struct vh_shm *shm)
{
    (void)eventfd_write(shm->bells[0].fd, 1);
}

/* The interrupt register. The bus's lock is held. */
static void set_interrupts(struct vh_shm *shm, bool on)
{
    (void)pthread_mutex_lock(&shm->lock);
    shm->interrupts = on;
    shm->pci.msix.held = !on;
    shm->core->msix_control(&shm->pci);
    if (!on) {
        shm->core->intx_set(&shm->pci, false);
    }
    watch_bells(shm);
    (void)pthread_mutex_unlock(&shm->lock);
}

/* ------------------------------------------------------------------ what the guest does */

/* KVM signals doorbells by itself; here are those for which it had no room. */
static void doorbell(struct vh_shm *shm, uint32_t value)
{
    const uint32_t peer = value >> 16;
    const uint32_t vector = value & 0xffff;
    (void)pthread_mutex_lock(&shm->lock);
    if (peer < shm->peers && vector < VMMHPC_SHM_VECTORS && shm->others[peer].present) {
        (void)eventfd_write(shm->others[peer].bells[vector], 1);
    }
    (void)pthread_mutex_unlock(&shm->lock);
}

static void write_register(struct vh_shm *shm, uint64_t offset, uint32_t value)
{
    struct vh_pci_bus *bus = &shm->pci.vm->pci;
    switch (offset) {
    case VH_SHM_REG_INTERRUPTS:
        (void)pthread_mutex_lock(&bus->lock);
        set_interrupts(shm, (value & 1) != 0);
        (void)pthread_mutex_unlock(&bus->lock);
        break;
    case VH_SHM_REG_DOORBELL:
        doorbell(shm, value);
        break;
    case VH_SHM_REG_STATE:
        (void)pthread_mutex_lock(&shm->lock);
        shm->state = value;
        vh_shm_link_state(shm);
        (void)pthread_mutex_unlock(&shm->lock);
        break;
    default:
        break;
    }
}

static uint32_t read_register(struct vh_shm *shm, uint64_t offset)
{
    uint32_t value = 0;
    (void)pthread_mutex_lock(&shm->lock);
    switch (offset) {
    case VH_SHM_REG_ID:
        value = shm->id;
        break;
    case VH_SHM_REG_PEERS:
        value = shm->peers;
        break;
    case VH_SHM_REG_INTERRUPTS:
        value = shm->interrupts ? 1 : 0;
        break;
    case VH_SHM_REG_STATE:
        value = shm->state;
        break;
    default:
        break;
    }
    (void)pthread_mutex_unlock(&shm->lock);
    return value;
}

/* In the window only writes to what is read-only come here: they are lost. (Reads, where KVM has no
 * room for the window.) */
static uint64_t bar_access(struct vh_pci_device *device, uint32_t bar, uint64_t offset,
                           uint32_t bytes, uint32_t direction, uint64_t value)
{
    struct vh_shm *shm = vh_shm_of(device);
    if (bar != VH_SHM_BAR_REGISTERS) {
        return UINT64_MAX;
    }
    if (bytes != 4 || offset % 4 != 0) {
        return 0;
    }
    if (direction == VMMHPC_ACCESS_READ) {
        return read_register(shm, offset);
    }
    write_register(shm, offset, (uint32_t)value);
    return 0;
}

static void bar_moved(struct vh_pci_device *device, uint32_t bar, uint64_t gpa)
{
    struct vh_shm *shm = vh_shm_of(device);
    (void)pthread_mutex_lock(&shm->lock);
    if (bar == VH_SHM_BAR_REGISTERS) {
        vh_shm_registers_move(shm, gpa);
    } else if (bar == VH_SHM_BAR_MEMORY) {
        vh_shm_window_move(shm, gpa);
    }
    (void)pthread_mutex_unlock(&shm->lock);
}

static void config_read(struct vh_pci_device *device, uint32_t offset, uint32_t bytes)
{
    (void)device;
    (void)offset;
    (void)bytes;
}

/* How the guest wants its interrupts may be another now. */
static void config_written(struct vh_pci_device *device, uint32_t offset, uint32_t bytes)
{
    struct vh_shm *shm = vh_shm_of(device);
    (void)offset;
    (void)bytes;
    (void)pthread_mutex_lock(&shm->lock);
    shm->intx_masked = (device->config[VH_PCI_COMMAND + 1] & (VH_PCI_COMMAND_INTX_OFF >> 8)) != 0;
    watch_bells(shm);
    (void)pthread_mutex_unlock(&shm->lock);
}

/* Peers see it as one that left and came: its state is 0. What it wrote stays. */
static void reset(struct vh_pci_device *device)
{
    struct vh_shm *shm = vh_shm_of(device);
    (void)pthread_mutex_lock(&shm->lock);
    shm->interrupts = false;
    shm->intx_masked = false;
    device->msix.held = true;
    shm->state = 0;
    vh_shm_iommu_reset(shm);
    vh_shm_link_state(shm);
    watch_bells(shm);
    (void)pthread_mutex_unlock(&shm->lock);
}

static void destroy(struct vh_pci_device *device)
{
    struct vh_shm *shm = vh_shm_of(device);
    for (uint32_t i = 0; i < shm->peers; i++) {
        if (shm->others[i].present) {
            vh_shm_close(shm->others[i].bells, VMMHPC_SHM_VECTORS);
        }
    }
    vh_shm_window_free(shm);
    vh_shm_close(&shm->table_fd, 1);
    vh_shm_close(&shm->link.fd, 1);
    (void)pthread_mutex_destroy(&shm->lock);
    free(shm);
}

static const struct vh_pci_ops ops = {.bar_access = bar_access,
                                      .bar_moved = bar_moved,
                                      .config_read = config_read,
                                      .config_written = config_written,
                                      .reset = reset,
                                      .destroy = destroy};

/* ------------------------------------------------------------------ adding it */

/* The place that the starter took: what the server said of it is still to be read. *common_fd is
 * -1 where there is no common section. */
static int32_t take_place(struct vh_shm *shm, int *area_fd, int *common_fd,
                          struct vmmhpc_error *err)
{
    struct vh_shm_message message = {0};
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    int failed = vh_shm_peek(shm->link.fd, &message, ANSWER_MS);
    if (failed == 0) {
        failed = vh_shm_receive(shm->link.fd, &message, fds, &count);
    }
    const struct vmmhpc_channel_config config = {.size = sizeof(config),
                                                 .peers = message.peers,
                                                 .area_bytes = message.area_bytes,
                                                 .common_bytes = message.common_bytes};
    if (failed != 0 || message.type != VH_SHM_WELCOME ||
        count != (message.common_bytes == 0 ? 2u : 3u) ||
        vh_shm_check(&config, NULL) != VMMHPC_OK || message.peer >= message.peers) {
        vh_shm_close(fds, count);
        return vh_fail(err, VMMHPC_E_INVALID, failed == 0 ? EBADMSG : failed,
                       (uint64_t)(int64_t)shm->link.fd,
                       "descriptor %d is no unused place in a channel", shm->link.fd);
    }
    shm->id = message.peer;
    shm->peers = message.peers;
    shm->area_bytes = message.area_bytes;
    shm->common_bytes = message.common_bytes;
    shm->table_fd = fds[0];
    *area_fd = fds[1];
    *common_fd = count == 3 ? fds[2] : -1;
    return VMMHPC_OK;
}

/* Vendor-specific capability of ivshmem 2: the sizes of the window's parts. */
static bool add_capability(struct vh_shm *shm)
{
    uint32_t at = shm->core->pci_capability(&shm->pci, CAPABILITY_VENDOR, CAPABILITY_BYTES);
    const uint32_t table_bytes = VH_SHM_TABLE_BYTES;
    if (at == 0) {
        return false;
    }
    uint8_t *capability = shm->pci.config + at;
    capability[2] = CAPABILITY_BYTES;
    memcpy(capability + 4, &table_bytes, sizeof(table_bytes));
    memcpy(capability + 8, &shm->common_bytes, sizeof(shm->common_bytes));
    memcpy(capability + 16, &shm->area_bytes, sizeof(shm->area_bytes));
    return true;
}

/* On the bus, and known to the server. From here on the bus owns it. */
static int32_t connect_device(struct vmmhpc *vm, struct vh_shm *shm, struct vmmhpc_error *err)
{
    const struct vh_shm_message message = {.magic = VH_SHM_MAGIC, .type = VH_SHM_READY};
    int bells[VMMHPC_SHM_VECTORS];
    shm->link.ready = vh_shm_link_ready;
    shm->link.opaque = shm;
    int32_t status = add_capability(shm)
                         ? shm->core->io_add(vm, &shm->link, EPOLLIN, err)
                         : vh_fail(err, VMMHPC_E_NO_ROOM, 0, 0, "no room for a capability");
    for (uint32_t i = 0; status == VMMHPC_OK && i < VMMHPC_SHM_VECTORS; i++) {
        bells[i] = shm->pci.msix.vectors[i].fd;
        shm->bells[i] = (struct vh_io_source){.fd = bells[i], .ready = bell_ready, .opaque = shm};
        status = shm->core->io_add(vm, &shm->bells[i], 0, err);
    }
    if (status == VMMHPC_OK) {
        int failed = vh_shm_send(shm->link.fd, &message, bells, VMMHPC_SHM_VECTORS);
        if (failed != 0) {
            status = vh_fail(err, VMMHPC_E_IO, failed, shm->id, "the channel has gone");
        }
    }
    return status;
}

static int32_t new_device(struct vh_shm *shm, struct vmmhpc_error *err)
{
    int area_fd = -1;
    int common_fd = -1;
    int32_t status = take_place(shm, &area_fd, &common_fd, err);
    if (status == VMMHPC_OK) {
        status = vh_shm_window_new(shm, area_fd, common_fd, err);
        vh_shm_close(&area_fd, 1);
        vh_shm_close(&common_fd, 1);
    }
    shm->pci.ops = &ops;
    shm->pci.vendor_device = VH_SHM_VENDOR_DEVICE;
    shm->pci.class_revision = VH_SHM_CLASS;
    shm->pci.subsystem = VH_SHM_VENDOR_DEVICE;
    shm->pci.bar_bytes[VH_SHM_BAR_REGISTERS] = REGISTERS_BYTES;
    shm->pci.bar_bytes[VH_SHM_BAR_MEMORY] = shm->window_bytes;
    shm->pci.bar_bytes[VH_SHM_BAR_MSIX] = MSIX_BYTES;
    shm->pci.msix_vectors = VMMHPC_SHM_VECTORS;
    shm->pci.msix_bar = VH_SHM_BAR_MSIX;
    shm->pci.msix.held = true;
    shm->pci.hook_from = VH_PCI_COMMAND;
    shm->pci.hook_end = VH_PCI_CONFIG_BYTES;
    return status;
}

static int32_t check_call(struct vmmhpc *vm, const struct vmmhpc_shm *config,
                          const struct vh_device_hooks *core, struct vmmhpc_error *err)
{
    (void)vm;
    if (config == NULL || config->size != sizeof(*config)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, config == NULL ? 0 : config->size,
                       "the configuration is missing or of another version");
    }
    if (core->machine_bytes != sizeof(struct vmmhpc)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, core->machine_bytes,
                       "libvmmhpc and libvmmhpc-shm are of different builds");
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_add_shm(struct vmmhpc *vm, const struct vmmhpc_shm *config, uint32_t *id,
                       struct vmmhpc_error *err)
{
    const struct vh_device_hooks *core = vmmhpc_device_hooks();
    int32_t status = check_call(vm, config, core, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (vm->remote != NULL) {
        return vm->remote->ops->add_shm(vm, config, id, err);
    }
    struct vh_shm *shm = calloc(1, sizeof(*shm));
    if (shm == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, sizeof(*shm), "no memory for a device");
    }
    shm->core = core;
    shm->table_fd = -1;
    shm->gpa[0] = shm->gpa[1] = VH_PCI_NOWHERE;
    (void)pthread_mutex_init(&shm->lock, NULL);
    shm->link.fd = fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
    status = shm->link.fd >= 0
                 ? new_device(shm, err)
                 : vh_fail(err, VMMHPC_E_INVALID, errno, (uint64_t)(int64_t)config->fd,
                           "cannot use descriptor %d for a channel", config->fd);
    if (status == VMMHPC_OK) {
        status = core->pci_add(vm, &shm->pci, err);
    }
    if (status != VMMHPC_OK) {
        destroy(&shm->pci);
        return status;
    }
    if (id != NULL) {
        *id = shm->pci.slot;
    }
    status = vh_shm_iommu_add(shm, err);
    return status == VMMHPC_OK ? connect_device(vm, shm, err) : status;
}
