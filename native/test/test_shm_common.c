/* SPDX-License-Identifier: Apache-2.0 */
/* The section of a channel that all peers write. No KVM. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "shm_rig.h"

static uint8_t *common_of(struct vmmhpc *vm)
{
    return device_of(vm)->window + VH_SHM_TABLE_BYTES;
}

TEST(shm_common_section_is_everybodys)
{
    struct vmmhpc_channel *channel = channel_with(3, COMMON);
    struct vmmhpc *a = peer_new(channel, 0, 0); /* nobody sees its area */
    struct vmmhpc *b = peer_new(channel, 2, EVERYBODY);
    uint32_t at = driver_capability(a, 0x09, 0);
    CHECK_EQ(driver_in(a, driver_config(1, at + 4), 4), VH_SHM_TABLE_BYTES);
    CHECK_EQ(driver_in(a, driver_config(1, at + 8), 4), COMMON);
    CHECK_EQ(driver_in(a, driver_config(1, at + 12), 4), 0);
    CHECK_EQ(driver_in(a, driver_config(1, at + 16), 4), AREA);
    /* The window: a table, the section and three areas, to the next power of two. */
    driver_out(a, driver_config(1, 0x18), 4, 0xffffffff);
    CHECK_EQ(driver_in(a, driver_config(1, 0x18), 4) & ~0xfull, (uint32_t)-65536);
    CHECK(area_of(a, 0) == common_of(a) + COMMON);
    memset(common_of(a), 'a', COMMON);
    common_of(b)[COMMON - 1] = 'b';
    CHECK_EQ(common_of(b)[0], 'a');
    CHECK_EQ(common_of(a)[COMMON - 1], 'b');
    CHECK_EQ(area_of(a, 0)[0], 0); /* it ends where areas begin */
    memcpy(area_of(b, 2), "from b", 7);
    UNTIL(a, sees(a, 2));
    CHECK_EQ(memcmp(area_of(a, 2), "from b", 7), 0);
    /* What is there stays when its writer goes, and is there for who comes. */
    machine_rig_free(a);
    CHECK_EQ(common_of(b)[0], 'a');
    a = peer_new(channel, 1, EVERYBODY);
    CHECK_EQ(common_of(a)[COMMON - 1], 'b');
    machine_rig_free(a);
    machine_rig_free(b);
    vmmhpc_channel_destroy(channel);
}

TEST(shm_common_section_cannot_be_taken_from_others)
{
    struct vmmhpc_channel *channel = channel_with(2, COMMON);
    struct vmmhpc *honest = peer_new(channel, 0, EVERYBODY);
    struct vh_shm_message message;
    int32_t fd = -1;
    int fds[VH_SHM_FDS];
    uint32_t count = 0;
    CHECK_OK(join(channel, 1, EVERYBODY, &fd), &err);
    CHECK_EQ(vh_shm_receive(fd, &message, fds, &count), 0);
    CHECK_EQ(message.type, VH_SHM_WELCOME);
    CHECK_EQ(message.common_bytes, COMMON);
    CHECK_EQ(count, 3);
    CHECK(ftruncate(fds[2], 0) != 0);
    CHECK(ftruncate(fds[2], 2 * COMMON) != 0);
    CHECK(fcntl(fds[2], F_ADD_SEALS, F_SEAL_WRITE) != 0);
    CHECK_EQ(pwrite(fds[2], "x", 1, 5), 1);
    CHECK_EQ(common_of(honest)[5], 'x');
    vh_shm_close(fds, count);
    (void)close(fd);
    machine_rig_free(honest);
    vmmhpc_channel_destroy(channel);
}

/* A server that says one thing and sends another. */
TEST(shm_common_section_has_its_descriptor)
{
    static const struct {
        uint64_t common_bytes;
        uint32_t fds;
    } cases[] = {{COMMON, 2}, {0, 3}, {VH_PAGE / 2, 3}, {UINT64_MAX - VH_PAGE + 1, 3}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vmmhpc *vm = machine_rig_new(1);
        int ends[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        const struct vh_shm_message welcome = {.magic = VH_SHM_MAGIC,
                                               .type = VH_SHM_WELCOME,
                                               .peers = 2,
                                               .area_bytes = AREA,
                                               .common_bytes = cases[i].common_bytes};
        const int some[3] = {ends[1], ends[1], ends[1]};
        CHECK_EQ(vh_shm_send(ends[1], &welcome, some, cases[i].fds), 0);
        const struct vmmhpc_shm config = {.size = sizeof(config), .fd = ends[0]};
        CHECK_ERROR(vmmhpc_add_shm(vm, &config, NULL, &err), &err, VMMHPC_E_INVALID,
                    "no unused place");
        vh_shm_close(ends, 2);
        machine_rig_free(vm);
    }
}
