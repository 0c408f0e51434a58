/* SPDX-License-Identifier: Apache-2.0 */
/* The IOMMU before a channel's device, as Linux's driver uses it, and the table that tells of it.
 * No KVM. */
#include <string.h>
#include <unistd.h>

#include "layout.h"
#include "pci_driver.h"
#include "shm/device.h"
#include "tap.h"

/* Registers (Intel VT-d 3.4, 11.4) and bits in them. */
enum { CAP = 0x08, ECAP = 0x10, GCMD = 0x18, GSTS = 0x1c, RTADDR = 0x20, CCMD = 0x28 };
enum { FSTS = 0x34, FECTL = 0x38 };
#define ENABLE 0x80000000u
#define SET_ROOT 0x40000000u
#define ASK (1ull << 63)

static struct vmmhpc_error err = {.size = sizeof(err)};

static void add_peer(struct vmmhpc *vm, struct vmmhpc_channel *channel, uint32_t peer)
{
    const struct vmmhpc_shm_join place = {
        .size = sizeof(place), .peer = peer, .visible_to = UINT64_MAX};
    struct vmmhpc_shm config = {.size = sizeof(config), .fd = -1};
    CHECK_OK(vmmhpc_channel_join(channel, &place, &config.fd, &err), &err);
    CHECK_OK(vmmhpc_add_shm(vm, &config, NULL, &err), &err);
    (void)close(config.fd);
}

/* A machine that is both peers of a channel: two devices. */
static struct vmmhpc *machine_new(struct vmmhpc_channel **channel)
{
    const struct vmmhpc_channel_config config = {
        .size = sizeof(config), .peers = 2, .area_bytes = VH_PAGE};
    struct vmmhpc *vm = machine_rig_new(2);
    CHECK_OK(vmmhpc_channel_create(&config, channel, &err), &err);
    add_peer(vm, *channel, 0);
    add_peer(vm, *channel, 1);
    return vm;
}

static uint64_t unit(uint32_t slot)
{
    return VH_IOMMU_GPA + (uint64_t)slot * VH_PAGE;
}

TEST(shm_iommu_does_what_it_is_told)
{
    struct vmmhpc_channel *channel = NULL;
    struct vmmhpc *vm = machine_new(&channel);
    const uint64_t at = unit(1);
    const uint64_t cap = driver_in(vm, at + CAP, 8);
    const uint64_t iotlb = at + (driver_in(vm, at + ECAP, 8) >> 8 & 0x3ff) * 16 + 8;
    CHECK_EQ(driver_in(vm, at, 4), 0x10); /* version 1.0 */
    CHECK_EQ(cap >> 8 & 0x1f, 4);         /* tables of four levels */
    CHECK_EQ(cap >> 16 & 0x3f, 47);       /* 48 bits */
    CHECK(iotlb + 8 <= at + VH_SHM_IOMMU_BYTES);
    driver_out(vm, at + RTADDR, 8, 0x123456000);
    CHECK_EQ(driver_in(vm, at + RTADDR, 8), 0x123456000);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), 0);
    driver_out(vm, at + GCMD, 4, SET_ROOT);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), SET_ROOT);
    /* Everything is forgotten, at once and as it was asked for: global, of a domain, of a page. */
    for (uint64_t what = 1; what <= 3; what++) {
        driver_out(vm, at + CCMD, 8, ASK | what << 61 | 5);
        CHECK_EQ(driver_in(vm, at + CCMD, 8), what << 61 | what << 59 | 5);
        driver_out(vm, iotlb, 8, ASK | what << 60 | 3ull << 57);
        CHECK_EQ(driver_in(vm, iotlb, 8), what << 60 | what << 57);
    }
    driver_out(vm, at + GCMD, 4, ENABLE);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), ENABLE | SET_ROOT);
    driver_out(vm, at + GCMD, 4, 0);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), SET_ROOT);
    driver_out(vm, at + FECTL, 4, ENABLE);
    CHECK_EQ(driver_in(vm, at + FECTL, 4), ENABLE);
    /* What cannot be written; no fault, ever; nothing beyond. */
    driver_out(vm, at + CAP, 8, 0);
    driver_out(vm, at + GSTS, 4, 0);
    driver_out(vm, at + FSTS, 4, 0xff);
    driver_out(vm, at + 0x800, 8, 1);
    CHECK_EQ(driver_in(vm, at + CAP, 8), cap);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), SET_ROOT);
    CHECK_EQ(driver_in(vm, at + FSTS, 4), 0);
    CHECK_EQ(driver_in(vm, at + 0x800, 8), 0);
    CHECK_EQ(driver_in(vm, at + 1, 1), 0);
    /* Each device has its own; a reset is as at power-on. */
    CHECK_EQ(driver_in(vm, unit(2) + GSTS, 4), 0);
    vh_pci_reset(vm);
    CHECK_EQ(driver_in(vm, at + GSTS, 4), 0);
    CHECK_EQ(driver_in(vm, at + RTADDR, 8), 0);
    CHECK_EQ(driver_in(vm, at + CAP, 8), cap);
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_iommu_is_in_a_table)
{
    static const uint32_t ids[] = {0};
    struct vmmhpc_channel *channel = NULL;
    struct vmmhpc *vm = machine_new(&channel);
    struct vh_acpi_config config = {.cpus = 1,
                                    .apic_ids = ids,
                                    .pci = true,
                                    .pci_window_gpa = vm->pci.window_gpa,
                                    .pci_window_bytes = vm->pci.window_bytes,
                                    .further = vm->acpi_tables,
                                    .further_count = vm->acpi_table_count,
                                    .machine = vm};
    uint64_t rsdp = 0;
    CHECK_EQ(vm->acpi_table_count, 1);
    CHECK_OK(vh_acpi_build(&vm->memory, &config, &rsdp, &err), &err);
    const uint8_t *table = machine_rig_table(vm, rsdp, "DMAR");
    if (CHECK(table != NULL)) {
        CHECK_EQ(machine_rig_load(table + 4, 4), 48 + 2 * 24);
        CHECK_EQ(table[36], 47);
        CHECK_EQ(table[37], 0); /* no interrupt remapping */
        for (uint32_t slot = 1; slot <= 2; slot++) {
            const uint8_t *remapping = table + 48 + (slot - 1) * (size_t)24;
            CHECK_EQ(machine_rig_load(remapping, 4), 24u << 16); /* type 0 */
            CHECK_EQ(remapping[4], 0);                           /* of those in its scope alone */
            CHECK_EQ(machine_rig_load(remapping + 8, 8), unit(slot));
            CHECK_EQ(machine_rig_load(remapping + 16, 2), 0x0801); /* an endpoint */
            CHECK_EQ(machine_rig_load(remapping + 22, 2), slot);   /* device, function */
        }
    }
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}
