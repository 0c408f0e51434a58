/* SPDX-License-Identifier: Apache-2.0 */
/* Channels of this process, and machines that are peers of them. For tests of native/shm. */
#ifndef SHM_RIG_H
#define SHM_RIG_H

#include <poll.h>
#include <unistd.h>

#include "pci_driver.h"
#include "shm/device.h"
#include "tap.h"

#define AREA (2 * VH_PAGE)
#define COMMON (3 * VH_PAGE)
#define EVERYBODY UINT64_MAX

static struct vmmhpc_error err = {.size = sizeof(err)};

static inline void sleep_a_little(void)
{
    (void)poll(NULL, 0, 1);
}

static inline struct vmmhpc_channel *channel_with(uint32_t peers, uint64_t common_bytes)
{
    const struct vmmhpc_channel_config config = {
        .size = sizeof(config), .peers = peers, .area_bytes = AREA, .common_bytes = common_bytes};
    struct vmmhpc_channel *channel = NULL;
    CHECK_OK(vmmhpc_channel_create(&config, &channel, &err), &err);
    return channel;
}

static inline struct vmmhpc_channel *channel_new(uint32_t peers)
{
    return channel_with(peers, 0);
}

static inline int32_t join(struct vmmhpc_channel *channel, uint32_t peer, uint64_t visible_to,
                           int32_t *fd)
{
    const struct vmmhpc_shm_join place = {
        .size = sizeof(place), .peer = peer, .visible_to = visible_to};
    return vmmhpc_channel_join(channel, &place, fd, &err);
}

/* One that has just left may have the place for a moment yet. */
static inline int32_t join_when_free(struct vmmhpc_channel *channel, uint32_t peer, int32_t *fd)
{
    int32_t status = VMMHPC_E_STATE;
    for (int turn = 0; turn < 10000 && status == VMMHPC_E_STATE; turn++) {
        status = join(channel, peer, EVERYBODY, fd);
        if (status == VMMHPC_E_STATE) {
            sleep_a_little();
        }
    }
    return status;
}

/* A machine that is a peer, its BARs where the bus put them. */
static inline struct vmmhpc *peer_new(struct vmmhpc_channel *channel, uint32_t peer,
                                      uint64_t visible_to)
{
    struct vmmhpc *vm = machine_rig_new(1);
    struct vmmhpc_shm config = {.size = sizeof(config), .fd = -1};
    uint32_t slot = 0;
    CHECK_OK(join(channel, peer, visible_to, &config.fd), &err);
    CHECK_OK(vmmhpc_add_shm(vm, &config, &slot, &err), &err);
    CHECK_EQ(slot, 1);
    (void)close(config.fd);
    driver_out(vm, driver_config(1, 0x04), 2, 6);
    return vm;
}

static inline struct vh_shm *device_of(struct vmmhpc *vm)
{
    return vh_shm_of(vm->pci.devices[1]);
}

static inline uint8_t *area_of(struct vmmhpc *vm, uint32_t peer)
{
    struct vh_shm *shm = device_of(vm);
    return shm->window + vh_shm_area(shm, peer);
}

static inline uint32_t state_of(struct vmmhpc *vm, uint32_t peer)
{
    return __atomic_load_n((uint32_t *)(void *)device_of(vm)->window + peer, __ATOMIC_SEQ_CST);
}

static inline uint32_t in(struct vmmhpc *vm, uint32_t reg)
{
    return (uint32_t)driver_in(vm, driver_bar(vm, 0) + reg, 4);
}

static inline void out(struct vmmhpc *vm, uint32_t reg, uint32_t value)
{
    driver_out(vm, driver_bar(vm, 0) + reg, 4, value);
}

/* The server is a thread of its own: serve the machine until what is waited for is so. */
#define UNTIL(vm, condition)                                                                       \
    do {                                                                                           \
        for (int turn = 0; turn < 10000 && !(condition); turn++) {                                 \
            machine_rig_serve(vm);                                                                 \
            sleep_a_little();                                                                      \
        }                                                                                          \
        CHECK(condition);                                                                          \
    } while (0)

static inline bool sees(struct vmmhpc *vm, uint32_t peer)
{
    return device_of(vm)->others[peer].present;
}

#endif
