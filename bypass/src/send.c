// SPDX-License-Identifier: Apache-2.0
/*
 * Sending. Up to 48 bytes go into the slot; up to eager_bytes are staged, and go at once; more is
 * announced, and goes in parts when the receiver has asked for it, or is read by the receiver from
 * where it lies, if that is in the area.
 */
#include "endpoint.h"

#include <string.h>

/* Parts of long messages: small enough that both sides copy at the same time. */
static uint64_t part_bytes(const struct link *link)
{
    return link->stage_bytes / 4 & ~(uint64_t)(CACHE_LINE - 1);
}

static void account(struct bypass *bypass, uint64_t bytes)
{
    bypass->stats.sent_messages++;
    bypass->stats.sent_bytes += bytes;
}

static void post_inline(struct bypass *bypass, struct link *link, struct slot *slot, uint64_t tag,
                        const void *data, uint64_t length)
{
    slot->kind = SLOT_INLINE;
    slot->length = (uint8_t)length;
    slot->tag = tag;
    if (length != 0) {
        memcpy(slot->u.bytes, data, length);
    }
    account(bypass, length);
    ring_post(bypass, link, slot);
}

static void post(struct bypass *bypass, struct link *link, struct slot *slot, enum slot_kind kind,
                 uint64_t tag, const struct slot_data *data)
{
    slot->kind = (uint8_t)kind;
    slot->length = 0;
    slot->tag = tag;
    slot->u.data = *data;
    ring_post(bypass, link, slot);
}

/* Copy data into the staging space. Returns where they are in the area; 0: there is no room. */
static uint64_t stage(struct bypass *bypass, struct link *link, const uint8_t *data, uint64_t bytes)
{
    uint8_t *space = ring_stage(link, bytes);
    if (space == NULL) {
        if (ring_refresh(bypass, link) < 0 || (space = ring_stage(link, bytes)) == NULL) {
            bypass->stats.stalls++;
            return 0;
        }
    }
    memcpy(space, data, bytes);
    return (uint64_t)(space - bypass->area);
}

/* Announce a long message: it waits for the peer's answer. */
static void announce(struct bypass *bypass, struct link *link, struct slot *slot,
                     struct bypass_request *request)
{
    uint64_t offset = heap_offset_of(bypass, request->buffer, request->length);
    int32_t direct = request->length > 0 && offset != NOT_IN_AREA;
    struct slot_data data = {
        .offset = direct ? offset : 0, .total = request->length, .id = link->next_id++};
    request->id = data.id;
    request->flags |= direct ? REQUEST_DIRECT : 0;
    bypass->stats.rendezvous++;
    bypass->stats.zero_copy += direct ? 1 : 0;
    account(bypass, request->length);
    list_append(&link->waiting, request);
    post(bypass, link, slot, direct ? SLOT_DIRECT : SLOT_REQUEST, request->tag, &data);
}

/* Post the next part of a put. Returns whether the put is posted as a whole. */
static int32_t put_part(struct bypass *bypass, struct link *link, struct slot *slot,
                        struct bypass_request *request)
{
    uint64_t left = request->length - request->offset;
    uint64_t at = heap_offset_of(bypass, request->buffer, request->length);
    if (at == NOT_IN_AREA) {
        left = left > part_bytes(link) ? part_bytes(link) : left;
        at = stage(bypass, link, request->buffer + request->offset, left);
        if (at == 0) {
            return 0;
        }
    } else {
        bypass->stats.zero_copy++;
    }
    struct slot_data data = {.offset = at,
                             .length = left,
                             .total = request->length,
                             .target = request->target + request->offset,
                             .region = request->region,
                             .last = request->offset + left == request->length};
    request->offset += left;
    post(bypass, link, slot, SLOT_PUT, 0, &data);
    return (int32_t)data.last;
}

/* Post a message of `outgoing`, or a part of a put. Returns whether there was room for it. */
static int32_t push_first(struct bypass *bypass, struct link *link)
{
    struct bypass_request *request = link->outgoing.first;
    struct slot *slot = ring_slot(bypass, link);
    if (slot == NULL) {
        return 0;
    }
    if (request->kind == REQUEST_PUT) {
        uint64_t before = request->offset;
        if (put_part(bypass, link, slot, request)) {
            request->position = link->posted;
            list_append(&link->unacknowledged, list_take(&link->outgoing));
            bypass->stats.puts++;
        }
        return link->state == LINK_UP && request->offset != before;
    }
    if ((request->flags & BYPASS_SYNCHRONOUS) != 0 || request->length > bypass->eager_bytes) {
        announce(bypass, link, slot, list_take(&link->outgoing));
        return 1;
    }
    if (request->length <= BYPASS_INLINE) {
        post_inline(bypass, link, slot, request->tag, request->buffer, request->length);
    } else {
        uint64_t at = stage(bypass, link, request->buffer, request->length);
        if (at == 0) {
            return 0;
        }
        struct slot_data data = {.offset = at, .length = request->length, .total = request->length};
        account(bypass, request->length);
        post(bypass, link, slot, SLOT_EAGER, request->tag, &data);
    }
    request_end(list_take(&link->outgoing), BYPASS_OK);
    return 1;
}

/* Tell the sender of a long message that it is wanted, or has been read. */
static int32_t push_answer(struct bypass *bypass, struct link *link)
{
    struct slot *slot = ring_slot(bypass, link);
    if (slot == NULL) {
        return 0;
    }
    struct bypass_request *request = list_take(&link->answers);
    struct slot_data data = {.id = request->id};
    int32_t direct = (request->flags & REQUEST_DIRECT) != 0;
    if (direct || request->total == 0) {
        request_end(request, request->total > request->length ? BYPASS_E_TRUNCATED : BYPASS_OK);
    } else {
        list_append(&link->granted, request);
    }
    post(bypass, link, slot, direct ? SLOT_FINISHED : SLOT_CLEAR, 0, &data);
    return 1;
}

/* Post the next part of a long message that was asked for. */
static int32_t push_part(struct bypass *bypass, struct link *link)
{
    struct bypass_request *request = link->streaming.first;
    struct slot *slot = ring_slot(bypass, link);
    if (slot == NULL) {
        return 0;
    }
    uint64_t left = request->length - request->offset;
    left = left > part_bytes(link) ? part_bytes(link) : left;
    uint64_t at = stage(bypass, link, request->buffer + request->offset, left);
    if (at == 0) {
        return 0;
    }
    struct slot_data data = {.offset = at, .length = left};
    request->offset += left;
    if (request->offset == request->length) {
        request_end(list_take(&link->streaming), BYPASS_OK);
    }
    post(bypass, link, slot, SLOT_DATA, 0, &data);
    return 1;
}

/* Post whatever there is room for: what others wait for comes first. */
void send_push(struct bypass *bypass, struct link *link)
{
    while (link->answers.first != NULL && push_answer(bypass, link)) {
    }
    while (link->streaming.first != NULL && push_part(bypass, link)) {
    }
    while (link->outgoing.first != NULL && push_first(bypass, link)) {
    }
    if (link->unacknowledged.first != NULL) {
        ring_refresh(bypass, link);
    }
}

/* The peer asks for a long message, or has read it. Negative: there is no such message. */
int32_t send_cleared(struct bypass *bypass, struct link *link, uint32_t id, int32_t finished)
{
    (void)bypass;
    struct bypass_request *request = link->waiting.first;
    while (request != NULL && request->id != id) {
        request = request->next;
    }
    if (request == NULL || ((request->flags & REQUEST_DIRECT) != 0) != finished) {
        return BYPASS_E_PROTOCOL;
    }
    list_remove(&link->waiting, request);
    if (finished || request->length == 0) {
        request_end(request, BYPASS_OK);
    } else {
        list_append(&link->streaming, request);
    }
    return 0;
}

/* Ask the peer to say how much it has taken. */
void send_flush(struct bypass *bypass, struct link *link)
{
    struct slot *slot = ring_slot(bypass, link);
    if (slot != NULL) {
        post(bypass, link, slot, SLOT_FLUSH, 0, &(struct slot_data){0});
    }
}

/* Begin with a send or put to another peer. */
void send_start(struct bypass *bypass, struct link *link, struct bypass_request *request)
{
    if (link->state != LINK_UP) {
        request_end(request, link_error(link));
        return;
    }
    list_append(&link->outgoing, request);
    if (link->outgoing.first == request) {
        send_push(bypass, link);
    }
}

int32_t bypass_isend(struct bypass *bypass, uint32_t peer, uint64_t tag, const void *data,
                     uint64_t length, uint32_t flags, struct bypass_request *request)
{
    if (peer >= bypass->peers || (data == NULL && length != 0) ||
        (flags & ~BYPASS_SYNCHRONOUS) != 0) {
        return BYPASS_E_INVALID;
    }
    *request = (struct bypass_request){.buffer = (uint8_t *)(uintptr_t)data,
                                       .length = length,
                                       .tag = tag,
                                       .peer = (int32_t)peer,
                                       .kind = REQUEST_SEND,
                                       .flags = flags,
                                       .result = BYPASS_PENDING};
    if (peer == bypass->id) {
        account(bypass, length);
        request_end(request, receive_to_self(bypass, tag, data, length));
    } else {
        send_start(bypass, &bypass->links[peer], request);
    }
    return request->result < 0 ? request->result : BYPASS_OK;
}

int32_t bypass_send(struct bypass *bypass, uint32_t peer, uint64_t tag, const void *data,
                    uint64_t length)
{
    struct link *link = &bypass->links[peer < bypass->peers ? peer : 0];
    /* The short way: nothing waits before it, and there is room. */
    if (length <= BYPASS_INLINE && peer < bypass->peers && link->state == LINK_UP &&
        link->outgoing.first == NULL && (data != NULL || length == 0)) {
        struct slot *slot = ring_slot(bypass, link);
        if (slot != NULL) {
            post_inline(bypass, link, slot, tag, data, length);
            return BYPASS_OK;
        }
    }
    struct bypass_request request;
    int32_t code = bypass_isend(bypass, peer, tag, data, length, 0, &request);
    return code < 0 ? code : bypass_wait(bypass, &request, BYPASS_FOREVER);
}
