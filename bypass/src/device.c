// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include <sys/mman.h>

int32_t device_start(struct device *device, uint64_t areas, uint64_t area_bytes, int32_t waits)
{
    struct bypass_window *window = &device->window;
    window->states = (const _Atomic uint32_t *)device->memory;
    window->areas = device->memory + areas;
    window->area_bytes = area_bytes;
    window->id = device->registers[REG_ID];
    window->peers = device->registers[REG_PEERS];
    window->can_wait = waits;
    if (window->peers > BYPASS_PEERS_MAX || areas < DEVICE_TABLE_BYTES || areas > device->bytes ||
        area_bytes > device->bytes || window->peers * area_bytes > device->bytes - areas) {
        return BYPASS_E_UNSUPPORTED;
    }
    device->registers[REG_INTERRUPTS] = (uint32_t)waits;
    return BYPASS_OK;
}

void device_set_state(struct bypass_window *window, uint32_t state)
{
    ((struct device *)window)->registers[REG_STATE] = state;
}

void device_ring(struct bypass_window *window, uint32_t peer)
{
    ((struct device *)window)->registers[REG_DOORBELL] = peer << 16;
}

void device_stop(struct device *device)
{
    if (device->registers != NULL) {
        device->registers[REG_INTERRUPTS] = 0;
        munmap((void *)(uintptr_t)device->registers, DEVICE_REGISTER_BYTES);
    }
    if (device->memory != NULL) {
        munmap(device->memory, device->bytes);
    }
}
