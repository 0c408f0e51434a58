/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of machines without KVM: what comes back, and what is refused. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pci_driver.h"
#include "snapshot.h"
#include "snapshot_rig.h"
#include "tap.h"
#include "virtio/pci_transport.h"
#include "vmmhpc_devices.h"
#include "vmmhpc_snapshot.h"

/* Load the files into a fresh machine, which then is gone again. */
static int32_t load(struct snapshot_rig *rig)
{
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    int32_t status = vmmhpc_snapshot_load(vm, rig->state_fd, rig->memory_fd, 0, &rig->err);
    machine_rig_free(vm);
    return status;
}

TEST(snapshot_continues)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err);
    /* Registers, RAM, UART. */
    uint64_t base = driver_bar(vm, 0);
    CHECK_EQ(base, driver_bar(rig.vm, 0));
    CHECK_EQ(driver_in(vm, base + 20, 1), 15);
    CHECK_EQ(driver_in(vm, base + 26, 2), 1);
    CHECK_EQ(*(uint8_t *)vh_memory_at(&vm->memory, 0x3fffff, 1), 0xa5);
    CHECK_EQ(vh_uart_access(&vm->uart, 0, 7, 1, VMMHPC_ACCESS_READ, 0), 0x5a);
    uint8_t byte = 0;
    CHECK_EQ(vh_uart_peek(&vm->uart, &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    /* The queue goes on behind its first chain; the first machine has a queue of its own. */
    CHECK(device->started);
    CHECK_EQ(device->queues[0].next_used, 1);
    memset(vh_memory_at(&vm->memory, DRIVER_BUFFER + 64, 4), 0, 4);
    driver_offer(vm, 1);
    driver_out(vm, base + DRIVER_NOTIFY, 2, 0);
    machine_rig_serve(vm);
    CHECK_EQ(memcmp(vh_memory_at(&vm->memory, DRIVER_BUFFER + 64, 4), "ping", 4), 0);
    CHECK_EQ(device->queues[0].next_used, 2);
    CHECK_EQ(rig.device->queues[0].next_used, 1);
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

/* What was offered and not looked at yet is looked at, and the driver is told to look, too. */
TEST(snapshot_wakes_both_sides)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    driver_offer(rig.vm, 1);
    CHECK_EQ(ftruncate(rig.state_fd, 0), 0);
    CHECK_OK(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, NULL, 0, &rig.err),
             &rig.err);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err);
    eventfd_t count = 0;
    CHECK_EQ(eventfd_read(vh_virtio_call_fd(device, 0), &count), 0);
    machine_rig_serve(vm);
    CHECK_EQ(device->queues[0].next_used, 2);
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

TEST(snapshot_intx)
{
    struct snapshot_rig rig = snapshot_rig_saved(false);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x06), 2) & 8, 8);
    CHECK_EQ(driver_in(vm, driver_bar(vm, 0) + DRIVER_ISR, 1), 1);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x06), 2) & 8, 0);
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

/* Pages of zeroes take no room; a machine that was restored starts from zero after a reset. */
TEST(snapshot_memory)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct stat info;
    CHECK_EQ(fstat(rig.memory_fd, &info), 0);
    CHECK_EQ(info.st_size, 4 << 20);
    CHECK(info.st_blocks * 512 < 256 * 1024);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err);
    /* Its own: the file and others that map it do not see what is written. */
    uint8_t *page = vh_memory_at(&vm->memory, 0x3ff000, 4096);
    page[0] = 1;
    uint8_t byte = 0;
    CHECK_EQ(pread(rig.memory_fd, &byte, 1, 0x3ff000), 1);
    CHECK_EQ(byte, 0xa5);
    vh_pci_reset(vm);
    CHECK_OK(vh_memory_clear(&vm->memory, &rig.err), &rig.err);
    CHECK_EQ(page[0], 0);
    CHECK_EQ(page[1], 0);
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

TEST(snapshot_states)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    atomic_store(&rig.vm->state, VMMHPC_STATE_STOPPED);
    CHECK_ERROR(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, NULL, 0, &rig.err),
                &rig.err, VMMHPC_E_STATE, "only a machine that runs or is paused");
    CHECK_ERROR(vmmhpc_snapshot_load(rig.vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_STATE, "before anything is loaded");
    CHECK_ERROR(vmmhpc_snapshot_load(rig.vm, rig.state_fd, rig.memory_fd, 6, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "unknown flags");
    rig.device->unsaved = true;
    atomic_store(&rig.vm->state, VMMHPC_STATE_PAUSED);
    CHECK_ERROR(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, NULL, 0, &rig.err),
                &rig.err, VMMHPC_E_UNSUPPORTED, "virtio echo cannot be saved");
    snapshot_rig_release(&rig);
}

TEST(snapshot_of_another_machine)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = machine_rig_new(8);
    CHECK(machine_rig_echo(vm) != NULL);
    CHECK_ERROR(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "memory region 0 has 4 MiB in the snapshot, 8 MiB");
    machine_rig_free(vm);
    vm = machine_rig_new(4);
    CHECK_ERROR(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "the number of PCI devices is 1 there, 0 here");
    machine_rig_free(vm);
    vm = snapshot_rig_machine(&device);
    device->features = 0;
    CHECK_ERROR(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err,
                VMMHPC_E_INVALID, "lacks features");
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

TEST(snapshot_every_damaged_byte)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    size_t bytes = 0;
    uint8_t *data = snapshot_rig_contents(rig.state_fd, &bytes);
    for (size_t at = 0; at < bytes; at += at < 256 ? 1 : 97) {
        data[at] ^= 0x10;
        snapshot_rig_replace(rig.state_fd, data, bytes);
        CHECK(load(&rig) < 0);
        data[at] ^= 0x10;
    }
    for (size_t length = 0; length < bytes; length += length < 256 ? 1 : 97) {
        snapshot_rig_replace(rig.state_fd, data, length);
        CHECK(load(&rig) < 0);
    }
    snapshot_rig_replace(rig.state_fd, data, bytes);
    CHECK_OK(load(&rig), &rig.err);
    free(data);
    snapshot_rig_release(&rig);
}

/* As damage never is: with a checksum that fits. */
static int32_t load_patched(struct snapshot_rig *rig, const uint8_t *data, size_t bytes, size_t at,
                            uint64_t value, size_t width)
{
    struct vh_snap_header header;
    uint8_t *copy = malloc(bytes);
    CHECK(copy != NULL);
    memcpy(copy, data, bytes);
    memcpy(copy + at, &value, width);
    memcpy(&header, copy, sizeof(header));
    header.crc = 0;
    memcpy(copy, &header, sizeof(header));
    header.crc = vh_crc32c(0, copy, bytes);
    memcpy(copy, &header, sizeof(header));
    snapshot_rig_replace(rig->state_fd, copy, bytes);
    free(copy);
    return load(rig);
}

TEST(snapshot_hostile_header)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    size_t bytes = 0;
    uint8_t *data = snapshot_rig_contents(rig.state_fd, &bytes);
    CHECK_ERROR(load_patched(&rig, data, bytes, 0, 0, 8), &rig.err, VMMHPC_E_BAD_IMAGE,
                "no snapshot's state");
    CHECK_ERROR(load_patched(&rig, data, bytes, 8, 2, 2), &rig.err, VMMHPC_E_UNSUPPORTED,
                "of version 2.2 of the format, this reads version 1");
    CHECK_OK(load_patched(&rig, data, bytes, 10, 7, 2), &rig.err); /* a newer minor version */
    CHECK_ERROR(load_patched(&rig, data, bytes, 16, bytes + 8, 8), &rig.err, VMMHPC_E_TRUNCATED,
                "should have");
    CHECK_ERROR(load_patched(&rig, data, bytes, 16, 64, 8), &rig.err, VMMHPC_E_BAD_IMAGE, "");
    CHECK_ERROR(load_patched(&rig, data, bytes, 24, UINT32_MAX, 4), &rig.err, VMMHPC_E_BAD_IMAGE,
                "damaged");
    CHECK_ERROR(load_patched(&rig, data, bytes, 24, 1000, 4), &rig.err, VMMHPC_E_BAD_IMAGE,
                "damaged");
    CHECK_ERROR(load_patched(&rig, data, bytes, 24, 1, 4), &rig.err, VMMHPC_E_BAD_IMAGE,
                "something follows");
    /* The first section: the note. */
    CHECK_ERROR(load_patched(&rig, data, bytes, 64 + 8, UINT64_MAX, 8), &rig.err,
                VMMHPC_E_BAD_IMAGE, "longer than the file");
    CHECK_ERROR(load_patched(&rig, data, bytes, 64, 99, 4), &rig.err, VMMHPC_E_UNSUPPORTED,
                "type 99, which this version does not know");
    CHECK_OK(load_patched(&rig, data, bytes, 64, 0x80000099, 4), &rig.err);
    CHECK_EQ(ftruncate(rig.memory_fd, 4096), 0);
    CHECK_ERROR(load_patched(&rig, data, bytes, 10, 0, 2), &rig.err, VMMHPC_E_TRUNCATED,
                "memory has 4096 bytes");
    free(data);
    snapshot_rig_release(&rig);
}

/* Gives the reader a byte, lingers, and takes it out of the ring then: an I/O thread at its
 * slowest. */
struct slow_reader {
    atomic_bool has_read;
    atomic_bool is_saved;
};

static void pump_slowly(struct vmmhpc *vm)
{
    struct slow_reader *reader = vm->console.kept;
    uint8_t byte = 0;
    CHECK_EQ(vh_uart_peek(&vm->uart, &byte, 1), 1);
    atomic_store(&reader->has_read, true);
    for (int i = 0; i < 100 && !atomic_load(&reader->is_saved); i++) {
        (void)poll(NULL, 0, 1);
    }
    vh_uart_consume(&vm->uart, 1);
}

static void *pump(void *vm)
{
    vh_console_pump(vm);
    return NULL;
}

/* What a reader had before the snapshot is not said again after it. */
TEST(snapshot_while_output_moves)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct slow_reader reader = {0};
    const struct vh_console_keeper keeper = {.pump = pump_slowly};
    struct vmmhpc_stats_page stats = {0};
    pthread_t thread;
    rig.vm->console =
        (struct vh_console){.in_fd = -1, .out_fd = -1, .keeper = &keeper, .kept = &reader};
    rig.vm->stats = &stats;
    CHECK_EQ(pthread_create(&thread, NULL, pump, rig.vm), 0);
    while (!atomic_load(&reader.has_read)) {
        (void)poll(NULL, 0, 1);
    }
    snapshot_rig_replace(rig.state_fd, NULL, 0);
    snapshot_rig_replace(rig.memory_fd, NULL, 0);
    CHECK_OK(vmmhpc_snapshot_write(rig.vm, rig.state_fd, rig.memory_fd, NULL, 0, &rig.err),
             &rig.err);
    atomic_store(&reader.is_saved, true);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_load(vm, rig.state_fd, rig.memory_fd, 0, &rig.err), &rig.err);
    uint8_t byte = 0;
    CHECK_EQ(vh_uart_peek(&vm->uart, &byte, 1), 0);
    machine_rig_free(vm);
    snapshot_rig_release(&rig);
}

/* ------------------------------------------------------------------ clones */

/* A machine with one network device, at the end of a wire. */
static struct vmmhpc *networked(uint8_t mac, int *far)
{
    int fds[2];
    uint32_t id = 0;
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc *vm = machine_rig_new(4);
    (void)pthread_mutex_init(&vm->uart.lock, NULL);
    (void)pthread_mutex_init(&vm->console_lock, NULL);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    const struct vmmhpc_net config = {.size = sizeof(config),
                                      .kind = VMMHPC_NET_LINK,
                                      .fd = fds[0],
                                      .mac = {0x52, 0x54, 0, 0, 0, mac}};
    CHECK_OK(vmmhpc_add_net(vm, &config, &id, &err), &err);
    (void)close(fds[0]);
    *far = fds[1];
    return vm;
}

/* A driver has it in use, without MSI-X. */
static void bind_driver(struct vmmhpc *vm)
{
    struct vh_virtio *device = vh_virtio_find(vm, VH_VIRTIO_NET);
    vh_pci_config_write(&vm->pci, 1, VH_PCI_COMMAND, 2, 6);
    for (uint32_t i = 0; i < device->queue_count; i++) {
        device->queues[i].size = 16;
        device->queues[i].enabled = true;
        device->queues[i].desc_gpa = DRIVER_RING + i * 0x10000;
        device->queues[i].avail_gpa = DRIVER_RING + i * 0x10000 + 0x4000;
        device->queues[i].used_gpa = DRIVER_RING + i * 0x10000 + 0x8000;
    }
    ((struct vh_virtio_pci *)device->transport_self)->status = 15;
    device->features_acked = vh_virtio_offered(device);
    struct vmmhpc_error err = {.size = sizeof(err)};
    CHECK_OK(vh_virtio_start(device, &vm->memory, &err), &err);
}

/* The address and the link as a driver reads them. */
static uint64_t address_of(struct vmmhpc *vm)
{
    return driver_in(vm, driver_bar(vm, 0) + DRIVER_DEVICE + 5, 1);
}

static uint64_t link_of(struct vmmhpc *vm)
{
    return driver_in(vm, driver_bar(vm, 0) + DRIVER_DEVICE + 6, 2) & 1;
}

TEST(snapshot_clone)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    int far[4];
    int fds[2] = {memfd_create("state", MFD_CLOEXEC), memfd_create("memory", MFD_CLOEXEC)};
    int again[2] = {memfd_create("state", MFD_CLOEXEC), memfd_create("memory", MFD_CLOEXEC)};
    struct vmmhpc *first = networked(1, &far[0]);
    bind_driver(first);
    atomic_store(&first->state, VMMHPC_STATE_PAUSED);
    CHECK_OK(vmmhpc_snapshot_write(first, fds[0], fds[1], NULL, 0, &err), &err);

    /* Its driver has the first one's address: no link, and an interrupt that says so. */
    struct vmmhpc *clone = networked(2, &far[1]);
    CHECK_ERROR(vmmhpc_snapshot_clone(clone, fds[0], fds[1], "two words", &err), &err,
                VMMHPC_E_INVALID, "a clone's name");
    CHECK_OK(vmmhpc_snapshot_clone(clone, fds[0], fds[1], "clone-1", &err), &err);
    CHECK_EQ(strcmp(vh_memory_at(&clone->memory, 0xf0010, 64), "clone-1"), 0);
    CHECK_EQ(address_of(clone), 2);
    CHECK_EQ(link_of(clone), 0);
    CHECK_EQ(driver_in(clone, driver_bar(clone, 0) + DRIVER_ISR, 1) & 2, 2);

    /* Saved so and restored it still has none, and its name. */
    atomic_store(&clone->state, VMMHPC_STATE_PAUSED);
    CHECK_OK(vmmhpc_snapshot_write(clone, again[0], again[1], NULL, 0, &err), &err);
    struct vmmhpc *copy = networked(3, &far[2]);
    CHECK_OK(vmmhpc_snapshot_load(copy, again[0], again[1], 0, &err), &err);
    CHECK_EQ(address_of(copy), 2);
    CHECK_EQ(link_of(copy), 0);
    CHECK_EQ(strcmp(copy->generation.clone, "clone-1"), 0);

    /* The driver is bound again, and reads the address. */
    driver_out(copy, driver_bar(copy, 0) + DRIVER_COMMON + 20, 1, 0);
    CHECK_EQ(link_of(copy), 1);

    /* One that is no clone has the address and the link that the first one had. */
    struct vmmhpc *restored = networked(4, &far[3]);
    CHECK_OK(vmmhpc_snapshot_load(restored, fds[0], fds[1], 0, &err), &err);
    CHECK_EQ(address_of(restored), 1);
    CHECK_EQ(link_of(restored), 1);

    struct vmmhpc *const all[] = {first, clone, copy, restored};
    for (size_t i = 0; i < VH_COUNT(all); i++) {
        machine_rig_free(all[i]);
        (void)close(far[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        (void)close(fds[i]);
        (void)close(again[i]);
    }
}

/* ------------------------------------------------------------------ bases */

/* One more snapshot, based on the rig's; its own files, and below them the rig's. */
static struct vh_snapshot_files based(struct snapshot_rig *rig)
{
    const struct vh_snapshot_files base = {
        .state_fd = rig->state_fd, .layers = 1, .memory_fds = {rig->memory_fd}};
    struct vh_snapshot_files files = {.state_fd = memfd_create("state", MFD_CLOEXEC), .layers = 2};
    files.memory_fds[0] = memfd_create("memory", MFD_CLOEXEC);
    files.memory_fds[1] = rig->memory_fd;
    memset(vh_memory_at(&rig->vm->memory, 0x3ff000, 4096), 0, 4096);
    memset(vh_memory_at(&rig->vm->memory, 0x300000, 0x20000), 0x77, 0x20000);
    memset(vh_memory_at(&rig->vm->memory, 0x200000, 4096), 0x66, 4096);
    CHECK_OK(vh_snap_write(rig->vm, files.state_fd, files.memory_fds[0], &base, NULL, 0, &rig->err),
             &rig->err);
    return files;
}

static void close_based(const struct vh_snapshot_files *files)
{
    (void)close(files->state_fd);
    (void)close(files->memory_fds[0]);
}

TEST(snapshot_with_a_base)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct vh_snapshot_files files = based(&rig);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vh_snap_load(vm, &files, 0, NULL, &rig.err), &rig.err);
    const struct vh_mapping *mapping = &vm->memory.mappings[0];
    CHECK_EQ(memcmp(mapping->base, rig.vm->memory.mappings[0].base, mapping->bytes), 0);
    CHECK_EQ(*(uint8_t *)vh_memory_at(&vm->memory, 0x300000, 1), 0x77);
    CHECK_EQ(*(uint8_t *)vh_memory_at(&vm->memory, 0x3ff000, 1), 0);
    machine_rig_free(vm);
    /* What is the base's is not written again: 34 pages, and the rings that were not touched. */
    struct stat info;
    CHECK_EQ(fstat(files.memory_fds[0], &info), 0);
    CHECK(info.st_blocks * 512 <= 40 * 4096);
    close_based(&files);
    snapshot_rig_release(&rig);
}

static int32_t load_based(struct snapshot_rig *rig, const struct vh_snapshot_files *files)
{
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    int32_t status = vh_snap_load(vm, files, 0, NULL, &rig->err);
    machine_rig_free(vm);
    return status;
}

TEST(snapshot_hostile_base)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    struct vh_snapshot_files files = based(&rig);
    size_t bytes = 0;
    uint8_t *data = snapshot_rig_contents(files.state_fd, &bytes);
    const size_t layers = snapshot_rig_payload(data, bytes, VH_SNAP_LAYERS);
    const size_t runs = snapshot_rig_payload(data, bytes, VH_SNAP_RUNS);
    const size_t second = runs + sizeof(struct vh_snap_run);
    const struct {
        size_t at;
        uint64_t value;
    } rows[] = {
        {layers, 0},
        {layers, 1},
        {layers, 9},
        {layers, UINT32_MAX},
        {runs, 1},
        {second, 0},
        {second, 1024},
        {second, UINT64_MAX},
        {second, UINT64_MAX / 4096},
        {second + 8, 2},
        {second + 8, 1u << 31},
        {runs + 8, UINT32_MAX},
    };
    for (size_t i = 0; i < VH_COUNT(rows); i++) {
        snapshot_rig_patch(files.state_fd, data, bytes, rows[i].at, rows[i].value);
        CHECK(load_based(&rig, &files) == VMMHPC_E_BAD_IMAGE);
    }
    snapshot_rig_patch(files.state_fd, data, bytes, layers,
                       3); /* it says three files, and there are two */
    CHECK_ERROR(load_based(&rig, &files), &rig.err, VMMHPC_E_INVALID, "in 3 files, and 2 are");
    snapshot_rig_patch(files.state_fd, data, bytes, layers, 2);
    CHECK_OK(load_based(&rig, &files), &rig.err);
    CHECK_EQ(ftruncate(files.memory_fds[0], 4096), 0);
    CHECK_ERROR(load_based(&rig, &files), &rig.err, VMMHPC_E_TRUNCATED, "memory has 4096 bytes");
    free(data);
    close_based(&files);
    snapshot_rig_release(&rig);
}

/* ------------------------------------------------------------------ directories */

static void remove_all(char *root)
{
    static const char *const names[] = {"s/state", "s/memory", "s"};
    char path[128];
    for (size_t i = 0; i < VH_COUNT(names); i++) {
        snapshot_rig_join(path, sizeof(path), root, names[i]);
        (void)remove(path);
    }
    CHECK_EQ(rmdir(root), 0); /* nothing else was left */
    free(root);
}

TEST(snapshot_directory)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    char *root = snapshot_rig_scratch();
    char path[128];
    char note[8] = "";
    struct vmmhpc_snapshot_info info = {.size = sizeof(info)};
    snapshot_rig_join(path, sizeof(path), root, "s");
    CHECK_OK(vmmhpc_snapshot_save(rig.vm, path, "a note", 6, &rig.err), &rig.err);
    CHECK_OK(vmmhpc_snapshot_read(path, &info, note, sizeof(note), &rig.err), &rig.err);
    CHECK_EQ(info.major, 1);
    CHECK_EQ(info.memory_bytes, 4 << 20);
    CHECK(info.data_bytes >= 3 * 4096 && info.data_bytes < 1 << 20);
    CHECK_EQ(info.note_bytes, 6);
    CHECK_EQ(strcmp(note, "a note"), 0);
    CHECK_OK(vmmhpc_snapshot_verify(path, &rig.err), &rig.err);
    /* What is there is never replaced. */
    CHECK_ERROR(vmmhpc_snapshot_save(rig.vm, path, NULL, 0, &rig.err), &rig.err, VMMHPC_E_IO,
                "File exists");
    CHECK_OK(vmmhpc_snapshot_verify(path, &rig.err), &rig.err);
    struct vh_virtio *device = NULL;
    struct vmmhpc *vm = snapshot_rig_machine(&device);
    CHECK_OK(vmmhpc_snapshot_restore(vm, path, 0, &rig.err), &rig.err);
    machine_rig_free(vm);
    /* A bit in memory. */
    char memory[160];
    snapshot_rig_join(memory, sizeof(memory), path, "memory");
    CHECK_EQ(chmod(memory, 0600), 0);
    int fd = open(memory, O_RDWR | O_CLOEXEC);
    CHECK_EQ(pwrite(fd, "!", 1, 0x3ff800), 1);
    CHECK_ERROR(vmmhpc_snapshot_verify(path, &rig.err), &rig.err, VMMHPC_E_BAD_IMAGE,
                "the checksum of memory region 0 is wrong");
    (void)close(fd);
    remove_all(root);
    snapshot_rig_release(&rig);
}

TEST(snapshot_failure_leaves_nothing)
{
    struct snapshot_rig rig = snapshot_rig_saved(true);
    char *root = snapshot_rig_scratch();
    char path[128];
    snapshot_rig_join(path, sizeof(path), root, "s");
    rig.device->unsaved = true;
    CHECK(vmmhpc_snapshot_save(rig.vm, path, NULL, 0, &rig.err) < 0);
    CHECK(access(path, F_OK) != 0);
    CHECK_ERROR(vmmhpc_snapshot_restore(rig.vm, path, 0, &rig.err), &rig.err, VMMHPC_E_IO,
                "cannot open the snapshot");
    snapshot_rig_join(path, sizeof(path), root, "none/s");
    CHECK_ERROR(vmmhpc_snapshot_save(rig.vm, path, NULL, 0, &rig.err), &rig.err, VMMHPC_E_IO,
                "cannot make a directory beside");
    remove_all(root);
    snapshot_rig_release(&rig);
}

TEST(snapshot_crc)
{
    /* RFC 3720, B.4, and in pieces. */
    uint8_t data[48];
    memset(data, 0, sizeof(data));
    CHECK_EQ(vh_crc32c(0, data, 32), 0x8a9136aa);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = i;
    }
    CHECK_EQ(vh_crc32c(0, data, 32), 0x46dd794e);
    CHECK_EQ(vh_crc32c(vh_crc32c(0, data, 13), data + 13, 19), 0x46dd794e);
}
