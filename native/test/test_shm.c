/* SPDX-License-Identifier: Apache-2.0 */
/* The VMM-bypass channel: places in it, protection, and the device's registers. No KVM. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "layout.h"
#include "shm_rig.h"
#include "tap.h"

/* Two machines that see each other. */
static struct vmmhpc_channel *pair_new(struct vmmhpc **first, struct vmmhpc **second)
{
    struct vmmhpc_channel *channel = channel_new(2);
    *first = peer_new(channel, 0, EVERYBODY);
    *second = peer_new(channel, 1, EVERYBODY);
    UNTIL(*first, sees(*first, 1));
    UNTIL(*second, sees(*second, 0));
    return channel;
}

static void pair_free(struct vmmhpc_channel *channel, struct vmmhpc *first, struct vmmhpc *second)
{
    machine_rig_free(first);
    machine_rig_free(second);
    vmmhpc_channel_destroy(channel);
}

/* ------------------------------------------------------------------ places */

TEST(shm_channel_options)
{
    static const struct {
        struct vmmhpc_channel_config config;
        const char *said;
    } cases[] = {
        {{.peers = 1, .area_bytes = AREA}, "peers"},
        {{.peers = VMMHPC_SHM_PEERS + 1, .area_bytes = AREA}, "peers"},
        {{.peers = 2, .area_bytes = 4097}, "4 KiB"},
        {{.peers = 2, .area_bytes = 0}, "4 KiB"},
        {{.peers = 2, .area_bytes = VMMHPC_SHM_AREA_MAX + VH_PAGE}, "1 GiB"},
        {{.peers = 2, .area_bytes = AREA, .common_bytes = 100}, "common section"},
        {{.peers = 2, .area_bytes = AREA, .common_bytes = VMMHPC_SHM_COMMON_MAX + VH_PAGE},
         "common section"},
        {{.size = 3, .peers = 2, .area_bytes = AREA}, "version"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vmmhpc_channel *channel = NULL;
        struct vmmhpc_channel_config config = cases[i].config;
        config.size = config.size == 0 ? sizeof(config) : config.size;
        CHECK_ERROR(vmmhpc_channel_create(&config, &channel, &err), &err, VMMHPC_E_INVALID,
                    cases[i].said);
    }
}

TEST(shm_places_are_taken_once_and_free_again)
{
    struct vmmhpc_channel *channel = channel_new(2);
    int32_t first = -1;
    int32_t second = -1;
    CHECK_OK(join(channel, 1, 0, &first), &err);
    CHECK_ERROR(join(channel, 1, 0, &second), &err, VMMHPC_E_STATE, "peer 1 is there already");
    CHECK_ERROR(join(channel, 2, 0, &second), &err, VMMHPC_E_INVALID, "not one of the channel's 2");
    (void)close(first);
    CHECK_OK(join_when_free(channel, 1, &second), &err);
    (void)close(second);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_a_place_is_good_for_one_device)
{
    struct vmmhpc_channel *channel = channel_new(2);
    struct vmmhpc *vm = machine_rig_new(1);
    struct vmmhpc_shm config = {.size = sizeof(config), .fd = -1};
    CHECK_ERROR(vmmhpc_add_shm(vm, &config, NULL, &err), &err, VMMHPC_E_INVALID, "descriptor -1");
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    config.fd = ends[0];
    (void)close(ends[1]);
    CHECK_ERROR(vmmhpc_add_shm(vm, &config, NULL, &err), &err, VMMHPC_E_INVALID, "no unused place");
    (void)close(ends[0]);
    config.size = 1;
    CHECK_ERROR(vmmhpc_add_shm(vm, &config, NULL, &err), &err, VMMHPC_E_INVALID, "version");
    CHECK_EQ(vm->pci.count, 1);
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}

/* ------------------------------------------------------------------ the device */

TEST(shm_configuration)
{
    struct vmmhpc_channel *channel = channel_new(3);
    struct vmmhpc *vm = peer_new(channel, 2, EVERYBODY);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x00), 4), 0x4106110a);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x08), 4), 0xff000000);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x3d), 1), 1);
    uint32_t at = driver_capability(vm, 0x09, 0);
    CHECK(at != 0);
    CHECK_EQ(driver_in(vm, driver_config(1, at + 2), 1), 0x18);
    CHECK_EQ(driver_in(vm, driver_config(1, at + 4), 4), VH_SHM_TABLE_BYTES);
    CHECK_EQ(driver_in(vm, driver_config(1, at + 8), 4), 0);
    CHECK_EQ(driver_in(vm, driver_config(1, at + 16), 4), AREA);
    /* The window: a table and three areas, to the next power of two. */
    driver_out(vm, driver_config(1, 0x18), 4, 0xffffffff);
    CHECK_EQ(driver_in(vm, driver_config(1, 0x18), 4) & ~0xfull, (uint32_t)-32768);
    CHECK_EQ(in(vm, VH_SHM_REG_ID), 2);
    CHECK_EQ(in(vm, VH_SHM_REG_PEERS), 3);
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_registers_refuse_nonsense)
{
    struct vmmhpc_channel *channel = channel_new(2);
    struct vmmhpc *vm = peer_new(channel, 0, EVERYBODY);
    uint64_t base = driver_bar(vm, 0);
    out(vm, VH_SHM_REG_ID, 7);
    out(vm, VH_SHM_REG_PEERS, 7);
    out(vm, VH_SHM_REG_INTERRUPTS, 0xfffffffe);
    CHECK_EQ(in(vm, VH_SHM_REG_ID), 0);
    CHECK_EQ(in(vm, VH_SHM_REG_PEERS), 2);
    CHECK_EQ(in(vm, VH_SHM_REG_INTERRUPTS), 0);
    out(vm, VH_SHM_REG_INTERRUPTS, 0xffffffff);
    CHECK_EQ(in(vm, VH_SHM_REG_INTERRUPTS), 1);
    /* Doorbells of nobody, of oneself, of vectors that are not there. */
    for (uint32_t peer = 0; peer < 70; peer++) {
        out(vm, VH_SHM_REG_DOORBELL, peer << 16 | (peer & 7));
    }
    out(vm, VH_SHM_REG_DOORBELL, 0xffffffff);
    CHECK_EQ(in(vm, VH_SHM_REG_DOORBELL), 0);
    /* Other widths, other places. */
    driver_out(vm, base + VH_SHM_REG_STATE, 1, 0xff);
    driver_out(vm, base + VH_SHM_REG_STATE, 8, UINT64_MAX);
    driver_out(vm, base + VH_SHM_REG_STATE + 2, 4, 0xff);
    CHECK_EQ(in(vm, VH_SHM_REG_STATE), 0);
    for (uint32_t offset = 0x14; offset < 0x1000; offset += 4) {
        driver_out(vm, base + offset, 4, 0xffffffff);
        CHECK_EQ(driver_in(vm, base + offset, 4), 0);
    }
    /* What of the window is not the guest's to write. */
    driver_out(vm, driver_bar(vm, 2), 4, 5);
    CHECK_EQ(state_of(vm, 0), 0);
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_peers_see_what_they_may)
{
    struct vmmhpc_channel *channel = channel_new(4);
    struct vmmhpc *a = peer_new(channel, 0, 1u << 1); /* to b only */
    struct vmmhpc *b = peer_new(channel, 1, EVERYBODY);
    struct vmmhpc *c = peer_new(channel, 3, 0); /* to nobody */
    memcpy(area_of(a, 0), "from a", 7);
    memcpy(area_of(b, 1), "from b", 7);
    memcpy(area_of(c, 3), "from c", 7);
    UNTIL(a, sees(a, 1));
    UNTIL(b, sees(b, 0));
    UNTIL(c, sees(c, 1));
    CHECK_EQ(memcmp(area_of(b, 0), "from a", 7), 0);
    CHECK_EQ(memcmp(area_of(a, 1), "from b", 7), 0);
    CHECK_EQ(memcmp(area_of(c, 1), "from b", 7), 0);
    for (int turn = 0; turn < 20; turn++) {
        machine_rig_serve(a);
        machine_rig_serve(b);
        machine_rig_serve(c);
        sleep_a_little();
    }
    CHECK(!sees(a, 3) && !sees(b, 3) && !sees(c, 0));
    CHECK_EQ(area_of(a, 3)[0], 0);
    CHECK_EQ(area_of(c, 0)[0], 0);
    machine_rig_free(a);
    UNTIL(b, !sees(b, 0));
    CHECK_EQ(area_of(b, 0)[0], 0); /* one that left cannot be read any more */
    /* And comes back as another, with an area of its own. */
    a = peer_new(channel, 0, EVERYBODY);
    CHECK_EQ(area_of(a, 0)[0], 0);
    area_of(a, 0)[0] = 'n';
    UNTIL(b, sees(b, 0));
    CHECK_EQ(area_of(b, 0)[0], 'n');
    UNTIL(c, sees(c, 0));
    machine_rig_free(a);
    machine_rig_free(b);
    machine_rig_free(c);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_areas_of_others_cannot_be_made_writable)
{
    struct vmmhpc_channel *channel = channel_new(2);
    struct vmmhpc *owner = peer_new(channel, 0, EVERYBODY);
    struct vh_shm_message message;
    int32_t fd = -1;
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    /* A monitor that somebody took over: it speaks the protocol, and tries all it can. */
    CHECK_OK(join(channel, 1, EVERYBODY, &fd), &err);
    CHECK_EQ(vh_shm_receive(fd, &message, fds, &count), 0);
    CHECK_EQ(message.type, VH_SHM_WELCOME);
    CHECK(mmap(NULL, VH_SHM_TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0) ==
          MAP_FAILED);
    int bells[VMMHPC_SHM_VECTORS];
    for (uint32_t i = 0; i < VMMHPC_SHM_VECTORS; i++) {
        bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    vh_shm_close(fds, count);
    const struct vh_shm_message ready = {.magic = VH_SHM_MAGIC, .type = VH_SHM_READY};
    CHECK_EQ(vh_shm_send(fd, &ready, bells, VMMHPC_SHM_VECTORS), 0);
    vh_shm_close(bells, VMMHPC_SHM_VECTORS);
    CHECK_EQ(vh_shm_peek(fd, &message, 10000), 0);
    CHECK_EQ(vh_shm_receive(fd, &message, fds, &count), 0);
    CHECK_EQ(message.type, VH_SHM_PEER);
    CHECK_EQ(count, VH_SHM_FDS);
    const int area = fds[0];
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", area);
    int again = open(path, O_RDWR | O_CLOEXEC);
    const int tries[2] = {area, again};
    for (int i = 0; i < 2; i++) {
        CHECK(mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, tries[i], 0) == MAP_FAILED);
        CHECK(pwrite(tries[i], "x", 1, 0) < 0);
        CHECK(ftruncate(tries[i], 0) != 0);
        CHECK(fallocate(tries[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, AREA) != 0);
    }
    void *view = mmap(NULL, AREA, PROT_READ, MAP_SHARED, area, 0);
    CHECK(view != MAP_FAILED);
    CHECK(mprotect(view, AREA, PROT_READ | PROT_WRITE) != 0);
    area_of(owner, 0)[0] = 'o'; /* the owner goes on writing */
    CHECK_EQ(*(uint8_t *)view, 'o');
    (void)munmap(view, AREA);
    vh_shm_close(&again, 1);
    vh_shm_close(fds, count);
    (void)close(fd);
    machine_rig_free(owner);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_states)
{
    struct vmmhpc *a = NULL;
    struct vmmhpc *b = NULL;
    struct vmmhpc_channel *channel = pair_new(&a, &b);
    out(a, VH_SHM_REG_STATE, 41);
    out(a, VH_SHM_REG_STATE, 42);
    CHECK_EQ(in(a, VH_SHM_REG_STATE), 42);
    UNTIL(b, state_of(b, 0) == 42);
    CHECK_EQ(state_of(a, 0), 42);
    vh_pci_reset(a);
    UNTIL(b, state_of(b, 0) == 0);
    driver_out(a, driver_config(1, 0x04), 2, 6);
    out(a, VH_SHM_REG_STATE, 7);
    UNTIL(b, state_of(b, 0) == 7);
    machine_rig_free(a);
    UNTIL(b, state_of(b, 0) == 0 && !sees(b, 0));
    vmmhpc_channel_destroy(channel);
    UNTIL(b, device_of(b)->lost);
    out(b, VH_SHM_REG_STATE, 1); /* nobody hears it */
    CHECK_EQ(state_of(b, 1), 0);
    machine_rig_free(b);
}

/* ------------------------------------------------------------------ interrupts */

static bool rung(struct vmmhpc *vm, uint32_t vector)
{
    struct pollfd p = {.fd = vm->pci.devices[1]->msix.vectors[vector].fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static bool intx(struct vmmhpc *vm)
{
    return (driver_in(vm, driver_config(1, 0x06), 2) & VH_PCI_STATUS_INTX) != 0;
}

TEST(shm_doorbells_by_intx)
{
    struct vmmhpc *a = NULL;
    struct vmmhpc *b = NULL;
    struct vmmhpc_channel *channel = pair_new(&a, &b);
    CHECK(!intx(b)); /* its interrupts are off */
    out(b, VH_SHM_REG_INTERRUPTS, 1);
    UNTIL(b, intx(b)); /* a came */
    /* As uio_pci_generic does: mask it, and later let it come again. */
    driver_out(b, driver_config(1, 0x04), 2, 6 | VH_PCI_COMMAND_INTX_OFF);
    CHECK(!intx(b));
    out(a, VH_SHM_REG_DOORBELL, 1u << 16 | 3);
    machine_rig_serve(b);
    CHECK(!intx(b) && rung(b, 3));
    driver_out(b, driver_config(1, 0x04), 2, 6);
    UNTIL(b, intx(b)); /* it was not lost */
    CHECK(!rung(b, 3));
    /* Or as a driver does that turns it off at the device. */
    out(b, VH_SHM_REG_INTERRUPTS, 0);
    CHECK(!intx(b));
    out(b, VH_SHM_REG_INTERRUPTS, 1);
    machine_rig_serve(b);
    CHECK(!intx(b)); /* nothing came meanwhile */
    pair_free(channel, a, b);
}

TEST(shm_doorbells_by_msix)
{
    struct vmmhpc *a = NULL;
    struct vmmhpc *b = NULL;
    struct vmmhpc_channel *channel = pair_new(&a, &b);
    uint32_t at = driver_capability(b, 0x11, 0);
    CHECK_EQ(driver_in(b, driver_config(1, at + 2), 2), VMMHPC_SHM_VECTORS - 1);
    CHECK_EQ(driver_in(b, driver_config(1, at + 4), 4), 4); /* the table is in BAR 4 */
    uint64_t table = driver_bar(b, 4);
    driver_out(b, table + 16, 4, 0xfee00000);
    driver_out(b, table + 24, 4, 0x41);
    driver_out(b, table + 28, 4, 0);
    driver_out(b, driver_config(1, at + 2), 2, 0x8000);
    const struct vh_msix_vector *vector = &b->pci.devices[1]->msix.vectors[1];
    CHECK(!vector->routed); /* the device's interrupts are off */
    out(b, VH_SHM_REG_INTERRUPTS, 1);
    CHECK(vector->routed);
    out(a, VH_SHM_REG_DOORBELL, 1u << 16 | 1);
    machine_rig_serve(b);
    CHECK(rung(b, 1) && !intx(b)); /* KVM's to take */
    out(b, VH_SHM_REG_INTERRUPTS, 0);
    CHECK(!vector->routed);
    vh_pci_reset(b);
    CHECK(!vector->routed && !rung(b, 1));
    pair_free(channel, a, b);
}

/* ------------------------------------------------------------------ hostile peers */

TEST(shm_server_survives_nonsense)
{
    struct vmmhpc_channel *channel = channel_new(2);
    struct vmmhpc *vm = peer_new(channel, 0, EVERYBODY);
    uint32_t seed = 1;
    for (int round = 0; round < 200; round++) {
        int32_t fd = -1;
        struct vh_shm_message message = {.magic = VH_SHM_MAGIC};
        CHECK_OK(join_when_free(channel, 1, &fd), &err);
        for (int i = 0; i < 4; i++) {
            seed = seed * 1103515245 + 12345;
            message.type = seed >> 16 & 15;
            message.magic = (seed & 0x100000) != 0 ? VH_SHM_MAGIC : seed;
            message.peer = seed >> 20;
            const int one = STDIN_FILENO;
            (void)vh_shm_send(fd, &message, &one, seed >> 30 & 1);
        }
        (void)send(fd, "x", (seed & 1) + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)close(fd);
        machine_rig_serve(vm);
    }
    int32_t fd = -1;
    CHECK_OK(join_when_free(channel, 1, &fd), &err);
    struct vmmhpc *other = machine_rig_new(1);
    const struct vmmhpc_shm config = {.size = sizeof(config), .fd = fd};
    CHECK_OK(vmmhpc_add_shm(other, &config, NULL, &err), &err);
    (void)close(fd);
    area_of(other, 1)[0] = 'z';
    UNTIL(vm, sees(vm, 1) && area_of(vm, 1)[0] == 'z');
    machine_rig_free(other);
    machine_rig_free(vm);
    vmmhpc_channel_destroy(channel);
}
