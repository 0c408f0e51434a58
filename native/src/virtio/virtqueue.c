/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, the device's side (virtio 1.2, 2.7). The driver may be hostile, and may write
 * while we read: every field is read once, and only the copy is checked and used.
 *
 * Fields are little-endian, as the only host that this library runs on.
 */
#include "virtio/virtqueue.h"

#include <stdatomic.h>
#include <string.h>

/* 2.7.5 */
#define DESC_BYTES 16u
#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u

/* 2.7.6 and 2.7.8: flags, idx, then ring[size] and the other side's event index. */
#define RING_FLAGS 0u
#define RING_IDX 2u
#define RING_ENTRIES 4u
#define AVAIL_ENTRY 2u
#define USED_ENTRY 8u
#define EVENT_BYTES 2u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY 1u

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

_Static_assert(sizeof(struct descriptor) == DESC_BYTES, "2.7.5");

static _Atomic(uint16_t) *field(void *ring, size_t offset)
{
    return (_Atomic(uint16_t) *)(void *)((uint8_t *)ring + offset);
}

static uint16_t load(void *ring, size_t offset)
{
    return atomic_load_explicit(field(ring, offset), memory_order_relaxed);
}

static void store(void *ring, size_t offset, uint16_t value)
{
    atomic_store_explicit(field(ring, offset), value, memory_order_relaxed);
}

static size_t avail_event_at(const struct vh_virtqueue *queue)
{
    return RING_ENTRIES + (size_t)USED_ENTRY * queue->size;
}

static size_t used_event_at(const struct vh_virtqueue *queue)
{
    return RING_ENTRIES + (size_t)AVAIL_ENTRY * queue->size;
}

/* ------------------------------------------------------------------ setting up */

static void *map_ring(const struct vh_virtqueue *queue, uint64_t gpa, uint64_t bytes,
                      uint64_t alignment, const char *what, struct vmmhpc_error *err)
{
    if (gpa % alignment != 0) {
        (void)vh_fail(err, VMMHPC_E_INVALID, 0, gpa, "a virtqueue's %s is not aligned to %u bytes",
                      what, (unsigned)alignment);
        return NULL;
    }
    void *at = vh_memory_at(queue->memory, gpa, bytes);
    if (at == NULL) {
        (void)vh_fail(err, VMMHPC_E_RANGE, 0, gpa, "a virtqueue's %s at 0x%llx is not all RAM",
                      what, (unsigned long long)gpa);
    }
    return at;
}

/* The driver need not have cleared what is ours to write. */
static void arm(struct vh_virtqueue *queue)
{
    if (queue->event_idx) {
        store(queue->used, avail_event_at(queue), queue->next_avail);
    } else {
        store(queue->used, RING_FLAGS, 0);
    }
    queue->armed = true;
}

int32_t vh_queue_start(struct vh_virtqueue *queue, struct vh_memory *memory,
                       struct vmmhpc_error *err)
{
    struct vmmhpc_error why = {.size = sizeof(why)};
    const uint64_t size = queue->size;
    if (size == 0 || size > VH_QUEUE_MAX || (size & (size - 1)) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, size, "a virtqueue cannot have %u entries",
                       (unsigned)size);
    }
    queue->memory = memory;
    /* Alignment: the table in 2.7. */
    queue->desc = map_ring(queue, queue->desc_gpa, DESC_BYTES * size, 16, "descriptor table", &why);
    queue->avail = map_ring(queue, queue->avail_gpa, used_event_at(queue) + EVENT_BYTES, 2,
                            "available ring", &why);
    queue->used =
        map_ring(queue, queue->used_gpa, avail_event_at(queue) + EVENT_BYTES, 4, "used ring", &why);
    if (queue->desc == NULL || queue->avail == NULL || queue->used == NULL) {
        return vh_fail(err, why.code, 0, why.value, "%s", why.text);
    }
    queue->next_avail = queue->base;
    queue->avail_idx = queue->base;
    queue->next_used = queue->base;
    queue->signalled_used = queue->base;
    queue->signalled_valid = true;
    store(queue->used, RING_FLAGS, 0);
    arm(queue);
    /* A driver that made chains available before DRIVER_OK kicks after it (3.1.1). */
    return VMMHPC_OK;
}

void vh_queue_reset(struct vh_virtqueue *queue)
{
    *queue = (struct vh_virtqueue){.kick_fd = queue->kick_fd};
}

/* ------------------------------------------------------------------ chains */

__attribute__((cold)) static int broken(void)
{
    return -1;
}

/* A buffer that is not all in one slot: adjacent slots go together, a hole does not. */
__attribute__((cold)) static bool add_pieces(const struct vh_memory *memory, struct vh_chain *chain,
                                             uint64_t gpa, uint64_t bytes)
{
    uint32_t count = chain->out_count + chain->in_count;
    for (uint32_t i = 0; i < memory->slot_count && bytes > 0; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i]; /* they are sorted */
        if (gpa < slot->gpa || gpa - slot->gpa >= slot->bytes) {
            continue;
        }
        uint64_t piece = slot->bytes - (gpa - slot->gpa);
        piece = piece < bytes ? piece : bytes;
        void *at = vh_memory_at(memory, gpa, piece);
        if (at == NULL || count == VH_CHAIN_IOV) {
            return false;
        }
        chain->iov[count++] = (struct iovec){at, piece};
        gpa += piece;
        bytes -= piece;
    }
    return bytes == 0;
}

static bool add_buffer(const struct vh_memory *memory, struct vh_chain *chain,
                       const struct descriptor *desc)
{
    const uint32_t before = chain->out_count + chain->in_count;
    const bool writable = (desc->flags & DESC_F_WRITE) != 0;
    if (desc->len == 0) {
        return true; /* carries nothing, so it need not lie anywhere either */
    }
    if (!writable && chain->in_count > 0) {
        return false; /* 2.7.4.2: what the device reads comes first */
    }
    if (chain->out_bytes + chain->in_bytes + desc->len > UINT32_MAX) {
        return false; /* 2.7.5.2, less one: written lengths have 32 bits */
    }
    uint32_t pieces = 1;
    void *at = vh_memory_at(memory, desc->addr, desc->len);
    if (at != NULL && before < VH_CHAIN_IOV) {
        chain->iov[before] = (struct iovec){at, desc->len};
    } else {
        if (!add_pieces(memory, chain, desc->addr, desc->len)) {
            return false;
        }
        pieces = 0;
        for (uint64_t bytes = 0; bytes < desc->len; pieces++) {
            bytes += chain->iov[before + pieces].iov_len;
        }
    }
    if (writable) {
        chain->in_count += pieces;
        chain->in_bytes += desc->len;
    } else {
        chain->out_count += pieces;
        chain->out_bytes += desc->len;
    }
    return true;
}

/* One read of it all: the barrier keeps the compiler from going back to guest memory. An indirect
 * table may lie at any address. */
static struct descriptor read_descriptor(const uint8_t *table, uint32_t index)
{
    struct descriptor copy;
    memcpy(&copy, table + (size_t)index * DESC_BYTES, sizeof(copy));
    __asm__ volatile("" : "+m"(copy));
    return copy;
}

/* 2.7.5.3: zero or more direct descriptors, then maybe one that refers to a table. */
static int gather(const struct vh_virtqueue *queue, struct vh_chain *chain)
{
    const uint8_t *table = queue->desc;
    uint32_t entries = queue->size;
    uint32_t left = queue->size; /* that many more: a loop ends */
    uint32_t index = chain->head;
    bool indirect = false;
    for (;;) {
        if (index >= entries || left == 0) {
            return broken();
        }
        struct descriptor desc = read_descriptor(table, index);
        left--;
        if ((desc.flags & DESC_F_INDIRECT) == 0) {
            if (!add_buffer(queue->memory, chain, &desc)) {
                return broken();
            }
            if ((desc.flags & DESC_F_NEXT) == 0) {
                return 1;
            }
            index = desc.next;
            continue;
        }
        /* 2.7.5.3.1: no table in a table, nothing behind one. */
        if (indirect || (desc.flags & DESC_F_NEXT) != 0 || desc.len == 0 ||
            desc.len % DESC_BYTES != 0) {
            return broken();
        }
        table = vh_memory_at(queue->memory, desc.addr, desc.len);
        if (table == NULL) {
            return broken();
        }
        indirect = true;
        entries = desc.len / DESC_BYTES;
        left += VH_QUEUE_MAX - queue->size; /* Linux uses tables longer than a short queue */
        left++;                             /* the reference is no buffer */
        index = 0;
    }
}

/* ------------------------------------------------------------------ rings */

/* What the driver made available. More than the queue holds, or an index that went back, is no
 * driver's doing: 2.7.13.3. */
static int look(struct vh_virtqueue *queue)
{
    uint16_t idx = atomic_load_explicit(field(queue->avail, RING_IDX), memory_order_acquire);
    uint16_t fresh = (uint16_t)(idx - queue->next_avail);
    if (fresh > queue->size || (uint16_t)(idx - queue->next_used) > queue->size) {
        return broken();
    }
    queue->avail_idx = idx;
    return fresh > 0 ? 1 : 0;
}

/* Nothing is left: ask for a kick, and see whether the driver added something before it could know
 * (2.7.7.2, 2.7.10). */
static int look_and_arm(struct vh_virtqueue *queue)
{
    int found = look(queue);
    if (found != 0 || queue->armed) {
        return found;
    }
    arm(queue);
    /* The driver does it the other way round: index, full barrier, event index or flag. */
    atomic_thread_fence(memory_order_seq_cst);
    return look(queue);
}

/* While there is work no kick is needed. An event index that stays behind does it by itself. */
static void disarm(struct vh_virtqueue *queue)
{
    queue->armed = false;
    if (!queue->event_idx) {
        store(queue->used, RING_FLAGS, USED_F_NO_NOTIFY);
    }
}

int vh_queue_pop(struct vh_virtqueue *queue, struct vh_chain *chain)
{
    if (queue->next_avail == queue->avail_idx) {
        int found = look_and_arm(queue);
        if (found <= 0) {
            return found;
        }
    }
    size_t entry = queue->next_avail & (queue->size - 1u);
    chain->head = load(queue->avail, RING_ENTRIES + AVAIL_ENTRY * entry);
    chain->out_count = 0;
    chain->in_count = 0;
    chain->out_bytes = 0;
    chain->in_bytes = 0;
    if (queue->armed) {
        disarm(queue);
    }
    queue->next_avail++;
    return gather(queue, chain); /* refuses a head that is no descriptor's */
}

void vh_queue_push(struct vh_virtqueue *queue, uint16_t head, uint32_t written)
{
    size_t entry = queue->next_used & (queue->size - 1u);
    uint8_t *at = (uint8_t *)queue->used + RING_ENTRIES + USED_ENTRY * entry;
    atomic_store_explicit((_Atomic(uint32_t) *)(void *)at, head, memory_order_relaxed);
    atomic_store_explicit((_Atomic(uint32_t) *)(void *)(at + 4), written, memory_order_relaxed);
    queue->next_used++;
    if (queue->next_used == queue->signalled_used) {
        queue->signalled_valid = false; /* once round: the distance says nothing any more */
    }
    /* 2.7.8.2: the entry, and the data, before the index. */
    atomic_store_explicit(field(queue->used, RING_IDX), queue->next_used, memory_order_release);
}

bool vh_queue_wants_interrupt(struct vh_virtqueue *queue)
{
    const uint16_t now = queue->next_used;
    const uint16_t before = queue->signalled_used;
    const bool valid = queue->signalled_valid;
    if (valid && now == before) {
        return false;
    }
    queue->signalled_used = now;
    queue->signalled_valid = true;
    /* The index that was pushed, before what the driver wants is read (2.7.7, 2.7.10). */
    atomic_thread_fence(memory_order_seq_cst);
    if (!queue->event_idx) {
        return (load(queue->avail, RING_FLAGS) & AVAIL_F_NO_INTERRUPT) == 0;
    }
    uint16_t event = load(queue->avail, used_event_at(queue));
    return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

/* ------------------------------------------------------------------ data */

static const struct iovec *part(const struct vh_chain *chain, bool writable, uint32_t *count)
{
    *count = writable ? chain->in_count : chain->out_count;
    return chain->iov + (writable ? chain->out_count : 0);
}

size_t vh_chain_read(const struct vh_chain *chain, uint64_t offset, void *data, size_t bytes)
{
    uint32_t count = 0;
    const struct iovec *iov = part(chain, false, &count);
    size_t done = 0;
    for (uint32_t i = 0; i < count && done < bytes; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t piece = iov[i].iov_len - offset;
        piece = piece < bytes - done ? piece : bytes - done;
        memcpy((uint8_t *)data + done, (const uint8_t *)iov[i].iov_base + offset, piece);
        done += piece;
        offset = 0;
    }
    return done;
}

size_t vh_chain_write(const struct vh_chain *chain, uint64_t offset, const void *data, size_t bytes)
{
    uint32_t count = 0;
    const struct iovec *iov = part(chain, true, &count);
    size_t done = 0;
    for (uint32_t i = 0; i < count && done < bytes; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t piece = iov[i].iov_len - offset;
        piece = piece < bytes - done ? piece : bytes - done;
        memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)data + done, piece);
        done += piece;
        offset = 0;
    }
    return done;
}

int vh_chain_slice(const struct vh_chain *chain, bool writable, uint64_t offset, uint64_t bytes,
                   struct iovec *out, uint32_t capacity)
{
    const uint64_t total = writable ? chain->in_bytes : chain->out_bytes;
    uint32_t count = 0;
    const struct iovec *iov = part(chain, writable, &count);
    uint32_t used = 0;
    if (offset > total || bytes > total - offset) {
        return -1;
    }
    for (uint32_t i = 0; i < count && bytes > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        uint64_t piece = iov[i].iov_len - offset;
        piece = piece < bytes ? piece : bytes;
        if (used == capacity) {
            return -1;
        }
        out[used++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, piece};
        bytes -= piece;
        offset = 0;
    }
    return (int)used;
}
