/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration by ports. */
#include "pci/pci.h"

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu /* enable, bus, device, function, register: the rest reads 0 */
#define ADDRESS_BUS 0x00ff0000u
#define ADDRESS_FUNCTION 0x00000700u
#define DATA_OFFSET 4u /* 0xcfc */

static uint64_t access_data(struct vh_pci_bus *bus, uint32_t byte, uint32_t bytes,
                            uint32_t direction, uint64_t value)
{
    uint32_t address = atomic_load_explicit(&bus->address, memory_order_relaxed);
    /* The data port is four bytes wide. */
    if ((address & ADDRESS_ENABLE) == 0 || (address & (ADDRESS_BUS | ADDRESS_FUNCTION)) != 0 ||
        byte + bytes > 4) {
        return UINT64_MAX;
    }
    uint32_t slot = address >> 11 & 31;
    uint32_t offset = (address & 0xfc) + byte;
    if (direction == VMMHPC_ACCESS_READ) {
        return vh_pci_config_read(bus, slot, offset, bytes);
    }
    vh_pci_config_write(bus, slot, offset, bytes, (uint32_t)value);
    return 0;
}

uint64_t vh_pci_ports(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                      uint32_t direction, uint64_t value)
{
    struct vh_pci_bus *bus = opaque;
    (void)vcpu;
    if (offset >= DATA_OFFSET) {
        return access_data(bus, (uint32_t)offset - DATA_OFFSET, bytes, direction, value);
    }
    /* The address is a register of 32 bits: narrower accesses are to other things on this bus. */
    if (offset != 0 || bytes != 4) {
        return UINT64_MAX;
    }
    if (direction == VMMHPC_ACCESS_WRITE) {
        atomic_store_explicit(&bus->address, (uint32_t)value & ADDRESS_BITS, memory_order_relaxed);
    }
    return atomic_load_explicit(&bus->address, memory_order_relaxed);
}
