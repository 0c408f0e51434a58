/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space. What the guest reads is made here: identity, its own BARs and MSI-X; only
 * the capabilities of a short list are the device's own, in their places, since some have registers
 * that a driver reaches by a fixed offset. What is not on the list is not there: power management
 * (the device stays at work), MSI (there is MSI-X, or INTx), and all beyond the first 256 bytes.
 */
#include <string.h>

#include "device.h"

#define HEADER_BYTES 0x40u
#define HEADER_TYPE 0x0eu
#define HEADER_TYPE_MASK 0x7fu /* without "more functions" */
#define STATUS_OWN VH_PCI_STATUS_CAPABILITIES

#define CAPABILITY_VPD 0x03u
#define CAPABILITY_VENDOR 0x09u
#define CAPABILITY_EXPRESS 0x10u
#define CAPABILITY_MSIX 0x11u
#define CAPABILITY_AF 0x13u

#define MSIX_BYTES 12u
#define MSIX_SIZE_MASK 0x7ffu
#define BIR_MASK 0x7u

/* PCI Express capability (PCIe 5.0, 7.5.3). */
#define EXPRESS_BYTES_1 0x14u
#define EXPRESS_BYTES_2 0x3cu
#define EXPRESS_TYPE 0xf0u
#define EXPRESS_ROOT_COMPLEX 0x90u /* an endpoint that is part of the root complex */
#define EXPRESS_CONTROL 0x08u

static uint32_t word(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t dword(const uint8_t *bytes)
{
    uint32_t value = 0;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

/* The device's own, from `at` on. */
static void pass(struct vh_vfio *vfio, const uint8_t *device, uint32_t at, uint32_t bytes,
                 bool writable)
{
    memcpy(vfio->pci.config + at, device + at, bytes);
    memset(vfio->read_through + at, 0xff, bytes);
    if (writable) {
        memset(vfio->pci.writable + at, 0xff, bytes);
        memset(vfio->write_through + at, true, bytes);
    }
}

/* On this bus there is no port above it: a driver must not look for one. */
static void pass_express(struct vh_vfio *vfio, const uint8_t *device, uint32_t at, uint32_t bytes)
{
    uint8_t *flags = vfio->pci.config + at + 2;
    pass(vfio, device, at, bytes, false);
    *flags = (uint8_t)((*flags & ~EXPRESS_TYPE) | EXPRESS_ROOT_COMPLEX);
    vfio->read_through[at + 2] = (uint8_t)~EXPRESS_TYPE;
    for (uint32_t i = at + EXPRESS_CONTROL; i < at + EXPRESS_CONTROL + 2; i++) {
        vfio->pci.writable[i] = 0xff;
        vfio->write_through[i] = true;
    }
}

static bool trap(struct vh_vfio *vfio, uint32_t which, uint32_t where, uint64_t bytes)
{
    const uint32_t bar = where & BIR_MASK;
    const uint64_t offset = where & ~BIR_MASK;
    if (bar >= VH_VFIO_BARS || offset > vfio->function.bars[bar].bytes ||
        bytes > vfio->function.bars[bar].bytes - offset) {
        return false;
    }
    vfio->traps[which] = (struct vh_vfio_trap){.bar = bar, .offset = offset, .bytes = bytes};
    return true;
}

/* The core made the capability: here it gets the device's place, and its table and pending bits
 * those of the device. */
static bool move_msix(struct vh_vfio *vfio, const uint8_t *device, uint32_t at)
{
    struct vh_msix *msix = &vfio->pci.msix;
    uint8_t *capability = vfio->pci.config + at;
    const uint32_t count = msix->count;
    memcpy(capability + 4, device + at + 4, MSIX_BYTES - 4);
    capability[2] = (uint8_t)(count - 1);
    capability[3] = (uint8_t)((count - 1) >> 8);
    vfio->pci.writable[at + 3] = vfio->pci.writable[msix->capability + 3];
    if (at != msix->capability) {
        vfio->pci.writable[msix->capability + 3] = 0;
    }
    msix->capability = at;
    msix->bar = UINT32_MAX; /* no BAR is all MSI-X's: vh_vfio_bar_access() */
    return trap(vfio, VH_VFIO_TABLE, dword(device + at + 4),
                (uint64_t)count * VH_MSIX_ENTRY_BYTES) &&
           trap(vfio, VH_VFIO_PENDING, dword(device + at + 8), (uint64_t)(count + 63) / 64 * 8);
}

/* Bytes of a capability that the guest may see; 0: none. */
static uint32_t shown_bytes(const struct vh_vfio *vfio, const uint8_t *capability)
{
    switch (capability[0]) {
    case CAPABILITY_VPD:
        return 8;
    case CAPABILITY_VENDOR:
        return capability[2] < 3 ? 0 : capability[2];
    case CAPABILITY_EXPRESS:
        return (capability[2] & 0xf) < 2 ? EXPRESS_BYTES_1 : EXPRESS_BYTES_2;
    case CAPABILITY_MSIX:
        return vfio->pci.msix.count > 0 ? MSIX_BYTES : 0;
    case CAPABILITY_AF:
        return 6;
    default:
        return 0;
    }
}

static bool show(struct vh_vfio *vfio, const uint8_t *device, uint32_t at, uint32_t bytes)
{
    switch (device[at]) {
    case CAPABILITY_MSIX:
        return move_msix(vfio, device, at);
    case CAPABILITY_EXPRESS:
        pass_express(vfio, device, at, bytes);
        return true;
    default:
        pass(vfio, device, at, bytes, true);
        return true;
    }
}

/* False: the list makes no sense. */
static bool copy_capabilities(struct vh_vfio *vfio, const uint8_t *device)
{
    struct vh_pci_device *pci = &vfio->pci;
    bool used[VH_PCI_CONFIG_BYTES] = {false};
    uint32_t link = VH_PCI_CAPABILITIES; /* where the offset of the next goes */
    uint32_t at = (word(device + VH_PCI_STATUS) & VH_PCI_STATUS_CAPABILITIES) != 0
                      ? device[VH_PCI_CAPABILITIES] & 0xfcu
                      : 0;
    pci->config[link] = 0;
    for (; at != 0; at = device[at + 1] & 0xfcu) {
        if (at < HEADER_BYTES || used[at]) {
            return false; /* into the header, or in a circle */
        }
        used[at] = true;
        const uint32_t bytes = shown_bytes(vfio, device + at);
        if (bytes == 0) {
            continue;
        }
        if (bytes > VH_PCI_CONFIG_BYTES - at || !show(vfio, device, at, bytes)) {
            return false;
        }
        /* Identity and link are ours. */
        for (uint32_t i = at; i < at + 2; i++) {
            vfio->read_through[i] = 0;
            vfio->write_through[i] = false;
            pci->writable[i] = 0;
        }
        pci->config[at] = device[at];
        pci->config[at + 1] = 0;
        pci->config[link] = (uint8_t)at;
        link = at + 1;
    }
    return pci->msix.count == 0 || vfio->traps[VH_VFIO_TABLE].bytes > 0;
}

static void copy_header(struct vh_vfio *vfio, const uint8_t *device)
{
    struct vh_pci_device *pci = &vfio->pci;
    memset(pci->config + HEADER_BYTES, 0, VH_PCI_CONFIG_BYTES - HEADER_BYTES);
    memcpy(pci->config + VH_PCI_ID, device + VH_PCI_ID, 4);
    memcpy(pci->config + VH_PCI_CLASS, device + VH_PCI_CLASS, 4);
    memcpy(pci->config + VH_PCI_SUBSYSTEM, device + VH_PCI_SUBSYSTEM, 4);
    pci->config[VH_PCI_INTERRUPT_PIN] = vfio->function.intx ? 1 : 0;
    vfio->read_through[VH_PCI_STATUS] = (uint8_t)~STATUS_OWN;
    vfio->read_through[VH_PCI_STATUS + 1] = 0xff;
    pci->config[VH_PCI_STATUS] |= word(device + VH_PCI_STATUS) & STATUS_OWN;
}

int32_t vh_vfio_config_new(struct vh_vfio *vfio, struct vmmhpc_error *err)
{
    uint8_t device[VH_PCI_CONFIG_BYTES];
    for (uint32_t at = 0; at < sizeof(device); at += 4) {
        if (!vh_vfio_read(vfio, &vfio->function.config, at, device + at, 4)) {
            return vh_fail(err, VMMHPC_E_IO, 0, at, "cannot read the device's configuration space");
        }
    }
    if ((device[HEADER_TYPE] & HEADER_TYPE_MASK) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, device[HEADER_TYPE],
                       "the PCI function is a bridge, which cannot be handed on");
    }
    copy_header(vfio, device);
    if (!copy_capabilities(vfio, device)) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                       "the device's list of capabilities makes no sense");
    }
    return VMMHPC_OK;
}

/* ------------------------------------------------------------------ accesses */

void vh_vfio_config_read(struct vh_pci_device *device, uint32_t offset, uint32_t bytes)
{
    struct vh_vfio *vfio = vh_vfio_of(device);
    uint8_t fresh[4];
    bool any = false;
    for (uint32_t i = 0; i < bytes; i++) {
        any = any || vfio->read_through[offset + i] != 0;
    }
    if (!any || !vh_vfio_read(vfio, &vfio->function.config, offset, fresh, bytes)) {
        return;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        const uint8_t through = vfio->read_through[offset + i];
        uint8_t *byte = &device->config[offset + i];
        *byte = (uint8_t)((*byte & ~through) | (fresh[i] & through));
    }
}

/* Each run of bytes that are the device's in one access, as the guest made it. */
static void write_through(struct vh_vfio *vfio, uint32_t offset, uint32_t bytes)
{
    const uint32_t end = offset + bytes;
    for (uint32_t from = offset; from < end; from++) {
        uint32_t to = from;
        while (to < end && vfio->write_through[to]) {
            to++;
        }
        if (to > from) {
            (void)vh_vfio_write(vfio, &vfio->function.config, from, vfio->pci.config + from,
                                to - from);
            from = to;
        }
    }
}

/*
 * Registers are taken from the guest before the device stops to answer there, and given after it
 * answers: the host's kernel ends who touches them meanwhile. And the device must not be let loose
 * before memory is where the guest says.
 */
void vh_vfio_command(struct vh_vfio *vfio)
{
    uint16_t command = (uint16_t)word(vfio->pci.config + VH_PCI_COMMAND);
    if ((command & VH_PCI_COMMAND_MASTER) != 0 && vfio->function.container >= 0 &&
        vh_vfio_dma_map(vfio, NULL) != VMMHPC_OK) {
        command &= (uint16_t)~VH_PCI_COMMAND_MASTER; /* the guest reads that it was not taken */
        memcpy(vfio->pci.config + VH_PCI_COMMAND, &command, sizeof(command));
    }
    const bool hides = (command & VH_PCI_COMMAND_MEMORY) == 0;
    if (hides) {
        vfio->command = command;
        vh_vfio_bars_update(vfio);
    }
    (void)vh_vfio_write(vfio, &vfio->function.config, VH_PCI_COMMAND, &command, sizeof(command));
    vfio->command = command;
    if (!hides) {
        vh_vfio_bars_update(vfio);
    }
}

void vh_vfio_config_written(struct vh_pci_device *device, uint32_t offset, uint32_t bytes)
{
    struct vh_vfio *vfio = vh_vfio_of(device);
    if (offset < VH_PCI_COMMAND + 2 && offset + bytes > VH_PCI_COMMAND) {
        vh_vfio_command(vfio);
    } else if (offset >= VH_PCI_BAR0 && offset < VH_PCI_BAR0 + 4 * VH_VFIO_BARS) {
        vh_vfio_bars_update(vfio);
    }
    write_through(vfio, offset, bytes);
    vh_vfio_interrupts(vfio, false);
}
