/* SPDX-License-Identifier: Apache-2.0 */
#include "pci_driver.h"

#include <string.h>

#include "layout.h"
#include "tap.h"

uint64_t driver_config(uint32_t slot, uint32_t offset)
{
    return VH_ECAM_GPA + (uint64_t)slot * 0x8000 + offset;
}

uint64_t driver_in(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes)
{
    return machine_rig_mmio(vm, gpa, bytes, VMMHPC_ACCESS_READ, 0);
}

void driver_out(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint64_t value)
{
    (void)machine_rig_mmio(vm, gpa, bytes, VMMHPC_ACCESS_WRITE, value);
}

/* The first capability of an id behind `after` (0: from the start), or 0. */
uint32_t driver_capability(struct vmmhpc *vm, uint32_t id, uint32_t after)
{
    uint32_t at = (uint32_t)driver_in(vm, driver_config(1, after == 0 ? 0x34 : after + 1), 1);
    while (at != 0 && driver_in(vm, driver_config(1, at), 1) != id) {
        at = (uint32_t)driver_in(vm, driver_config(1, at + 1), 1);
    }
    return at;
}

uint64_t driver_bar(struct vmmhpc *vm, uint32_t index)
{
    return (driver_in(vm, driver_config(1, 0x10 + 4 * index), 4) & ~0xfull) |
           driver_in(vm, driver_config(1, 0x14 + 4 * index), 4) << 32;
}

/* Negotiate all that is offered and set queue 0 up, with MSI-X vector 1 where `msix`. */
uint64_t driver_bring_up(struct vmmhpc *vm, bool msix)
{
    driver_out(vm, driver_config(1, 0x04), 2, 6);
    uint64_t base = driver_bar(vm, 0);
    if (msix) {
        uint32_t at = driver_capability(vm, 0x11, 0);
        CHECK_EQ(driver_in(vm, driver_config(1, at + 4), 4), 2); /* the table is in BAR 2 */
        uint64_t table = driver_bar(vm, 2);
        driver_out(vm, table + 16, 4, 0xfee00000);
        driver_out(vm, table + 24, 4, 0x41);
        driver_out(vm, table + 28, 4, 0);
        driver_out(vm, driver_config(1, at + 2), 2, 0x8000);
        CHECK_EQ(driver_in(vm, driver_config(1, at + 2), 2), 0x8001);
    }
    driver_out(vm, base + 20, 1, 0);
    driver_out(vm, base + 20, 1, 3);
    for (uint32_t select = 0; select < 2; select++) {
        driver_out(vm, base, 4, select);
        driver_out(vm, base + 8, 4, select);
        driver_out(vm, base + 12, 4, driver_in(vm, base + 4, 4));
    }
    driver_out(vm, base + 20, 1, 11);
    CHECK_EQ(driver_in(vm, base + 20, 1), 11);
    driver_out(vm, base + 22, 2, 0);
    CHECK_EQ(driver_in(vm, base + 24, 2), 16);
    driver_out(vm, base + 26, 2, msix ? 1 : 0xffff);
    CHECK_EQ(driver_in(vm, base + 26, 2), msix ? 1 : 0xffff);
    driver_out(vm, base + 32, 4, DRIVER_RING);
    driver_out(vm, base + 40, 8, DRIVER_RING + 0x1000);
    driver_out(vm, base + 48, 4, DRIVER_RING + 0x2000);
    driver_out(vm, base + 28, 2, 1);
    driver_out(vm, base + 20, 1, 15);
    CHECK_EQ(driver_in(vm, base + 20, 1), 15);
    return base;
}

static void put16(struct vmmhpc *vm, uint64_t gpa, uint16_t value)
{
    memcpy(vh_memory_at(&vm->memory, gpa, 2), &value, 2);
}

/* Four bytes to read and four to write, as the index-th use of the ring. */
void driver_offer(struct vmmhpc *vm, uint16_t index)
{
    struct {
        uint64_t gpa;
        uint32_t bytes;
        uint16_t flags, next;
    } desc[2] = {{DRIVER_BUFFER, 4, 1, 1}, {DRIVER_BUFFER + 64, 4, 2, 0}};
    memcpy(vh_memory_at(&vm->memory, DRIVER_BUFFER, 4), "ping", 4);
    memcpy(vh_memory_at(&vm->memory, DRIVER_RING, sizeof(desc)), desc, sizeof(desc));
    put16(vm, DRIVER_RING + 0x1004 + 2 * (index % 16u), 0);
    put16(vm, DRIVER_RING + 0x1002, index + 1);
}
