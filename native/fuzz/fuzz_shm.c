/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel's device, as a hostile driver and a hostile server use it: its registers, its window,
 * its configuration space and its IOMMU, and what comes over its connection. Each 8 bytes are one
 * step. What must hold: who it is does not change, its window stays as large as it is, what others
 * write is nobody else's to write, and no step upsets the machine.
 */
#include "harness.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../test/machine_rig.h"
#include "shm/device.h"

#define STEP ((size_t)8)
#define AREA VH_PAGE
#define COMMON (2 * VH_PAGE)
#define PEERS 4u
#define ID 1u

struct step {
    uint8_t kind; /* bits 0-2: what; 3: write; 4-5: width */
    uint8_t more;
    uint16_t offset;
    uint32_t value;
};

struct rig {
    struct vmmhpc *vm;
    int server; /* our end of the connection */
    int memory;
};

static int memory_new(uint64_t bytes)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

static struct rig rig_new(void)
{
    struct rig rig = {.vm = machine_rig_new(1), .memory = memory_new(AREA)};
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const struct vh_shm_message welcome = {.magic = VH_SHM_MAGIC,
                                           .type = VH_SHM_WELCOME,
                                           .peer = ID,
                                           .peers = PEERS,
                                           .area_bytes = AREA,
                                           .common_bytes = COMMON};
    int own[3] = {memory_new(VH_SHM_TABLE_BYTES), memory_new(AREA), memory_new(COMMON)};
    MUST(vh_shm_send(ends[1], &welcome, own, 3) == 0);
    vh_shm_close(own, 3);
    const struct vmmhpc_shm config = {.size = sizeof(config), .fd = ends[0]};
    MUST(vmmhpc_add_shm(rig.vm, &config, NULL, NULL) == VMMHPC_OK);
    (void)close(ends[0]);
    rig.server = ends[1];
    return rig;
}

/* What comes from the device is of no interest: it must not fill the socket. */
static void drain(int fd)
{
    struct vh_shm_message message;
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    while (vh_shm_receive(fd, &message, fds, &count) == 0) {
        vh_shm_close(fds, count);
    }
}

static void say(const struct rig *rig, const struct step *step)
{
    struct vh_shm_message message = {.magic = VH_SHM_MAGIC,
                                     .type = step->more & 15,
                                     .peer = step->value % (PEERS + 2),
                                     .value = (int32_t)step->value};
    int fds[VH_SHM_FDS] = {dup(rig->memory)};
    for (uint32_t i = 1; i < VH_SHM_FDS; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    uint32_t count = (step->more & 0x10) != 0      ? step->offset % (VH_SHM_FDS + 1)
                     : message.type == VH_SHM_PEER ? VH_SHM_FDS
                                                   : 0;
    if (step->offset == 0xffff) {
        message.magic = step->value;
    }
    (void)vh_shm_send(rig->server, &message, fds, count);
    vh_shm_close(fds, VH_SHM_FDS);
}

static void run(const struct rig *rig, const struct step *step)
{
    static const uint32_t widths[] = {1, 2, 4, 8};
    struct vmmhpc *vm = rig->vm;
    const struct vh_pci_device *device = vm->pci.devices[1];
    const uint32_t bytes = widths[step->kind >> 4 & 3];
    const uint32_t direction = (step->kind & 8) != 0 ? VMMHPC_ACCESS_WRITE : VMMHPC_ACCESS_READ;
    const uint32_t bar = step->kind & 7;
    /* Aligned mostly: those accesses go deepest. */
    const uint32_t offset = (step->more & 0x80) != 0 ? step->offset : step->offset & ~(bytes - 1);
    switch (step->kind & 7) {
    case VH_SHM_BAR_REGISTERS:
    case VH_SHM_BAR_MEMORY:
    case VH_SHM_BAR_MSIX:
        if (device->bars[bar].gpa != VH_PCI_NOWHERE) {
            uint64_t span = bar == VH_SHM_BAR_REGISTERS && (step->more & 0x40) == 0
                                ? 0x20
                                : device->bars[bar].bytes;
            (void)machine_rig_mmio(vm, device->bars[bar].gpa + offset % span, bytes, direction,
                                   step->value);
        }
        break;
    case 3:
        (void)machine_rig_mmio(
            vm,
            ((step->more & 0x40) != 0 ? VH_IOMMU_GPA + VH_PAGE : VH_ECAM_GPA + 0x8000) +
                (offset & 0xff),
            bytes, direction, step->value);
        break;
    case 4:
        say(rig, step);
        break;
    case 5:
        machine_rig_serve(vm);
        drain(rig->server);
        break;
    case 6:
        vh_pci_reset(vm);
        break;
    default: /* the usual start */
        (void)machine_rig_mmio(vm, VH_ECAM_GPA + 0x8004, 2, VMMHPC_ACCESS_WRITE, 6);
        break;
    }
}

static void check(struct rig *rig)
{
    struct vh_shm *shm = vh_shm_of(rig->vm->pci.devices[1]);
    MUST(machine_rig_mmio(rig->vm, VH_ECAM_GPA + 0x8000, 4, VMMHPC_ACCESS_READ, 0) ==
         VH_SHM_VENDOR_DEVICE);
    MUST(shm->id == ID && shm->peers == PEERS && shm->area_bytes == AREA &&
         shm->common_bytes == COMMON);
    MUST(!shm->others[ID].present);
    for (uint32_t i = 0; i < PEERS; i++) {
        MUST(i == ID || !shm->lost || !shm->others[i].present);
        (void)*(volatile uint8_t *)(shm->window + vh_shm_area(shm, i)); /* all of it can be read */
    }
    *(volatile uint8_t *)(shm->window + vh_shm_area(shm, ID)) = 1;
    *(volatile uint8_t *)(shm->window + vh_shm_area(shm, 0) - 1) =
        1; /* the common section's last */
    uint8_t first = 0;
    MUST(pread(rig->memory, &first, 1, 0) == 1 && first == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct rig rig = rig_new();
    bool reached = false;
    for (; bytes >= STEP; data += STEP, bytes -= STEP) {
        struct step step;
        memcpy(&step, data, sizeof(step));
        run(&rig, &step);
        const struct vh_shm *shm = vh_shm_of(rig.vm->pci.devices[1]);
        reached = reached || shm->interrupts || shm->others[0].present || shm->others[2].present;
    }
    check(&rig);
    vh_pci_reset(rig.vm);
    check(&rig);
    fuzz_count(reached);
    machine_rig_free(rig.vm);
    (void)close(rig.server);
    (void)close(rig.memory);
    return 0;
}
