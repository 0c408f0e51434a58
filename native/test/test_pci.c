/* SPDX-License-Identifier: Apache-2.0 */
/* PCI configuration by ports. */
#include "pci/pci.h"
#include "tap.h"

enum { ADDRESS = 0, DATA = 4 };

static uint64_t out(struct vh_pci_bus *pci, uint64_t offset, uint32_t bytes, uint64_t value)
{
    return vh_pci_ports(pci, 0, offset, bytes, VMMHPC_ACCESS_WRITE, value);
}

static uint64_t in(struct vh_pci_bus *pci, uint64_t offset, uint32_t bytes)
{
    uint64_t value = vh_pci_ports(pci, 0, offset, bytes, VMMHPC_ACCESS_READ, 0);
    return bytes == 8 ? value : value & ((1ull << (8 * bytes)) - 1);
}

/* What Linux does to find mechanism #1 (arch/x86/pci/direct.c). */
TEST(pci_linux_probe)
{
    struct vh_pci_bus pci = {.count = 1};
    (void)out(&pci, 3, 1, 0x01);
    CHECK_EQ(in(&pci, ADDRESS, 4), 0);
    (void)out(&pci, ADDRESS, 4, 0x80000000);
    CHECK_EQ(in(&pci, ADDRESS, 4), 0x80000000);
    (void)out(&pci, ADDRESS, 4, 0x80000008);
    CHECK_EQ(in(&pci, DATA + 2, 2), 0x0600); /* the class of a host bridge */
}

TEST(pci_host_bridge)
{
    struct vh_pci_bus pci = {.count = 1};
    (void)out(&pci, ADDRESS, 4, 0x80000000);
    CHECK_EQ(in(&pci, DATA, 4), 0x00081b36);
    CHECK_EQ(in(&pci, DATA, 2), 0x1b36);
    CHECK_EQ(in(&pci, DATA + 3, 1), 0);
    (void)out(&pci, DATA, 4, 0xffffffff);
    CHECK_EQ(in(&pci, DATA, 4), 0x00081b36);
    (void)out(&pci, ADDRESS, 4, 0x8000000c);
    CHECK_EQ(in(&pci, DATA + 2, 1), 0); /* header type: one function */
}

TEST(pci_nobody_else)
{
    static const uint32_t addresses[] = {0x00000000, 0x80000100, 0x80000800, 0x80010000,
                                         0x80fffff8};
    struct vh_pci_bus pci = {.count = 1};
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        (void)out(&pci, ADDRESS, 4, addresses[i]);
        CHECK_EQ(in(&pci, DATA, 4), 0xffffffff);
    }
}

TEST(pci_address_register)
{
    struct vh_pci_bus pci = {.count = 1};
    (void)out(&pci, ADDRESS, 4, 0xffffffff);
    CHECK_EQ(in(&pci, ADDRESS, 4), 0x80fffffc); /* reserved bits stay 0 */
    (void)out(&pci, ADDRESS, 1, 0);
    (void)out(&pci, 2, 2, 0);
    CHECK_EQ(in(&pci, ADDRESS, 4), 0x80fffffc); /* narrow accesses are not for it */
    CHECK_EQ(in(&pci, ADDRESS, 2), 0xffff);
}
