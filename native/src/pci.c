/* SPDX-License-Identifier: Apache-2.0 */
#include "pci.h"

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu     /* enable, bus, device, function, register: the rest reads 0 */
#define ADDRESS_FUNCTION 0x00ffff00u /* bus, device, function */
#define DATA_OFFSET 4u               /* 0xcfc */

#define REGISTER_ID 0x00u
#define REGISTER_CLASS 0x08u
#define ID 0x00081b36u /* 1b36:0008, the generic PCI Express host bridge */
#define CLASS_HOST_BRIDGE 0x06000000u

/* The aligned register that an address names. */
static uint32_t read_config(uint32_t address)
{
    if ((address & ADDRESS_ENABLE) == 0 || (address & ADDRESS_FUNCTION) != 0) {
        return UINT32_MAX; /* nobody there */
    }
    switch (address & 0xfc) {
    case REGISTER_ID:
        return ID;
    case REGISTER_CLASS:
        return CLASS_HOST_BRIDGE;
    default:
        return 0; /* one function, no BARs, no capabilities, no interrupt; nothing can be written */
    }
}

uint64_t vh_pci_access(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                       uint32_t direction, uint64_t value)
{
    struct vh_pci *pci = opaque;
    (void)vcpu;
    if (offset >= DATA_OFFSET) {
        uint32_t address = atomic_load_explicit(&pci->address, memory_order_relaxed);
        return direction == VMMHPC_ACCESS_READ
                   ? read_config(address) >> (8 * (offset - DATA_OFFSET))
                   : 0;
    }
    /* The address is a register of 32 bits: narrower accesses are to other things on this bus. */
    if (offset != 0 || bytes != 4) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_WRITE) {
        atomic_store_explicit(&pci->address, (uint32_t)value & ADDRESS_BITS, memory_order_relaxed);
    }
    return atomic_load_explicit(&pci->address, memory_order_relaxed);
}

void vh_pci_reset(struct vh_pci *pci)
{
    atomic_store_explicit(&pci->address, 0, memory_order_relaxed);
}
