// SPDX-License-Identifier: Apache-2.0
/*
 * Receiving: what comes is matched with the receives in the order of their start; what nobody has
 * asked for yet is kept, up to a limit, and long messages stay with their sender until somebody
 * does.
 *
 * A slot, and what it points to, may change while it is read. Lengths and places are read once, and
 * checked; data are bytes of whatever value.
 */
#include "endpoint.h"

#include <stdlib.h>
#include <string.h>

static int32_t matches(const struct bypass_request *request, int32_t peer, uint64_t tag)
{
    return (request->peer == peer || request->peer == BYPASS_ANY_PEER) &&
           ((request->tag ^ tag) & ~request->ignore) == 0;
}

/* Take the first receive that this message is for. */
static struct bypass_request *match(struct bypass *bypass, int32_t peer, uint64_t tag)
{
    struct request_list *list = &bypass->receives;
    for (struct bypass_request **at = &list->first; *at != NULL; at = &(*at)->next) {
        struct bypass_request *request = *at;
        if (matches(request, peer, tag)) {
            *at = request->next;
            if (*at == NULL) {
                list->end = at;
            }
            return request;
        }
    }
    return NULL;
}

static void describe(struct bypass_request *request, int32_t peer, uint64_t tag, uint64_t total)
{
    request->total = total;
    request->status.peer = peer;
    request->status.tag = tag;
    request->status.length = total;
}

/* End a receive, all of whose data are there. */
static void complete(struct bypass *bypass, struct bypass_request *request)
{
    bypass->stats.received_messages++;
    bypass->stats.received_bytes += request->total;
    request_end(request, request->total > request->length ? BYPASS_E_TRUNCATED : BYPASS_OK);
}

/* Copy what fits of the data at `offset` of the message into the receive's buffer. */
static void copy(struct bypass_request *request, uint64_t offset, const void *data, uint64_t length)
{
    if (length != 0 && offset < request->length) {
        uint64_t room = request->length - offset;
        memcpy(request->buffer + offset, data, length < room ? length : room);
    }
}

/* A receive gets a long message: read it, or ask for it. */
static void accept_long(struct bypass *bypass, struct link *link, struct bypass_request *request,
                        enum slot_kind kind, const struct slot_data *data)
{
    request->id = data->id;
    request->flags = 0;
    if (kind == SLOT_DIRECT) {
        request->flags = REQUEST_DIRECT;
        copy(request, 0, link->area + data->offset, data->total);
        if (!link_intact(link)) {
            request_end(request, BYPASS_E_PEER_GONE);
            return;
        }
    }
    bypass->stats.received_messages++;
    bypass->stats.received_bytes += data->total;
    list_append(&link->answers, request);
    send_push(bypass, link);
}

/* Keep a message that nobody has asked for. 0: there is no room. */
static int32_t keep(struct bypass *bypass, int32_t peer, enum slot_kind kind, uint64_t tag,
                    const struct slot_data *data, const void *bytes)
{
    int32_t is_long = kind == SLOT_REQUEST || kind == SLOT_DIRECT;
    uint64_t length = is_long ? 0 : data->total;
    uint64_t cost = length + sizeof(struct unexpected);
    struct unexpected *message = NULL;
    if (bypass->unexpected_kept + cost > bypass->unexpected_bytes ||
        (message = malloc(sizeof(*message) + length)) == NULL) {
        return 0;
    }
    *message = (struct unexpected){
        .peer = peer, .kind = kind, .tag = tag, .total = data->total, .data = *data};
    if (length != 0) {
        memcpy(message->bytes, bytes, length);
    }
    bypass->unexpected_kept += cost;
    bypass->stats.unexpected_messages++;
    *bypass->unexpected_end = message;
    bypass->unexpected_end = &message->next;
    return 1;
}

static void drop(struct bypass *bypass, struct unexpected **at)
{
    struct unexpected *message = *at;
    int32_t is_long = message->kind == SLOT_REQUEST || message->kind == SLOT_DIRECT;
    *at = message->next;
    if (*at == NULL) {
        bypass->unexpected_end = at;
    }
    bypass->unexpected_kept -= sizeof(*message) + (is_long ? 0 : message->total);
    free(message);
}

/* Forget what needs a peer that is gone; or all there is. */
void unexpected_forget(struct bypass *bypass, int32_t peer, int32_t all)
{
    struct unexpected **at = &bypass->unexpected;
    while (*at != NULL) {
        int32_t is_long = (*at)->kind == SLOT_REQUEST || (*at)->kind == SLOT_DIRECT;
        if (all || ((*at)->peer == peer && is_long)) {
            drop(bypass, at);
        } else {
            at = &(*at)->next;
        }
    }
}

static int32_t in_area(const struct bypass *bypass, uint64_t offset, uint64_t length)
{
    return length <= bypass->area_bytes && offset <= bypass->area_bytes - length;
}

/* A short message: data lie at `bytes`. */
static int32_t receive_short(struct bypass *bypass, struct link *link, uint64_t tag,
                             const uint8_t *bytes, uint64_t length)
{
    int32_t peer = (int32_t)link->peer;
    struct bypass_request *request = match(bypass, peer, tag);
    if (request == NULL) {
        return keep(bypass, peer, SLOT_EAGER, tag, &(struct slot_data){.total = length}, bytes);
    }
    copy(request, 0, bytes, length);
    if (!link_intact(link)) {
        request_end(request, BYPASS_E_PEER_GONE);
        return BYPASS_E_PEER_GONE;
    }
    describe(request, peer, tag, length);
    complete(bypass, request);
    return 1;
}

static int32_t receive_long(struct bypass *bypass, struct link *link, enum slot_kind kind,
                            uint64_t tag, const struct slot_data *data)
{
    int32_t peer = (int32_t)link->peer;
    if (kind == SLOT_DIRECT && !in_area(bypass, data->offset, data->total)) {
        return BYPASS_E_PROTOCOL;
    }
    struct bypass_request *request = match(bypass, peer, tag);
    if (request == NULL) {
        return keep(bypass, peer, kind, tag, data, NULL);
    }
    describe(request, peer, tag, data->total);
    accept_long(bypass, link, request, kind, data);
    return 1;
}

/* A part of the long message that was asked for first. */
static int32_t receive_part(struct bypass *bypass, struct link *link, const struct slot_data *data)
{
    struct bypass_request *request = link->granted.first;
    if (request == NULL || data->length == 0 || !in_area(bypass, data->offset, data->length) ||
        data->length > request->total - request->offset) {
        return BYPASS_E_PROTOCOL;
    }
    copy(request, request->offset, link->area + data->offset, data->length);
    if (!link_intact(link)) {
        return BYPASS_E_PEER_GONE;
    }
    request->offset += data->length;
    if (request->offset == request->total) {
        list_take(&link->granted);
        request_end(request, request->total > request->length ? BYPASS_E_TRUNCATED : BYPASS_OK);
    }
    return 1;
}

static int32_t receive_data(struct bypass *bypass, struct link *link, uint8_t kind, uint64_t tag,
                            const struct slot_data *data)
{
    switch (kind) {
    case SLOT_EAGER:
        if (data->length > bypass->area_bytes || !in_area(bypass, data->offset, data->length)) {
            return BYPASS_E_PROTOCOL;
        }
        return receive_short(bypass, link, tag, link->area + data->offset, data->length);
    case SLOT_REQUEST:
    case SLOT_DIRECT:
        return receive_long(bypass, link, kind, tag, data);
    case SLOT_DATA:
        return receive_part(bypass, link, data);
    case SLOT_CLEAR:
    case SLOT_FINISHED:
        return send_cleared(bypass, link, data->id, kind == SLOT_FINISHED) < 0 ? BYPASS_E_PROTOCOL
                                                                               : 1;
    case SLOT_PUT:
        return put_slot(bypass, link, data);
    case SLOT_FLUSH:
        return 1;
    default:
        return BYPASS_E_PROTOCOL;
    }
}

int32_t receive_slot(struct bypass *bypass, struct link *link, const struct slot *slot)
{
    /* Once, so that what is checked is what is used. */
    uint8_t kind = *(const volatile uint8_t *)&slot->kind;
    uint8_t length = *(const volatile uint8_t *)&slot->length;
    uint64_t tag = *(const volatile uint64_t *)&slot->tag;
    if (kind == SLOT_INLINE) {
        return length > BYPASS_INLINE ? BYPASS_E_PROTOCOL
                                      : receive_short(bypass, link, tag, slot->u.bytes, length);
    }
    struct slot_data data;
    memcpy(&data, &slot->u.data, sizeof(data));
    atomic_signal_fence(memory_order_seq_cst); /* the compiler must not read it again */
    return receive_data(bypass, link, kind, tag, &data);
}

/* A message to oneself. */
int32_t receive_to_self(struct bypass *bypass, uint64_t tag, const void *data, uint64_t length)
{
    int32_t self = (int32_t)bypass->id;
    struct bypass_request *request = match(bypass, self, tag);
    if (request == NULL) {
        struct slot_data description = {.total = length};
        return keep(bypass, self, SLOT_EAGER, tag, &description, data) ? BYPASS_OK
                                                                       : BYPASS_E_MEMORY;
    }
    copy(request, 0, data, length);
    describe(request, self, tag, length);
    complete(bypass, request);
    return BYPASS_OK;
}

static struct unexpected **find_unexpected(struct bypass *bypass,
                                           const struct bypass_request *request)
{
    struct unexpected **at = &bypass->unexpected;
    while (*at != NULL && !matches(request, (*at)->peer, (*at)->tag)) {
        at = &(*at)->next;
    }
    return *at == NULL ? NULL : at;
}

/* A message that is there already. */
static void take_unexpected(struct bypass *bypass, struct unexpected **at,
                            struct bypass_request *request)
{
    struct unexpected *message = *at;
    describe(request, message->peer, message->tag, message->total);
    if (message->kind == SLOT_EAGER) {
        copy(request, 0, message->bytes, message->total);
        complete(bypass, request);
        drop(bypass, at);
        return;
    }
    /* First out of the list: the peer may turn out to be gone, and what is kept of it goes then. */
    struct link *link = &bypass->links[message->peer];
    struct slot_data data = message->data;
    enum slot_kind kind = message->kind;
    drop(bypass, at);
    accept_long(bypass, link, request, kind, &data);
}

/* Why nobody can send what this receive waits for; 0: somebody can. */
static int32_t hopeless(const struct bypass *bypass, int32_t peer)
{
    if (peer == (int32_t)bypass->id) {
        return 0;
    }
    if (peer != BYPASS_ANY_PEER) {
        return link_error(&bypass->links[peer]);
    }
    int32_t lost = links_lost(bypass);
    return bypass->strict || (bypass->links_up == 0 && bypass->links_pending == 0) ? lost : 0;
}

int32_t bypass_irecv(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                     void *buffer, uint64_t capacity, struct bypass_request *request)
{
    if (peer < BYPASS_ANY_PEER || peer >= (int32_t)bypass->peers ||
        (buffer == NULL && capacity != 0)) {
        return BYPASS_E_INVALID;
    }
    *request = (struct bypass_request){.buffer = buffer,
                                       .length = capacity,
                                       .tag = tag,
                                       .ignore = ignore,
                                       .peer = peer,
                                       .kind = REQUEST_RECEIVE,
                                       .result = BYPASS_PENDING};
    if (bypass->unexpected != NULL) {
        struct unexpected **at = find_unexpected(bypass, request);
        if (at != NULL) {
            take_unexpected(bypass, at, request);
            return request->result < 0 && request->result != BYPASS_E_TRUNCATED ? request->result
                                                                                : BYPASS_OK;
        }
    }
    int32_t code = hopeless(bypass, peer);
    if (code < 0) {
        request_end(request, code);
        return code;
    }
    list_append(&bypass->receives, request);
    return BYPASS_OK;
}

int32_t bypass_recv(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                    void *buffer, uint64_t capacity, struct bypass_status *status)
{
    struct bypass_request request;
    int32_t code = bypass_irecv(bypass, peer, tag, ignore, buffer, capacity, &request);
    if (code < 0) {
        return code;
    }
    code = bypass_wait(bypass, &request, BYPASS_FOREVER);
    if (status != NULL) {
        *status = request.status;
    }
    return code;
}

int32_t bypass_cancel(struct bypass *bypass, struct bypass_request *request)
{
    if (request->result != BYPASS_PENDING || request->kind != REQUEST_RECEIVE ||
        !list_remove(&bypass->receives, request)) {
        return BYPASS_PENDING;
    }
    request_end(request, BYPASS_E_INVALID);
    return BYPASS_OK;
}

int32_t bypass_probe(struct bypass *bypass, int32_t peer, uint64_t tag, uint64_t ignore,
                     uint64_t timeout, struct bypass_status *status)
{
    struct bypass_request wanted = {.tag = tag, .ignore = ignore, .peer = peer};
    struct patience patience = {.timeout = timeout};
    if (peer < BYPASS_ANY_PEER || peer >= (int32_t)bypass->peers) {
        return BYPASS_E_INVALID;
    }
    for (progress(bypass);;) {
        struct unexpected **at = find_unexpected(bypass, &wanted);
        if (at != NULL) {
            status->peer = (*at)->peer;
            status->tag = (*at)->tag;
            status->length = (*at)->total;
            return BYPASS_OK;
        }
        int32_t code = hopeless(bypass, peer);
        if (code < 0) {
            return code;
        }
        if (rest(bypass, &patience) < 0) {
            return BYPASS_PENDING;
        }
    }
}
