/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space, BARs, MSI-X and virtio's registers, as a hostile driver uses them: by ECAM,
 * by ports and by memory. Each 8 bytes are one access. What must hold: who a device is does not
 * change, a BAR is decoded only in the windows, and no access upsets the machine.
 */
#include "harness.h"

#include <string.h>

#include "../test/machine_rig.h"
#include "layout.h"

#define STEP ((size_t)8)
#define SLOTS 3u

struct step {
    uint8_t kind; /* bits 0-2: where; 3: write; 4-5: width */
    uint8_t slot;
    uint16_t offset;
    uint32_t value;
};

static uint64_t configuration(uint32_t slot, uint32_t offset)
{
    return VH_ECAM_GPA + (uint64_t)slot * 0x8000 + offset;
}

static void check(struct vmmhpc *vm)
{
    for (uint32_t slot = 1; slot < vm->pci.count; slot++) {
        const struct vh_pci_device *device = vm->pci.devices[slot];
        MUST(machine_rig_mmio(vm, configuration(slot, 0), 4, VMMHPC_ACCESS_READ, 0) == 0x10441af4);
        for (uint32_t i = 0; i < VH_PCI_BARS; i++) {
            uint64_t gpa = device->bars[i].gpa;
            if (device->bars[i].bytes == 0 || gpa == VH_PCI_NOWHERE) {
                continue;
            }
            MUST(gpa % device->bars[i].bytes == 0);
            MUST((gpa >= VH_PCI_WINDOW_GPA && gpa < VH_PCI_WINDOW_GPA + VH_PCI_WINDOW_BYTES) ||
                 (gpa >= vm->pci.window_gpa && gpa < vm->pci.window_gpa + vm->pci.window_bytes));
        }
    }
}

static void run(struct vmmhpc *vm, const struct step *step)
{
    static const uint32_t widths[] = {1, 2, 4, 8};
    uint32_t bytes = widths[step->kind >> 4 & 3];
    uint32_t direction = (step->kind & 8) != 0 ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ;
    uint32_t slot = 1 + step->slot % (SLOTS - 1);
    const struct vh_pci_device *device = vm->pci.devices[slot];
    uint32_t bar = step->kind & 1;
    /* Aligned mostly: real drivers' accesses are, and those go deepest. */
    uint32_t offset = (step->slot & 0x80) != 0 ? step->offset : step->offset & ~(bytes - 1);
    switch (step->kind & 7) {
    case 0:
        (void)machine_rig_mmio(vm, configuration(slot, offset & 0xff), bytes, direction,
                               step->value);
        break;
    case 1:
        (void)machine_rig_mmio(vm, VH_ECAM_GPA + step->value % VH_ECAM_BYTES, bytes, direction,
                               step->value);
        break;
    case 2:
    case 3:
        if (device->bars[bar].gpa != VH_PCI_NOWHERE) {
            (void)machine_rig_mmio(vm, device->bars[bar].gpa + offset % device->bars[bar].bytes,
                                   bytes, direction, step->value);
        }
        break;
    case 4:
        (void)vh_pci_ports(&vm->pci, 0, offset & 7, bytes > 4 ? 4 : bytes, direction, step->value);
        break;
    case 5: /* a ring, in RAM */
        memcpy(vh_memory_at(&vm->memory, step->offset * 4u, 4), &step->value, 4);
        break;
    case 6:
        machine_rig_serve(vm);
        break;
    default: /* the usual start: decoding on, and home */
        (void)machine_rig_mmio(vm, configuration(slot, 4), 2, VMMHPC_ACCESS_WRITE, 6);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct vmmhpc *vm = machine_rig_new(1);
    for (uint32_t i = 1; i < SLOTS; i++) {
        MUST(machine_rig_echo(vm) != NULL);
    }
    bool reached = false;
    for (; bytes >= STEP; data += STEP, bytes -= STEP) {
        struct step step;
        memcpy(&step, data, sizeof(step));
        run(vm, &step);
        for (uint32_t slot = 1; slot < SLOTS; slot++) {
            reached = reached || vm->pci.devices[slot]->msix.function_masked ||
                      vm->pci.devices[slot]->bars[0].gpa != VH_PCI_NOWHERE;
        }
    }
    check(vm);
    vh_pci_reset(vm);
    check(vm);
    fuzz_count(reached);
    machine_rig_free(vm);
    return 0;
}
