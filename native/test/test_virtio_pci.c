/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus and virtio's transport over it, as a driver finds and uses them. */
#include <string.h>
#include <sys/eventfd.h>

#include "layout.h"
#include "machine_rig.h"
#include "tap.h"

enum { COMMON = 0x0000, ISR = 0x1000, DEVICE = 0x2000, NOTIFY = 0x3000 };
#define RING 0x100000ull
#define BUFFER 0x140000ull

static uint64_t config_gpa(uint32_t slot, uint32_t offset)
{
    return VH_ECAM_GPA + (uint64_t)slot * 0x8000 + offset;
}

static uint64_t in(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes)
{
    return machine_rig_mmio(vm, gpa, bytes, VMMHPC_ACCESS_READ, 0);
}

static void out(struct vmmhpc *vm, uint64_t gpa, uint32_t bytes, uint64_t value)
{
    (void)machine_rig_mmio(vm, gpa, bytes, VMMHPC_ACCESS_WRITE, value);
}

/* The first capability of an id behind `after` (0: from the start), or 0. */
static uint32_t capability(struct vmmhpc *vm, uint32_t id, uint32_t after)
{
    uint32_t at = (uint32_t)in(vm, config_gpa(1, after == 0 ? 0x34 : after + 1), 1);
    while (at != 0 && in(vm, config_gpa(1, at), 1) != id) {
        at = (uint32_t)in(vm, config_gpa(1, at + 1), 1);
    }
    return at;
}

static uint64_t bar(struct vmmhpc *vm, uint32_t index)
{
    return (in(vm, config_gpa(1, 0x10 + 4 * index), 4) & ~0xfull) |
           in(vm, config_gpa(1, 0x14 + 4 * index), 4) << 32;
}

TEST(pci_bus_enumeration)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    CHECK_EQ(in(vm, config_gpa(0, 0), 4), 0x00081b36);
    CHECK_EQ(in(vm, config_gpa(1, 0), 4), 0x10441af4);
    CHECK_EQ(in(vm, config_gpa(2, 0), 4), 0xffffffff);
    CHECK_EQ(in(vm, config_gpa(1, 0x0e), 1), 0);                /* one function */
    CHECK_EQ(in(vm, config_gpa(1, 0) + 0x1000, 4), 0xffffffff); /* and no other */
    CHECK_EQ(in(vm, config_gpa(1, 0x100), 4), 0);               /* no extended capabilities */
    CHECK_EQ(in(vm, config_gpa(1, 0x06), 2) & 0x10, 0x10);
    CHECK_EQ(in(vm, config_gpa(1, 0x3d), 1), 1);
    CHECK(capability(vm, 0x11, 0) != 0);
    CHECK_EQ(in(vm, config_gpa(1, 0x01), 4), 0xffffffff); /* across a doubleword */
    machine_rig_free(vm);
}

TEST(pci_bus_bar_sizing)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    uint64_t home = bar(vm, 0);
    CHECK(home >= 1ull << 32 && home % 0x4000 == 0);
    CHECK_EQ(in(vm, config_gpa(1, 0x10), 4) & 0xf, 4);
    out(vm, config_gpa(1, 0x10), 4, 0xffffffff);
    out(vm, config_gpa(1, 0x14), 4, 0xffffffff);
    CHECK_EQ(bar(vm, 0), ~0x3fffull);
    out(vm, config_gpa(1, 0x10), 4, (uint32_t)home);
    out(vm, config_gpa(1, 0x14), 4, home >> 32);
    /* Nothing is decoded before it is switched on. */
    CHECK_EQ(in(vm, home + COMMON + 18, 2), 0xffff);
    out(vm, config_gpa(1, 0x04), 2, 2);
    CHECK_EQ(in(vm, home + COMMON + 18, 2), 1);
    /* Moved below 4 GiB, and to where it may not be. */
    out(vm, config_gpa(1, 0x10), 4, VH_PCI_WINDOW_GPA + 0x4000);
    out(vm, config_gpa(1, 0x14), 4, 0);
    CHECK_EQ(in(vm, VH_PCI_WINDOW_GPA + 0x4000 + 18, 2), 1);
    CHECK_EQ(in(vm, home + 18, 2), 0xffff);
    out(vm, config_gpa(1, 0x10), 4, 0x100000);
    CHECK_EQ(in(vm, VH_PCI_WINDOW_GPA + 0x4000 + 18, 2), 0xffff);
    machine_rig_free(vm);
}

/* Negotiate all that is offered and set queue 0 up, with MSI-X vector 1 where `msix`. */
static uint64_t bring_up(struct vmmhpc *vm, bool msix)
{
    out(vm, config_gpa(1, 0x04), 2, 6);
    uint64_t base = bar(vm, 0);
    if (msix) {
        uint32_t at = capability(vm, 0x11, 0);
        CHECK_EQ(in(vm, config_gpa(1, at + 4), 4), 2); /* the table is in BAR 2 */
        uint64_t table = bar(vm, 2);
        out(vm, table + 16, 4, 0xfee00000);
        out(vm, table + 24, 4, 0x41);
        out(vm, table + 28, 4, 0);
        out(vm, config_gpa(1, at + 2), 2, 0x8000);
        CHECK_EQ(in(vm, config_gpa(1, at + 2), 2), 0x8001);
    }
    out(vm, base + 20, 1, 0);
    out(vm, base + 20, 1, 3);
    for (uint32_t select = 0; select < 2; select++) {
        out(vm, base, 4, select);
        out(vm, base + 8, 4, select);
        out(vm, base + 12, 4, in(vm, base + 4, 4));
    }
    out(vm, base + 20, 1, 11);
    CHECK_EQ(in(vm, base + 20, 1), 11);
    out(vm, base + 22, 2, 0);
    CHECK_EQ(in(vm, base + 24, 2), 16);
    out(vm, base + 26, 2, msix ? 1 : 0xffff);
    CHECK_EQ(in(vm, base + 26, 2), msix ? 1 : 0xffff);
    out(vm, base + 32, 4, RING);
    out(vm, base + 40, 8, RING + 0x1000);
    out(vm, base + 48, 4, RING + 0x2000);
    out(vm, base + 28, 2, 1);
    out(vm, base + 20, 1, 15);
    CHECK_EQ(in(vm, base + 20, 1), 15);
    return base;
}

static void put16(struct vmmhpc *vm, uint64_t gpa, uint16_t value)
{
    memcpy(vh_memory_at(&vm->memory, gpa, 2), &value, 2);
}

/* Four bytes to read and four to write, as the index-th use of the ring. */
static void offer(struct vmmhpc *vm, uint16_t index)
{
    struct {
        uint64_t gpa;
        uint32_t bytes;
        uint16_t flags, next;
    } desc[2] = {{BUFFER, 4, 1, 1}, {BUFFER + 64, 4, 2, 0}};
    memcpy(vh_memory_at(&vm->memory, BUFFER, 4), "ping", 4);
    memcpy(vh_memory_at(&vm->memory, RING, sizeof(desc)), desc, sizeof(desc));
    put16(vm, RING + 0x1004 + 2 * (index % 16u), 0);
    put16(vm, RING + 0x1002, index + 1);
}

TEST(virtio_pci_round_trip)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = bring_up(vm, true);
    CHECK(device->started);
    offer(vm, 0);
    out(vm, base + NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(memcmp(vh_memory_at(&vm->memory, BUFFER + 64, 4), "ping", 4), 0);
    eventfd_t count = 0;
    CHECK_EQ(eventfd_read(vh_virtio_call_fd(device, 0), &count), 0);
    CHECK_EQ(in(vm, base + ISR, 1), 0); /* not with MSI-X */
    machine_rig_free(vm);
}

TEST(virtio_pci_intx)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = bring_up(vm, false);
    CHECK_EQ(vh_virtio_call_fd(device, 0), (uint64_t)-1);
    offer(vm, 0);
    out(vm, base + NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(in(vm, config_gpa(1, 0x06), 2) & 8, 8); /* interrupt status */
    CHECK_EQ(in(vm, base + ISR, 1), 1);
    CHECK_EQ(in(vm, base + ISR, 1), 0);
    CHECK_EQ(in(vm, config_gpa(1, 0x06), 2) & 8, 0);
    machine_rig_free(vm);
}

TEST(virtio_pci_pending_bit)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = bring_up(vm, true);
    uint64_t table = bar(vm, 2);
    out(vm, table + 28, 4, 1); /* mask the vector */
    offer(vm, 0);
    out(vm, base + NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(in(vm, table + 0x800, 8), 2);
    CHECK(device->started);
    machine_rig_free(vm);
}

TEST(virtio_pci_negotiation)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    out(vm, config_gpa(1, 0x04), 2, 6);
    uint64_t base = bar(vm, 0);
    out(vm, base + 20, 1, 3);
    out(vm, base + 8, 4, 0);
    out(vm, base + 12, 4, 2); /* not offered, and no VERSION_1 */
    out(vm, base + 20, 1, 11);
    CHECK_EQ(in(vm, base + 20, 1), 3);
    /* A ring that is not RAM: the device wants a reset. */
    (void)bring_up(vm, false);
    out(vm, base + 20, 1, 0);
    CHECK_EQ(in(vm, base + 20, 1), 0);
    CHECK_EQ(in(vm, base + 28, 2), 0);
    out(vm, base + 20, 1, 3);
    out(vm, base + 8, 4, 1);
    out(vm, base + 12, 4, 1);
    out(vm, base + 20, 1, 11);
    out(vm, base + 32, 8, 0xfffffffff000);
    out(vm, base + 28, 2, 1);
    out(vm, base + 20, 1, 15);
    CHECK_EQ(in(vm, base + 20, 1) & 64, 64);
    machine_rig_free(vm);
}

TEST(virtio_pci_config_window)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    out(vm, config_gpa(1, 0x04), 2, 2);
    uint32_t at = 0;
    do {
        at = capability(vm, 0x09, at);
    } while (at != 0 && in(vm, config_gpa(1, at + 3), 1) != 5);
    CHECK(at != 0);
    out(vm, config_gpa(1, at + 4), 1, 0);
    out(vm, config_gpa(1, at + 8), 4, DEVICE + 4);
    out(vm, config_gpa(1, at + 12), 4, 4);
    out(vm, config_gpa(1, at + 16), 4, 0x12345678);
    CHECK_EQ(device->config[4], 0x78);
    CHECK_EQ(in(vm, config_gpa(1, at + 16), 4), 0x12345678);
    CHECK_EQ(in(vm, bar(vm, 0) + DEVICE + 4, 4), 0x12345678);
    CHECK_EQ(in(vm, bar(vm, 0) + DEVICE + 6, 4), 0xffffffff); /* beyond its end */
    machine_rig_free(vm);
}

TEST(virtio_pci_reset)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    (void)bring_up(vm, true);
    vh_pci_reset(vm);
    CHECK(!device->started);
    CHECK_EQ(in(vm, config_gpa(1, 0x04), 2), 0);
    CHECK_EQ(in(vm, config_gpa(1, capability(vm, 0x11, 0) + 2), 2), 1);
    uint64_t base = bring_up(vm, true);
    offer(vm, 0);
    out(vm, base + NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(memcmp(vh_memory_at(&vm->memory, BUFFER + 64, 4), "ping", 4), 0);
    machine_rig_free(vm);
}
