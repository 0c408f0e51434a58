/* SPDX-License-Identifier: Apache-2.0 */
/* A function of the host's, as a guest sees it: its configuration space, BARs, MSI-X. No KVM, no
 * IOMMU: the function is a file. */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "layout.h"
#include "pci_driver.h"
#include "snapshot.h"
#include "tap.h"
#include "vfio_rig.h"

static struct vmmhpc_error err = {.size = sizeof(err)};

static struct vfio_rig added(void)
{
    struct vfio_rig rig = vfio_rig_new();
    CHECK_OK(vfio_rig_add(&rig, &err), &err);
    return rig;
}

static uint32_t in(const struct vfio_rig *rig, uint32_t offset, uint32_t bytes)
{
    return (uint32_t)driver_in(rig->vm, driver_config(1, offset), bytes);
}

static void out(const struct vfio_rig *rig, uint32_t offset, uint32_t bytes, uint32_t value)
{
    driver_out(rig->vm, driver_config(1, offset), bytes, value);
}

/* ------------------------------------------------------------------ configuration space */

TEST(vfio_identity_is_the_devices_own)
{
    struct vfio_rig rig = added();
    CHECK_EQ(in(&rig, 0x00, 4), 0x10d38086);
    CHECK_EQ(in(&rig, 0x08, 4), 0x02000003);
    CHECK_EQ(in(&rig, 0x2c, 4), 0x11001af4);
    CHECK_EQ(in(&rig, 0x0c, 4), 0); /* one function, no cache line, no timer */
    CHECK_EQ(in(&rig, 0x30, 4), 0); /* no ROM */
    CHECK_EQ(in(&rig, 0x3d, 1), 1);
    out(&rig, 0x00, 4, 0);
    out(&rig, 0x08, 4, 0);
    CHECK_EQ(in(&rig, 0x00, 4), 0x10d38086);
    CHECK_EQ(vfio_rig_peek(&rig, 0, 4), 0x10d38086);
    vfio_rig_free(&rig);
}

TEST(vfio_status_is_read_from_the_device)
{
    struct vfio_rig rig = added();
    CHECK_EQ(in(&rig, 0x06, 2), 0x10);
    vfio_rig_poke(&rig, 0x06, 2, 0x0018);
    CHECK_EQ(in(&rig, 0x06, 2), 0x18); /* it asks for an interrupt */
    out(&rig, 0x06, 2, 0xffff);
    CHECK_EQ(vfio_rig_peek(&rig, 0x06, 2), 0x18);
    vfio_rig_free(&rig);
}

TEST(vfio_capabilities_are_those_of_the_list)
{
    struct vfio_rig rig = added();
    CHECK_EQ(in(&rig, 0x34, 1), VFIO_RIG_VENDOR);
    CHECK_EQ(in(&rig, VFIO_RIG_VENDOR + 1, 1), VFIO_RIG_MSIX);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 1, 1), VFIO_RIG_EXPRESS);
    CHECK_EQ(in(&rig, VFIO_RIG_EXPRESS + 1, 1), 0);
    CHECK_EQ(in(&rig, VFIO_RIG_POWER, 4), 0);
    CHECK_EQ(in(&rig, VFIO_RIG_MSI, 4), 0);
    CHECK_EQ(in(&rig, 0x100, 4), 0);
    vfio_rig_free(&rig);
}

TEST(vfio_vendor_capability_is_the_devices)
{
    struct vfio_rig rig = added();
    out(&rig, VFIO_RIG_VENDOR + 8, 4, 0x12345678);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_VENDOR + 8, 4), 0x12345678);
    vfio_rig_poke(&rig, VFIO_RIG_VENDOR + 12, 4, 0x9abcdef0);
    CHECK_EQ(in(&rig, VFIO_RIG_VENDOR + 12, 4), 0x9abcdef0);
    out(&rig, VFIO_RIG_VENDOR, 4, 0); /* its identity and its link are not to be written */
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_VENDOR, 2), VFIO_RIG_MSIX << 8 | 0x09);
    CHECK_EQ(in(&rig, VFIO_RIG_VENDOR, 2), VFIO_RIG_MSIX << 8 | 0x09);
    vfio_rig_free(&rig);
}

TEST(vfio_express_endpoint_is_part_of_the_root)
{
    struct vfio_rig rig = added();
    CHECK_EQ(in(&rig, VFIO_RIG_EXPRESS + 2, 2), 0x92);
    CHECK_EQ(in(&rig, VFIO_RIG_EXPRESS + 4, 4), 0x10008000);
    out(&rig, VFIO_RIG_EXPRESS + 8, 4, 0xffff5810); /* device control is, device status is not */
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_EXPRESS + 8, 4), 0x00005810);
    out(&rig, VFIO_RIG_EXPRESS + 0x10, 2, 0x10);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_EXPRESS + 0x10, 2), 0);
    vfio_rig_free(&rig);
}

TEST(vfio_senseless_capabilities_are_refused)
{
    static const struct {
        uint32_t at, bytes, value;
    } wrong[] = {
        {0x34, 1, 0x20},                              /* into the header */
        {VFIO_RIG_EXPRESS + 1, 1, VFIO_RIG_POWER},    /* a circle */
        {VFIO_RIG_VENDOR + 2, 1, 0xff},               /* beyond the end */
        {VFIO_RIG_MSIX + 4, 4, 0x8000 | 4},           /* a table outside its BAR */
        {VFIO_RIG_MSIX + 8, 4, VFIO_RIG_PENDING | 7}, /* in no BAR */
        {VFIO_RIG_VENDOR + 1, 1, VFIO_RIG_EXPRESS},   /* without MSI-X, which it says it has */
        {0x06, 2, 0},                                 /* likewise */
    };
    for (size_t i = 0; i < VH_COUNT(wrong); i++) {
        struct vfio_rig rig = vfio_rig_new();
        vfio_rig_poke(&rig, wrong[i].at, wrong[i].bytes, wrong[i].value);
        CHECK_ERROR(vfio_rig_add(&rig, &err), &err, VMMHPC_E_UNSUPPORTED, "makes no sense");
        vfio_rig_free(&rig);
    }
    struct vfio_rig bridge = vfio_rig_new();
    vfio_rig_poke(&bridge, 0x0e, 1, 1);
    CHECK_ERROR(vfio_rig_add(&bridge, &err), &err, VMMHPC_E_UNSUPPORTED, "bridge");
    vfio_rig_free(&bridge);
}

TEST(vfio_command_is_the_devices_too)
{
    struct vfio_rig rig = added();
    CHECK_EQ(vfio_rig_peek(&rig, 0x04, 2), 0);
    out(&rig, 0x04, 2, 0xffff);
    CHECK_EQ(in(&rig, 0x04, 2), 0x0406); /* memory, master, no INTx: the rest is not the guest's */
    CHECK_EQ(vfio_rig_peek(&rig, 0x04, 2), 0x0406);
    out(&rig, 0x05, 1, 0);
    CHECK_EQ(vfio_rig_peek(&rig, 0x04, 2), 0x0006);
    vfio_rig_free(&rig);
}

/* ------------------------------------------------------------------ BARs */

TEST(vfio_bars_have_the_devices_sizes)
{
    struct vfio_rig rig = added();
    static const uint32_t sizes[] = {0xffffc000, 0xffffff00, 0, 0, 0xffff800c, 0xffffffff};
    for (uint32_t i = 0; i < VH_COUNT(sizes); i++) {
        out(&rig, 0x10 + 4 * i, 4, UINT32_MAX);
        CHECK_EQ(in(&rig, 0x10 + 4 * i, 4), sizes[i]);
    }
    vfio_rig_free(&rig);
}

TEST(vfio_bars_are_placed_and_moved)
{
    struct vfio_rig rig = added();
    const uint64_t low = in(&rig, 0x10, 4);
    const uint64_t small = in(&rig, 0x14, 4);
    const uint64_t high = driver_bar(rig.vm, 4);
    CHECK(low >= VH_PCI_WINDOW_GPA && low % 0x4000 == 0);
    CHECK(small >= low + 0x4000 && small % VH_PAGE == 0);
    CHECK(high >= VMMHPC_HOLE_END && high % 0x8000 == 0);
    CHECK_EQ(driver_in(rig.vm, low, 4), UINT32_MAX); /* not decoded yet */
    out(&rig, 0x04, 2, 6);
    vfio_rig_poke(&rig, VFIO_RIG_BAR0 + 8, 4, 0xfeedface);
    CHECK_EQ(driver_in(rig.vm, low + 8, 4), 0xfeedface);
    driver_out(rig.vm, small + 4, 2, 0xabcd);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_BAR1 + 4, 4), 0xabcd);
    CHECK_EQ(driver_in(rig.vm, small + 0x100, 4), UINT32_MAX);
    out(&rig, 0x10, 4, VH_PCI_WINDOW_GPA + 0x100000);
    CHECK_EQ(driver_in(rig.vm, VH_PCI_WINDOW_GPA + 0x100008, 4), 0xfeedface);
    CHECK_EQ(driver_in(rig.vm, low + 8, 4), UINT32_MAX);
    out(&rig, 0x10, 4, 0x1000); /* over RAM: nowhere */
    CHECK_EQ(driver_in(rig.vm, VH_PCI_WINDOW_GPA + 0x100008, 4), UINT32_MAX);
    vfio_rig_free(&rig);
}

TEST(vfio_all_but_the_traps_is_mapped)
{
    struct vfio_rig rig = added();
    static const struct {
        uint32_t bar;
        uint64_t offset, bytes;
    } want[] = {{0, 0, 0x4000}, {4, 0, 0x1000}, {4, 0x2000, 0x1000}, {4, 0x4000, 0x4000}};
    CHECK_EQ(rig.vfio->piece_count, VH_COUNT(want));
    for (uint32_t i = 0; i < rig.vfio->piece_count && i < VH_COUNT(want); i++) {
        const struct vh_vfio_piece *piece = &rig.vfio->pieces[i];
        CHECK_EQ(piece->bar, want[i].bar);
        CHECK_EQ(piece->offset, want[i].offset);
        CHECK_EQ(piece->bytes, want[i].bytes);
        *(volatile uint32_t *)piece->host = i + 1;
    }
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_BAR0, 4), 1);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_BAR4 + 0x4000, 4), 4);
    vfio_rig_free(&rig);
}

/* ------------------------------------------------------------------ MSI-X, life */

TEST(vfio_msix_is_ours)
{
    struct vfio_rig rig = added();
    out(&rig, 0x04, 2, 6);
    const uint64_t bar = driver_bar(rig.vm, 4);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 2, 2), VFIO_RIG_VECTORS - 1);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 4, 4), VFIO_RIG_TABLE | 4);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 8, 4), VFIO_RIG_PENDING | 4);
    driver_out(rig.vm, bar + VFIO_RIG_TABLE + 16, 4, 0xfee00000);
    driver_out(rig.vm, bar + VFIO_RIG_TABLE + 24, 4, 0x41);
    CHECK_EQ(driver_in(rig.vm, bar + VFIO_RIG_TABLE + 16, 4), 0xfee00000);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_BAR4 + VFIO_RIG_TABLE + 16, 4), 0);
    out(&rig, VFIO_RIG_MSIX + 2, 2, 0xffff);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 2, 2), 0xc000 | (VFIO_RIG_VECTORS - 1));
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_MSIX + 2, 2), VFIO_RIG_VECTORS - 1);
    /* Masked: what the device sends is pending. */
    (void)eventfd_write(rig.vfio->pci.msix.vectors[3].fd, 1);
    CHECK_EQ(driver_in(rig.vm, bar + VFIO_RIG_PENDING, 8), 8);
    CHECK_EQ(driver_in(rig.vm, bar + VFIO_RIG_PENDING, 4), 8);
    /* Beside the table on its page: the device's. */
    driver_out(rig.vm, bar + VFIO_RIG_TABLE + 16 * VFIO_RIG_VECTORS, 4, 0x77);
    CHECK_EQ(vfio_rig_peek(&rig, VFIO_RIG_BAR4 + VFIO_RIG_TABLE + 16 * VFIO_RIG_VECTORS, 4), 0x77);
    vfio_rig_free(&rig);
}

TEST(vfio_reset_leaves_nothing)
{
    struct vfio_rig rig = added();
    const uint32_t home = in(&rig, 0x10, 4);
    out(&rig, 0x04, 2, 6);
    out(&rig, 0x10, 4, VH_PCI_WINDOW_GPA + 0x100000);
    out(&rig, VFIO_RIG_MSIX + 2, 2, 0x8000);
    vh_pci_reset(rig.vm);
    CHECK_EQ(in(&rig, 0x04, 2), 0);
    CHECK_EQ(vfio_rig_peek(&rig, 0x04, 2), 0);
    CHECK_EQ(in(&rig, 0x10, 4), home);
    CHECK_EQ(in(&rig, VFIO_RIG_MSIX + 2, 2), VFIO_RIG_VECTORS - 1);
    out(&rig, 0x04, 2, 6);
    vfio_rig_poke(&rig, VFIO_RIG_BAR0, 4, 0x1234);
    CHECK_EQ(driver_in(rig.vm, home, 4), 0x1234);
    vfio_rig_free(&rig);
    rig = added(); /* the end of the machine is one, too */
    out(&rig, 0x04, 2, 6);
    machine_rig_free(rig.vm);
    CHECK_EQ(vfio_rig_peek(&rig, 0x04, 2), 0);
    (void)close(rig.file);
}

TEST(vfio_machines_are_not_saved)
{
    struct vfio_rig rig = vfio_rig_new();
    vfio_rig_poke(&rig, 0x00, 4, 0x10411af4); /* not even one that is virtio's */
    CHECK_OK(vfio_rig_add(&rig, &err), &err);
    CHECK_EQ(in(&rig, 0x00, 4), 0x10411af4);
    CHECK_ERROR(vh_snap_drain(rig.vm, &err), &err, VMMHPC_E_UNSUPPORTED, "slot 1 cannot be saved");
    vfio_rig_free(&rig);
}

TEST(vfio_descriptors_are_checked)
{
    struct vfio_rig rig = vfio_rig_new();
    struct vmmhpc_vfio config = {
        .size = sizeof(config), .container = -1, .group = -1, .device = -1};
    CHECK_ERROR(vmmhpc_add_vfio(rig.vm, &config, NULL, &err), &err, VMMHPC_E_INVALID,
                "descriptors -1");
    config.container = config.group = config.device = rig.file;
    CHECK_ERROR(vmmhpc_add_vfio(rig.vm, &config, NULL, &err), &err, VMMHPC_E_INVALID,
                "no device of VFIO's");
    config.size = 1;
    CHECK_ERROR(vmmhpc_add_vfio(rig.vm, &config, NULL, &err), &err, VMMHPC_E_INVALID, "version");
    CHECK_ERROR(vmmhpc_vfio_open("00:04.0", &config, &err), &err, VMMHPC_E_INVALID, "size");
    config.size = sizeof(config);
    static const char *const wrong[] = {"00:04.0", "0000:00:04.0/", "0000:00:0G.0",
                                        "../../../../etc", ""};
    for (size_t i = 0; i < VH_COUNT(wrong); i++) {
        CHECK_ERROR(vmmhpc_vfio_open(wrong[i], &config, &err), &err, VMMHPC_E_INVALID,
                    "no address of a PCI function");
    }
    CHECK_ERROR(vmmhpc_vfio_open("ffff:ff:1f.7", &config, &err), &err, VMMHPC_E_INVALID,
                "no PCI function ffff:ff:1f.7");
    CHECK_EQ(config.device, -1);
    vmmhpc_vfio_close(&config);
    vmmhpc_vfio_close(NULL);
    vfio_rig_free(&rig);
}
