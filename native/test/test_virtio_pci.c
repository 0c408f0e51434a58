/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus and virtio's transport over it, as a driver finds and uses them. */
#include <string.h>
#include <sys/eventfd.h>

#include "layout.h"
#include "machine_rig.h"
#include "pci_driver.h"
#include "tap.h"

TEST(pci_bus_enumeration)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    CHECK_EQ(driver_in(vm, driver_config(0, 0), 4), 0x00081b36);
    CHECK_EQ(driver_in(vm, driver_config(1, 0), 4), 0x10441af4);
    CHECK_EQ(driver_in(vm, driver_config(2, 0), 4), 0xffffffff);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x0e), 1), 0);                /* one function */
    CHECK_EQ(driver_in(vm, driver_config(1, 0) + 0x1000, 4), 0xffffffff); /* and no other */
    CHECK_EQ(driver_in(vm, driver_config(1, 0x100), 4), 0); /* no extended capabilities */
    CHECK_EQ(driver_in(vm, driver_config(1, 0x06), 2) & 0x10, 0x10);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x3d), 1), 1);
    CHECK(driver_capability(vm, 0x11, 0) != 0);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x01), 4), 0xffffffff); /* across a doubleword */
    machine_rig_free(vm);
}

TEST(pci_bus_bar_sizing)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    uint64_t home = driver_bar(vm, 0);
    CHECK(home >= 1ull << 32 && home % 0x4000 == 0);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x10), 4) & 0xf, 4);
    driver_out(vm, driver_config(1, 0x10), 4, 0xffffffff);
    driver_out(vm, driver_config(1, 0x14), 4, 0xffffffff);
    CHECK_EQ(driver_bar(vm, 0), ~0x3fffull);
    driver_out(vm, driver_config(1, 0x10), 4, (uint32_t)home);
    driver_out(vm, driver_config(1, 0x14), 4, home >> 32);
    /* Nothing is decoded before it is switched on. */
    CHECK_EQ(driver_in(vm, home + DRIVER_COMMON + 18, 2), 0xffff);
    driver_out(vm, driver_config(1, 0x04), 2, 2);
    CHECK_EQ(driver_in(vm, home + DRIVER_COMMON + 18, 2), 1);
    /* Moved below 4 GiB, and to where it may not be. */
    driver_out(vm, driver_config(1, 0x10), 4, VH_PCI_WINDOW_GPA + 0x4000);
    driver_out(vm, driver_config(1, 0x14), 4, 0);
    CHECK_EQ(driver_in(vm, VH_PCI_WINDOW_GPA + 0x4000 + 18, 2), 1);
    CHECK_EQ(driver_in(vm, home + 18, 2), 0xffff);
    driver_out(vm, driver_config(1, 0x10), 4, 0x100000);
    CHECK_EQ(driver_in(vm, VH_PCI_WINDOW_GPA + 0x4000 + 18, 2), 0xffff);
    machine_rig_free(vm);
}

TEST(virtio_pci_round_trip)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = driver_bring_up(vm, true);
    CHECK(device->started);
    driver_offer(vm, 0);
    driver_out(vm, base + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(memcmp(vh_memory_at(&vm->memory, DRIVER_BUFFER + 64, 4), "ping", 4), 0);
    eventfd_t count = 0;
    CHECK_EQ(eventfd_read(vh_virtio_call_fd(device, 0), &count), 0);
    CHECK_EQ(driver_in(vm, base + DRIVER_ISR, 1), 0); /* not with MSI-X */
    machine_rig_free(vm);
}

TEST(virtio_pci_intx)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = driver_bring_up(vm, false);
    CHECK_EQ(vh_virtio_call_fd(device, 0), (uint64_t)-1);
    driver_offer(vm, 0);
    driver_out(vm, base + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x06), 2) & 8, 8); /* interrupt status */
    CHECK_EQ(driver_in(vm, base + DRIVER_ISR, 1), 1);
    CHECK_EQ(driver_in(vm, base + DRIVER_ISR, 1), 0);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x06), 2) & 8, 0);
    machine_rig_free(vm);
}

TEST(virtio_pci_pending_bit)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    uint64_t base = driver_bring_up(vm, true);
    uint64_t table = driver_bar(vm, 2);
    driver_out(vm, table + 28, 4, 1); /* mask the vector */
    driver_offer(vm, 0);
    driver_out(vm, base + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(driver_in(vm, table + 0x800, 8), 2);
    CHECK(device->started);
    machine_rig_free(vm);
}

TEST(virtio_pci_negotiation)
{
    struct vmmhpc *vm = machine_rig_new(4);
    CHECK(machine_rig_echo(vm) != NULL);
    driver_out(vm, driver_config(1, 0x04), 2, 6);
    uint64_t base = driver_bar(vm, 0);
    driver_out(vm, base + 20, 1, 3);
    driver_out(vm, base + 8, 4, 0);
    driver_out(vm, base + 12, 4, 2); /* not offered, and no VERSION_1 */
    driver_out(vm, base + 20, 1, 11);
    CHECK_EQ(driver_in(vm, base + 20, 1), 3);
    /* A ring that is not RAM: the device wants a reset. */
    (void)driver_bring_up(vm, false);
    driver_out(vm, base + 20, 1, 0);
    CHECK_EQ(driver_in(vm, base + 20, 1), 0);
    CHECK_EQ(driver_in(vm, base + 28, 2), 0);
    driver_out(vm, base + 20, 1, 3);
    driver_out(vm, base + 8, 4, 1);
    driver_out(vm, base + 12, 4, 1);
    driver_out(vm, base + 20, 1, 11);
    driver_out(vm, base + 32, 8, 0xfffffffff000);
    driver_out(vm, base + 28, 2, 1);
    driver_out(vm, base + 20, 1, 15);
    CHECK_EQ(driver_in(vm, base + 20, 1) & 64, 64);
    machine_rig_free(vm);
}

TEST(virtio_pci_config_window)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    driver_out(vm, driver_config(1, 0x04), 2, 2);
    uint32_t at = 0;
    do {
        at = driver_capability(vm, 0x09, at);
    } while (at != 0 && driver_in(vm, driver_config(1, at + 3), 1) != 5);
    CHECK(at != 0);
    driver_out(vm, driver_config(1, at + 4), 1, 0);
    driver_out(vm, driver_config(1, at + 8), 4, DRIVER_DEVICE + 4);
    driver_out(vm, driver_config(1, at + 12), 4, 4);
    driver_out(vm, driver_config(1, at + 16), 4, 0x12345678);
    CHECK_EQ(device->config[4], 0x78);
    CHECK_EQ(driver_in(vm, driver_config(1, at + 16), 4), 0x12345678);
    CHECK_EQ(driver_in(vm, driver_bar(vm, 0) + DRIVER_DEVICE + 4, 4), 0x12345678);
    CHECK_EQ(driver_in(vm, driver_bar(vm, 0) + DRIVER_DEVICE + 6, 4),
             0xffffffff); /* beyond its end */
    machine_rig_free(vm);
}

TEST(virtio_pci_reset)
{
    struct vmmhpc *vm = machine_rig_new(4);
    struct vh_virtio *device = machine_rig_echo(vm);
    (void)driver_bring_up(vm, true);
    vh_pci_reset(vm);
    CHECK(!device->started);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x04), 2), 0);
    CHECK_EQ(driver_in(vm, driver_config(1, driver_capability(vm, 0x11, 0) + 2), 2), 1);
    uint64_t base = driver_bring_up(vm, true);
    driver_offer(vm, 0);
    driver_out(vm, base + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(memcmp(vh_memory_at(&vm->memory, DRIVER_BUFFER + 64, 4), "ping", 4), 0);
    machine_rig_free(vm);
}
