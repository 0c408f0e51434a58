// SPDX-License-Identifier: Apache-2.0
/*
 * Puts and gets. A peer may write to its own area only, so a put is data that lie in the
 * initiator's area until the target takes them; it is complete when the target has. A get reads the
 * target's area, and needs nobody's help.
 */
#include "endpoint.h"

#include <string.h>

static int32_t fits(uint64_t offset, uint64_t length, uint64_t whole)
{
    return length <= whole && offset <= whole - length;
}

static const struct area_region *region_of(const struct link *link, uint32_t region)
{
    return &((const struct area_header *)link->area)->regions[region];
}

static void event(struct bypass *bypass, uint32_t peer, uint32_t region, uint64_t offset,
                  uint64_t length)
{
    if (bypass->events_in - bypass->events_out == EVENTS) {
        bypass->stats.events_dropped++;
        return;
    }
    bypass->events[bypass->events_in++ % EVENTS] = (struct bypass_event){
        .peer = (int32_t)peer, .region = region, .offset = offset, .length = length};
}

/* A part of a put. What is not exposed (any more) is not written; that is no reason to end a link.
 */
int32_t put_slot(struct bypass *bypass, struct link *link, const struct slot_data *data)
{
    if (!fits(data->offset, data->length, bypass->area_bytes)) {
        return BYPASS_E_PROTOCOL;
    }
    const struct region *region =
        data->region < BYPASS_REGIONS ? &bypass->regions[data->region] : NULL;
    if (region == NULL || !fits(data->target, data->length, region->length)) {
        bypass->stats.puts_refused++;
        return 1;
    }
    if (data->length != 0) {
        memcpy(region->memory + data->target, link->area + data->offset, data->length);
    }
    if (!link_intact(link)) {
        return BYPASS_E_PEER_GONE;
    }
    if (data->last != 0) {
        bypass->stats.puts_taken++;
        if ((region->flags & BYPASS_PUT_EVENTS) != 0) {
            /* The parts came in order, and this is the last. */
            uint64_t before = data->total - data->length;
            event(bypass, link->peer, data->region,
                  before <= data->target ? data->target - before : data->target,
                  before <= data->target ? data->total : data->length);
        }
    }
    return 1;
}

int32_t bypass_expose(struct bypass *bypass, uint32_t region, void *memory, uint64_t length,
                      uint32_t flags)
{
    if (region >= BYPASS_REGIONS || (memory == NULL && length != 0) ||
        (flags & ~BYPASS_PUT_EVENTS) != 0) {
        return BYPASS_E_INVALID;
    }
    struct area_region *said = &bypass->header->regions[region];
    atomic_store_explicit(&said->length, 0, memory_order_release);
    bypass->regions[region] = (struct region){.memory = memory, .length = length, .flags = flags};
    said->offset = heap_offset_of(bypass, memory, length);
    atomic_store_explicit(&said->length, length, memory_order_release);
    return BYPASS_OK;
}

static int32_t put_to_self(struct bypass *bypass, uint32_t region, uint64_t offset,
                           const void *data, uint64_t length)
{
    const struct region *target = &bypass->regions[region];
    if (!fits(offset, length, target->length)) {
        return BYPASS_E_INVALID;
    }
    memmove(target->memory + offset, data, length);
    bypass->stats.puts++;
    bypass->stats.puts_taken++;
    if ((target->flags & BYPASS_PUT_EVENTS) != 0) {
        event(bypass, bypass->id, region, offset, length);
    }
    return BYPASS_OK;
}

int32_t bypass_put(struct bypass *bypass, uint32_t peer, uint32_t region, uint64_t offset,
                   const void *data, uint64_t length, struct bypass_request *request)
{
    if (peer >= bypass->peers || region >= BYPASS_REGIONS || data == NULL || length == 0) {
        return BYPASS_E_INVALID;
    }
    *request = (struct bypass_request){.buffer = (uint8_t *)(uintptr_t)data,
                                       .length = length,
                                       .target = offset,
                                       .region = region,
                                       .peer = (int32_t)peer,
                                       .kind = REQUEST_PUT,
                                       .result = BYPASS_PENDING};
    if (peer == bypass->id) {
        request_end(request, put_to_self(bypass, region, offset, data, length));
        return request->result;
    }
    struct link *link = &bypass->links[peer];
    if (link->state == LINK_UP &&
        !fits(offset, length,
              atomic_load_explicit(&region_of(link, region)->length, memory_order_acquire))) {
        request_end(request, BYPASS_E_INVALID);
        return BYPASS_E_INVALID;
    }
    send_start(bypass, link, request);
    return request->result < 0 ? request->result : BYPASS_OK;
}

int32_t bypass_get(struct bypass *bypass, uint32_t peer, uint32_t region, uint64_t offset,
                   void *buffer, uint64_t length)
{
    if (peer >= bypass->peers || region >= BYPASS_REGIONS || buffer == NULL || length == 0) {
        return BYPASS_E_INVALID;
    }
    if (peer == bypass->id) {
        if (!fits(offset, length, bypass->regions[region].length)) {
            return BYPASS_E_INVALID;
        }
        memmove(buffer, bypass->regions[region].memory + offset, length);
        bypass->stats.gets++;
        return BYPASS_OK;
    }
    const struct link *link = &bypass->links[peer];
    if (link->state != LINK_UP) {
        return link_error(link);
    }
    const struct area_region *said = region_of(link, region);
    uint64_t whole = atomic_load_explicit(&said->length, memory_order_acquire);
    uint64_t start = *(const volatile uint64_t *)&said->offset;
    if (!fits(offset, length, whole)) {
        return link_intact(link) ? BYPASS_E_INVALID : BYPASS_E_PEER_GONE;
    }
    if (start == NOT_IN_AREA) {
        return BYPASS_E_UNSUPPORTED;
    }
    if (!fits(start, whole, bypass->area_bytes)) {
        return BYPASS_E_PROTOCOL;
    }
    memcpy(buffer, link->area + start + offset, length);
    if (!link_intact(link)) {
        return BYPASS_E_PEER_GONE;
    }
    bypass->stats.gets++;
    return BYPASS_OK;
}

int32_t bypass_event(struct bypass *bypass, struct bypass_event *out, uint64_t timeout)
{
    struct patience patience = {.timeout = timeout};
    while (bypass->events_in == bypass->events_out) {
        if (rest(bypass, &patience) < 0 && bypass->events_in == bypass->events_out) {
            return BYPASS_E_TIMEOUT;
        }
    }
    *out = bypass->events[bypass->events_out++ % EVENTS];
    return BYPASS_OK;
}
