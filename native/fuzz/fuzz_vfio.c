/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function of the host's, as a hostile driver uses it, and a function with a capability list of
 * its own making. Each 8 bytes are one step; the first of them say how the list is spoilt. What
 * must hold: who it is does not change, neither do the sizes of its BARs; the device's own
 * registers are written where the guest may and nowhere else; and no step upsets the machine.
 */
#include "harness.h"

#include <string.h>

#include "../test/vfio_rig.h"
#include "layout.h"

#define STEP ((size_t)8)
#define IDENTITY 0x10d38086u
#define SPOILT_AT 0x40u

struct step {
    uint8_t kind; /* bits 0-2: what; 3: write; 4-5: width */
    uint8_t more; /* bit 7: not aligned */
    uint16_t offset;
    uint32_t value;
};

static void run(const struct vfio_rig *rig, const struct step *step)
{
    static const uint32_t widths[] = {1, 2, 4, 8};
    struct vmmhpc *vm = rig->vm;
    const uint32_t bytes = widths[step->kind >> 4 & 3];
    const uint32_t direction = (step->kind & 8) != 0 ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ;
    const uint32_t offset = (step->more & 0x80) != 0 ? step->offset : step->offset & ~(bytes - 1);
    const struct vh_vfio_bar *bar = &rig->vfio->bars[(step->kind & 7) % VH_VFIO_BARS];
    switch (step->kind & 7) {
    case 0:
    case 1:
    case 4:
        if (bar->bytes > 0 && bar->gpa != VH_PCI_NOWHERE) {
            (void)machine_rig_mmio(vm, bar->gpa + offset % bar->bytes, bytes, direction,
                                   step->value);
        }
        break;
    case 2:
        (void)machine_rig_mmio(vm, VH_ECAM_GPA + 0x8000 + (offset & 0xfff), bytes, direction,
                               step->value);
        break;
    case 3:
        (void)machine_rig_mmio(vm, VH_ECAM_GPA + 0x8000 + 0x10 + (offset & 0x1c), 4, direction,
                               step->value);
        break;
    case 5: /* the device changes by itself, but for who it is and what it has */
        vfio_rig_poke(rig, 0x06, 2, step->value & 0xffff);
        break;
    case 6:
        vh_pci_reset(vm);
        break;
    default: /* the usual start */
        (void)machine_rig_mmio(vm, VH_ECAM_GPA + 0x8004, 2, VMMHPC_ACCESS_WRITE, 6);
        break;
    }
}

static void check(const struct vfio_rig *rig)
{
    MUST(machine_rig_mmio(rig->vm, VH_ECAM_GPA + 0x8000, 4, VMMHPC_ACCESS_READ, 0) == IDENTITY);
    MUST(vfio_rig_peek(rig, 0, 4) == IDENTITY);
    MUST((vfio_rig_peek(rig, 0x04, 2) & ~0x0406u) == 0);
    MUST(vfio_rig_peek(rig, 0x10, 4) == 0xfeb00000); /* its BARs are the host's to place */
    const uint64_t sizes[VH_VFIO_BARS] = {0x4000, 0x100, 0, 0, 0x8000, 0};
    for (uint32_t i = 0; i < VH_VFIO_BARS; i++) {
        const struct vh_vfio_bar *bar = &rig->vfio->bars[i];
        MUST(bar->bytes == sizes[i]);
        MUST(bar->bytes == 0 || bar->gpa == VH_PCI_NOWHERE ||
             (bar->gpa >= VH_PCI_WINDOW_GPA && bar->gpa % (bar->bytes & 0xfff0) == 0));
    }
    for (uint32_t i = 0; i < rig->vfio->piece_count; i++) {
        (void)*(volatile uint8_t *)rig->vfio->pieces[i].host;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct vfio_rig rig = vfio_rig_new();
    bool reached = false;
    /* Bit 7: spoil three places of the list. */
    if (bytes >= STEP && (data[0] & 0x80) != 0) {
        for (size_t i = 1; i < STEP - 1; i += 2) {
            vfio_rig_poke(&rig, SPOILT_AT + data[i] % 0x60u, 1, data[i + 1]);
        }
    }
    if (vfio_rig_add(&rig, NULL) == VMMHPC_OK) {
        for (; bytes >= STEP; data += STEP, bytes -= STEP) {
            struct step step;
            memcpy(&step, data, sizeof(step));
            run(&rig, &step);
            reached = reached || (rig.vfio->command & VH_PCI_COMMAND_MEMORY) != 0;
        }
        check(&rig);
        vh_pci_reset(rig.vm);
        check(&rig);
        MUST(vfio_rig_peek(&rig, 0x04, 2) == 0);
    }
    fuzz_count(reached);
    vfio_rig_free(&rig);
    return 0;
}
