/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: configuration space, BARs, and the way of a memory access to the device that decodes it.
 */
#include <stdlib.h>
#include <string.h>

#include "guest_cpuid.h"
#include "layout.h"
#include "machine.h"
#include "pci/pci.h"

#define BRIDGE_ID 0x00081b36u /* 1b36:0008, the generic PCI Express host bridge */
#define BRIDGE_CLASS 0x06000000u
#define FIRST_CAPABILITY 0x40u
#define BAR_TYPE_64 0x4u
#define WINDOW_MOST (64ull * VH_GIB)
#define COMMAND_WRITABLE (VH_PCI_COMMAND_MEMORY | VH_PCI_COMMAND_MASTER | VH_PCI_COMMAND_INTX_OFF)

static uint32_t get(const uint8_t *config, uint32_t offset, uint32_t bytes)
{
    uint32_t value = 0;
    memcpy(&value, config + offset, bytes);
    return value;
}

static void put(uint8_t *config, uint32_t offset, uint32_t bytes, uint32_t value)
{
    memcpy(config + offset, &value, bytes);
}

/* ------------------------------------------------------------------ BARs */

static uint64_t programmed(const struct vh_pci_device *device, uint32_t bar)
{
    uint64_t value = 0;
    memcpy(&value, device->config + VH_PCI_BAR0 + (size_t)8 * bar, 8);
    return value & ~0xfull;
}

/* Not over RAM, nor over what the machine decodes by itself: KVM would never ask us there. */
bool vh_pci_may_decode(const struct vmmhpc *vm, uint64_t gpa, uint64_t bytes)
{
    const struct vh_pci_bus *bus = &vm->pci;
    const struct {
        uint64_t gpa;
        uint64_t bytes;
    } windows[] = {{VH_PCI_WINDOW_GPA, VH_PCI_WINDOW_BYTES}, {bus->window_gpa, bus->window_bytes}};
    for (size_t i = 0; i < VH_COUNT(windows); i++) {
        if (gpa >= windows[i].gpa && gpa - windows[i].gpa < windows[i].bytes &&
            bytes <= windows[i].bytes - (gpa - windows[i].gpa)) {
            return true;
        }
    }
    return false;
}

/* The command register or a BAR changed: see where each BAR is decoded now. */
static void update_bars(struct vh_pci_device *device)
{
    bool on = (get(device->config, VH_PCI_COMMAND, 2) & VH_PCI_COMMAND_MEMORY) != 0;
    for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
        struct vh_pci_bar *bar = &device->bars[i];
        if (bar->bytes == 0) {
            continue;
        }
        uint64_t gpa = programmed(device, i);
        if (!on || !vh_pci_may_decode(device->vm, gpa, bar->bytes)) {
            gpa = VH_PCI_NOWHERE;
        }
        if (gpa != bar->gpa) {
            bar->gpa = gpa;
            if (device->ops->bar_moved != NULL) {
                device->ops->bar_moved(device, i, gpa);
            }
        }
    }
}

static struct vh_pci_device *find(struct vh_pci_bus *bus, uint64_t gpa, uint32_t bytes,
                                  uint32_t *bar, uint64_t *offset)
{
    for (uint32_t slot = 1; slot < bus->count; slot++) {
        struct vh_pci_device *device = bus->devices[slot];
        for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
            const struct vh_pci_bar *b = &device->bars[i];
            if (b->bytes != 0 && b->gpa != VH_PCI_NOWHERE && gpa >= b->gpa &&
                gpa - b->gpa < b->bytes && bytes <= b->bytes - (gpa - b->gpa)) {
                *bar = i;
                *offset = gpa - b->gpa;
                return device;
            }
        }
        if (device->ops->decodes != NULL && device->ops->decodes(device, gpa, bytes, bar, offset)) {
            return device;
        }
    }
    return NULL;
}

static uint64_t access_window(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint32_t direction,
                              uint64_t value)
{
    struct vh_pci_bus *bus = &vm->pci;
    uint32_t bar = 0;
    uint64_t offset = 0;
    (void)pthread_mutex_lock(&bus->lock);
    struct vh_pci_device *device = find(bus, gpa, bytes, &bar, &offset);
    (void)pthread_mutex_unlock(&bus->lock);
    if (device == NULL) {
        return UINT64_MAX;
    }
    if (device->msix.count != 0 && device->msix.bar == bar) {
        return vh_msix_access(device, offset, bytes, direction, value);
    }
    return device->ops->bar_access(device, bar, offset, bytes, direction, value);
}

static uint64_t window_32(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                          uint32_t direction, uint64_t value)
{
    (void)vcpu;
    return access_window(opaque, VH_PCI_WINDOW_GPA + offset, bytes, direction, value);
}

static uint64_t window_64(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                          uint32_t direction, uint64_t value)
{
    struct vmmhpc *vm = opaque;
    (void)vcpu;
    return access_window(vm, vm->pci.window_gpa + offset, bytes, direction, value);
}

/* ------------------------------------------------------------------ configuration space */

static bool hooked(const struct vh_pci_device *device, uint32_t offset)
{
    return offset >= device->hook_from && offset < device->hook_end;
}

uint32_t vh_pci_config_read(struct vh_pci_bus *bus, uint32_t slot, uint32_t offset, uint32_t bytes)
{
    (void)pthread_mutex_lock(&bus->lock);
    uint32_t value = (uint32_t)vh_ones(bytes);
    if (slot == 0) {
        value = offset < 4        ? BRIDGE_ID >> (8 * offset)
                : offset / 4 == 2 ? BRIDGE_CLASS >> (8 * (offset % 4))
                                  : 0;
    } else if (slot < bus->count && offset >= VH_PCI_CONFIG_BYTES) {
        value = 0; /* no extended capabilities */
    } else if (slot < bus->count) {
        struct vh_pci_device *device = bus->devices[slot];
        if (hooked(device, offset)) {
            device->ops->config_read(device, offset, bytes);
        }
        value = get(device->config, offset, bytes);
        if (offset <= VH_PCI_STATUS && offset + bytes > VH_PCI_STATUS &&
            __atomic_load_n(&device->intx_asserted, __ATOMIC_RELAXED)) {
            value |= (uint32_t)VH_PCI_STATUS_INTX << (8 * (VH_PCI_STATUS - offset));
        }
    }
    (void)pthread_mutex_unlock(&bus->lock);
    return value & (uint32_t)vh_ones(bytes);
}

static void config_changed(struct vh_pci_device *device, uint32_t offset, uint32_t bytes)
{
    if (offset < VH_PCI_BAR0 + 8 * VH_PCI_BARS) {
        update_bars(device);
    }
    if (offset <= VH_PCI_COMMAND + 1 && offset + bytes > VH_PCI_COMMAND &&
        (get(device->config, VH_PCI_COMMAND, 2) & VH_PCI_COMMAND_INTX_OFF) != 0) {
        vh_intx_set(device, false);
    }
    uint32_t control = device->msix.capability + 2;
    if (device->msix.count != 0 && offset < control + 2 && offset + bytes > control) {
        vh_msix_control(device);
    }
    if (hooked(device, offset)) {
        device->ops->config_written(device, offset, bytes);
    }
}

void vh_pci_config_write(struct vh_pci_bus *bus, uint32_t slot, uint32_t offset, uint32_t bytes,
                         uint32_t value)
{
    (void)pthread_mutex_lock(&bus->lock);
    if (slot > 0 && slot < bus->count && offset < VH_PCI_CONFIG_BYTES) {
        struct vh_pci_device *device = bus->devices[slot];
        for (uint32_t i = 0; i < bytes; i++) {
            uint8_t mask = device->writable[offset + i];
            uint8_t *byte = &device->config[offset + i];
            *byte = (uint8_t)((*byte & ~mask) | (value >> (8 * i) & mask));
        }
        config_changed(device, offset, bytes);
    }
    (void)pthread_mutex_unlock(&bus->lock);
}

/* Bus 0 only: 32 slots of 8 functions of 4 KiB. */
static uint64_t ecam(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                     uint32_t direction, uint64_t value)
{
    struct vh_pci_bus *bus = opaque;
    uint32_t reg = (uint32_t)offset & 0xfff;
    (void)vcpu;
    /* PCIe 5.0, 7.2.2: not across a doubleword. */
    if ((offset >> 12 & 7) != 0 || bytes > 4 || reg % 4 + bytes > 4) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_READ) {
        return vh_pci_config_read(bus, (uint32_t)(offset >> 15), reg, bytes);
    }
    vh_pci_config_write(bus, (uint32_t)(offset >> 15), reg, bytes, (uint32_t)value);
    return 0;
}

/* ------------------------------------------------------------------ adding devices */

/* The first device: the windows, and ECAM. */
int32_t vh_pci_open(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    struct vh_pci_bus *bus = &vm->pci;
    if (bus->window_bytes != 0) {
        return VMMHPC_OK;
    }
    uint32_t bits = vh_cpuid_physical_bits(vm->kvm_fd);
    uint64_t top = 1ull << bits;
    uint64_t start = vh_memory_end(&vm->memory);
    if (!vh_align_up(start, VH_GIB, &start) || start >= top || top - start < VH_GIB) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, start,
                       "no room for PCI devices above RAM: guest addresses have %u bits", bits);
    }
    bus->window_gpa = start;
    bus->window_bytes = top - start < WINDOW_MOST ? top - start : WINDOW_MOST;
    /* Memory devices take the upper half: see vh_kvm_add_memory(). */
    bus->window_bytes /= 2;
    bus->next_bar = start;
    int32_t status =
        vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, VH_ECAM_GPA, VH_ECAM_BYTES, ecam, bus, NULL, err);
    if (status == VMMHPC_OK) {
        status = vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, VH_PCI_WINDOW_GPA, VH_PCI_WINDOW_BYTES,
                                   window_32, vm, NULL, err);
    }
    if (status == VMMHPC_OK) {
        status = vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, bus->window_gpa, bus->window_bytes,
                                   window_64, vm, NULL, err);
    }
    return status == VMMHPC_OK ? vh_intx_open(vm, err) : status;
}

/* As firmware would leave it: BARs assigned, decoding off. */
static void power_on(struct vh_pci_device *device)
{
    put(device->config, VH_PCI_COMMAND, 2, 0);
    put(device->config, VH_PCI_INTERRUPT_LINE, 1, 0);
    for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
        if (device->bars[i].bytes != 0) {
            uint64_t value = device->bar_home[i] | BAR_TYPE_64;
            memcpy(device->config + VH_PCI_BAR0 + (size_t)8 * i, &value, 8);
        }
    }
    update_bars(device);
}

static int32_t place_bars(struct vmmhpc *vm, struct vh_pci_device *device, struct vmmhpc_error *err)
{
    struct vh_pci_bus *bus = &vm->pci;
    for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
        uint64_t bytes = device->bar_bytes[i];
        uint64_t gpa = 0;
        device->bars[i] = (struct vh_pci_bar){.bytes = bytes, .gpa = VH_PCI_NOWHERE};
        if (bytes == 0) {
            continue;
        }
        if (!vh_align_up(bus->next_bar, bytes, &gpa) || !vh_pci_may_decode(vm, gpa, bytes)) {
            return vh_fail(err, VMMHPC_E_NO_ROOM, 0, bytes, "no room for a BAR of %llu bytes",
                           (unsigned long long)bytes);
        }
        device->bar_home[i] = gpa;
        bus->next_bar = gpa + bytes;
        uint64_t mask = ~(bytes - 1);
        memcpy(device->writable + VH_PCI_BAR0 + (size_t)8 * i, &mask, 8);
    }
    return VMMHPC_OK;
}

uint32_t vh_pci_capability(struct vh_pci_device *device, uint8_t id, uint32_t bytes)
{
    uint32_t offset = device->capabilities_end;
    if (bytes > VH_PCI_CONFIG_BYTES - offset) {
        return 0;
    }
    device->capabilities_end = (offset + bytes + 3) & ~3u;
    device->config[offset] = id;
    device
        ->config[device->last_capability == 0 ? VH_PCI_CAPABILITIES : device->last_capability + 1] =
        (uint8_t)offset;
    device->last_capability = offset;
    device->config[VH_PCI_STATUS] |= VH_PCI_STATUS_CAPABILITIES;
    return offset;
}

int32_t vh_pci_add(struct vmmhpc *vm, struct vh_pci_device *device, struct vmmhpc_error *err)
{
    struct vh_pci_bus *bus = &vm->pci;
    if (atomic_load(&vm->state) != VMMHPC_STATE_CREATED || vm->recipe.present) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0,
                       "PCI devices are added before the guest is loaded");
    }
    if (bus->count >= VH_PCI_SLOTS) {
        return vh_fail(err, VMMHPC_E_LIMIT, 0, bus->count, "the PCI bus has 31 slots for devices");
    }
    int32_t status = vh_pci_open(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    device->vm = vm;
    device->slot = bus->count;
    device->capabilities_end = FIRST_CAPABILITY;
    put(device->config, VH_PCI_ID, 4, device->vendor_device);
    put(device->config, VH_PCI_CLASS, 4, device->class_revision);
    put(device->config, VH_PCI_SUBSYSTEM, 4, device->subsystem);
    put(device->config, VH_PCI_INTERRUPT_PIN, 1, 1); /* INTA */
    put(device->writable, VH_PCI_COMMAND, 2, COMMAND_WRITABLE);
    put(device->writable, VH_PCI_INTERRUPT_LINE, 1, 0xff);
    status = place_bars(vm, device, err);
    if (status == VMMHPC_OK && device->msix_vectors != 0) {
        status = vh_msix_init(device, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&bus->lock);
    bus->devices[bus->count++] = device;
    power_on(device);
    (void)pthread_mutex_unlock(&bus->lock);
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ life */

int32_t vh_pci_init(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    vm->pci.count = 1;
    int failed = pthread_mutex_init(&vm->pci.lock, NULL);
    if (failed == 0) {
        failed = pthread_mutex_init(&vm->pci.intx_lock, NULL);
    }
    if (failed != 0) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, 0, "no locks for the PCI bus");
    }
    vh_intx_init(vm);
    return VMMHPC_OK;
}

void vh_pci_reset(struct vmmhpc *vm)
{
    struct vh_pci_bus *bus = &vm->pci;
    atomic_store_explicit(&bus->address, 0, memory_order_relaxed);
    for (uint32_t slot = 1; slot < bus->count; slot++) {
        struct vh_pci_device *device = bus->devices[slot];
        device->ops->reset(device);
        (void)pthread_mutex_lock(&bus->lock);
        power_on(device);
        (void)pthread_mutex_unlock(&bus->lock);
        if (device->msix.count != 0) {
            vh_msix_reset(device);
        }
    }
    vh_intx_reset(vm);
}

void vh_pci_destroy(struct vmmhpc *vm)
{
    struct vh_pci_bus *bus = &vm->pci;
    for (uint32_t slot = 1; slot < bus->count; slot++) {
        struct vh_pci_device *device = bus->devices[slot];
        vh_msix_destroy(device);
        device->ops->destroy(device);
    }
    bus->count = 0;
    vh_intx_destroy(vm);
    (void)pthread_mutex_destroy(&bus->intx_lock);
    (void)pthread_mutex_destroy(&bus->lock);
}
