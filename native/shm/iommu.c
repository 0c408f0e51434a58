/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An IOMMU for the device alone (Intel VT-d 3.4, chapter 11; DMAR: chapter 8). Linux's VFIO hands
 * nothing to user space that has none, and VFIO is how a program of an unchanged Linux has
 * interrupts by MSI-X. The device reads and writes no memory by itself, so there is nothing to
 * translate: it takes commands, and says that they are done.
 */
#include "acpi_tables.h"
#include "device.h"
#include "layout.h"

#define PAGE_SHIFT 12u

/* Registers, by offset. */
enum {
    VERSION = 0x00,
    CAPABILITY = 0x08,
    EXTENDED = 0x10,
    COMMAND = 0x18,
    STATUS = 0x1c,
    ROOT = 0x20,
    CONTEXT = 0x28, /* 64 bits: invalidate what is known of contexts */
    EVENT_CONTROL = 0x38,
    EVENT_DATA = 0x3c,
    EVENT_ADDRESS = 0x40,
    EVENT_END = 0x48,
    FAULTS = 0xe0, /* one record, which stays empty */
    IOTLB = 0xf8,  /* 64 bits: invalidate translations; their address before it */
};

#define VERSION_1_0 0x10u
#define TRANSLATE 0x80000000u /* in COMMAND and STATUS */
#define SET_ROOT 0x40000000u  /* likewise */
#define DONE_MASK 0x7fffffffffffffffull
/* 256 domains, four levels of tables, 48 bits; where the fault record is. */
#define CAPABILITIES (2ull | 1ull << 10 | 47ull << 16 | (uint64_t)FAULTS / 16 << 24)
/* Coherent with caches, snoops when it is asked to; where the IOTLB's registers are. */
#define EXTENDED_CAPABILITIES (1ull | 1ull << 7 | (uint64_t)(IOTLB - 8) / 16 << 8)

static uint64_t read_register(const struct vh_shm *shm, uint64_t offset, uint32_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, shm->iommu + offset, bytes);
    return value;
}

static void put(struct vh_shm *shm, uint64_t offset, uint64_t value, uint32_t bytes)
{
    memcpy(shm->iommu + offset, &value, bytes);
}

void vh_shm_iommu_reset(struct vh_shm *shm)
{
    memset(shm->iommu, 0, sizeof(shm->iommu));
    put(shm, VERSION, VERSION_1_0, 4);
    put(shm, CAPABILITY, CAPABILITIES, 8);
    put(shm, EXTENDED, EXTENDED_CAPABILITIES, 8);
}

/* 11.4.4: SRTP is one-shot, TE stays. */
static void command(struct vh_shm *shm, uint32_t value)
{
    const uint32_t root = (uint32_t)read_register(shm, STATUS, 4) & SET_ROOT;
    put(shm, STATUS, (value & (TRANSLATE | SET_ROOT)) | root, 4);
}

/* 11.4.5, 11.4.8.2: bit 63 asks and is 0 when it is done, and what was done is said as it was asked
 * for. */
static void invalidate(struct vh_shm *shm, uint32_t offset, uint64_t value, uint32_t asked,
                       uint32_t did)
{
    value &= DONE_MASK & ~(3ull << did);
    put(shm, offset, value | (value >> asked & 3) << did, 8);
}

static void write_register(struct vh_shm *shm, uint64_t offset, uint32_t bytes, uint64_t value)
{
    if (offset == COMMAND && bytes == 4) {
        command(shm, (uint32_t)value);
    } else if (offset == CONTEXT && bytes == 8) {
        invalidate(shm, CONTEXT, value, 61, 59);
    } else if (offset == IOTLB && bytes == 8) {
        invalidate(shm, IOTLB, value, 60, 57);
    } else if (offset == ROOT || (offset >= EVENT_CONTROL && offset < EVENT_END)) {
        put(shm, offset, value, bytes);
    }
}

static uint64_t access_registers(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                                 uint32_t direction, uint64_t value)
{
    struct vh_shm *shm = opaque;
    uint64_t result = 0;
    (void)vcpu;
    if (bytes < 4 || offset % bytes != 0 || offset >= VH_SHM_IOMMU_BYTES) {
        return 0;
    }
    (void)pthread_mutex_lock(&shm->lock);
    if (direction == VMMHPC_ACCESS_READ) {
        result = read_register(shm, offset, bytes);
    } else {
        write_register(shm, offset, bytes, value);
    }
    (void)pthread_mutex_unlock(&shm->lock);
    return result;
}

static uint64_t home(const struct vh_pci_device *device)
{
    return VH_IOMMU_GPA + ((uint64_t)device->slot << PAGE_SHIFT);
}

/* 8.1, 8.3: a unit for each device of this kind, with no other in its scope. */
static void dmar(struct vh_bytes *out, const struct vh_acpi_context *context)
{
    const struct vh_pci_bus *bus = &context->config->machine->pci;
    vh_emit8(out, 47); /* width of host addresses, less one */
    vh_emit8(out, 0);  /* no interrupt remapping */
    vh_emit_int(out, 0, 8);
    vh_emit_int(out, 0, 2);
    for (uint32_t slot = 0; slot < VH_PCI_SLOTS; slot++) {
        const struct vh_pci_device *device = bus->devices[slot];
        if (device == NULL || device->vendor_device != VH_SHM_VENDOR_DEVICE) {
            continue;
        }
        vh_emit16(out, 0);  /* DRHD */
        vh_emit16(out, 24); /* bytes */
        vh_emit16(out, 0);  /* its scope is what follows; one page of registers */
        vh_emit16(out, 0);  /* segment */
        vh_emit64(out, home(device));
        vh_emit8(out, 1); /* an endpoint */
        vh_emit8(out, 8); /* bytes */
        vh_emit16(out, 0);
        vh_emit8(out, 0); /* enumeration id: others' */
        vh_emit8(out, 0); /* bus */
        vh_emit8(out, slot);
        vh_emit8(out, 0); /* function */
    }
}

int32_t vh_shm_iommu_add(struct vh_shm *shm, struct vmmhpc_error *err)
{
    static const struct vh_acpi_table table = {"DMAR", 1, true, dmar};
    struct vmmhpc *vm = shm->pci.vm;
    bool told = false;
    for (uint32_t i = 0; i < vm->acpi_table_count; i++) {
        told = told || vm->acpi_tables[i].body == dmar;
    }
    if (!told && vm->acpi_table_count == VH_ACPI_FURTHER) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, VH_ACPI_FURTHER, "no room for an ACPI table");
    }
    vh_shm_iommu_reset(shm);
    int32_t status = vmmhpc_device_add(vm, VMMHPC_SPACE_MMIO, home(&shm->pci), VH_PAGE,
                                       access_registers, shm, NULL, err);
    if (status == VMMHPC_OK && !told) {
        vm->acpi_tables[vm->acpi_table_count++] = table;
    }
    return status;
}
