/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring in the hands of a hostile driver. The input is a head of 16 bytes (layout and features),
 * the first page of RAM, where the rings are, and then steps of 4 bytes: change a byte, make
 * chains available, pop, push, ask for an interrupt. What must hold: every buffer lies in guest
 * RAM, sums are right, and no more chains are outstanding than the queue holds.
 */
#include "harness.h"

#include <string.h>

#include "virtio/virtqueue.h"

#define HEAD ((size_t)16)
#define STEP ((size_t)4)
#define RINGS_BYTES 0x2000u

static struct vh_memory *machine(void)
{
    static struct vh_memory memory;
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vmmhpc_memory specs[3];

    if (memory.slot_count == 0) {
        for (uint32_t i = 0; i < 3; i++) {
            specs[i] =
                (struct vmmhpc_memory){.size = sizeof(specs[i]), .bytes = VH_MIB, .numa_node = -1};
        }
        MUST(vh_memory_create(&memory, specs, 3, &err) == VMMHPC_OK);
        memory.slots[2].gpa = VMMHPC_HOLE_END; /* as if the RAM reached up to the hole */
    }
    return &memory;
}

static bool in_ram(const struct vh_memory *memory, const struct iovec *iov)
{
    uint64_t at = (uintptr_t)iov->iov_base;

    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];

        if (at >= slot->host && at - slot->host < slot->bytes &&
            iov->iov_len <= slot->bytes - (at - slot->host)) {
            return iov->iov_len > 0;
        }
    }
    return false;
}

static void check_slices(const struct vh_chain *chain, bool writable, uint64_t offset,
                         uint64_t bytes)
{
    uint64_t total = writable ? chain->in_bytes : chain->out_bytes;
    struct iovec out[VH_CHAIN_IOV];
    int count = vh_chain_slice(chain, writable, offset, bytes, out, VH_CHAIN_IOV);
    uint64_t sum = 0;

    MUST((count >= 0) == (offset <= total && bytes <= total - offset));
    for (int i = 0; i < count; i++) {
        sum += out[i].iov_len;
    }
    MUST(count < 0 || sum == bytes);
}

static void check_chain(const struct vh_memory *memory, const struct vh_virtqueue *queue,
                        const struct vh_chain *chain)
{
    uint8_t buffer[64];
    uint64_t sums[2] = {0, 0};

    MUST(chain->head < queue->size);
    MUST(chain->out_count + chain->in_count <= VH_CHAIN_IOV);
    for (uint32_t i = 0; i < chain->out_count + chain->in_count; i++) {
        MUST(in_ram(memory, &chain->iov[i]));
        sums[i < chain->out_count ? 0 : 1] += chain->iov[i].iov_len;
    }
    MUST(sums[0] == chain->out_bytes && sums[1] == chain->in_bytes);
    MUST(sums[0] + sums[1] <= UINT32_MAX);
    size_t most = sums[0] < sizeof(buffer) ? sums[0] : sizeof(buffer);
    MUST(vh_chain_read(chain, 0, buffer, sizeof(buffer)) == most);
    check_slices(chain, false, 0, sums[0]);
    check_slices(chain, true, 1, sums[1]);
    check_slices(chain, true, sums[1] / 2, sums[1] / 3);
}

/* The device's side of the ring in a model: what is outstanding. */
struct model {
    uint16_t heads[VH_QUEUE_MAX];
    uint32_t outstanding;
    uint32_t chains;
    bool broken;
};

static void pop(struct vh_memory *memory, struct vh_virtqueue *queue, struct model *model)
{
    struct vh_chain chain;
    int found = model->broken ? 0 : vh_queue_pop(queue, &chain);

    if (found < 0) {
        model->broken = true;
    } else if (found > 0) {
        check_chain(memory, queue, &chain);
        MUST(model->outstanding < queue->size);
        model->heads[model->outstanding++] = chain.head;
        model->chains++;
    } else if (!model->broken) {
        MUST(queue->armed && queue->next_avail == queue->avail_idx);
    }
}

static void push(struct vh_virtqueue *queue, struct model *model, uint8_t choice)
{
    if (model->outstanding > 0) {
        uint32_t which = choice % model->outstanding;

        vh_queue_push(queue, model->heads[which], choice);
        model->heads[which] = model->heads[--model->outstanding];
    }
}

static void step(struct vh_memory *memory, struct vh_virtqueue *queue, struct model *model,
                 const uint8_t *data)
{
    uint8_t *ram = vh_memory_at(memory, 0, RINGS_BYTES);
    uint8_t *idx = (uint8_t *)queue->avail + 2;
    size_t at = ((size_t)data[1] << 8 | data[2]) % RINGS_BYTES;

    switch (data[0] & 7u) {
    case 0:
        ram[at] = data[3];
        break;
    case 1: /* a few more, as a driver does it */
    case 2: {
        uint16_t value;

        memcpy(&value, idx, sizeof(value));
        value = (uint16_t)(value + (data[1] & 3u));
        memcpy(idx, &value, sizeof(value));
        break;
    }
    case 3:
        push(queue, model, data[3]);
        break;
    case 4:
        (void)vh_queue_wants_interrupt(queue);
        MUST(!vh_queue_wants_interrupt(queue));
        break;
    default:
        pop(memory, queue, model);
        break;
    }
}

/* Rings in the first two pages or, with other bits, anywhere. */
static void lay_out(struct vh_virtqueue *queue, const uint8_t *head)
{
    uint64_t value;

    queue->size = (uint16_t)(1u << (head[0] & 7u)) * ((head[0] & 8u) != 0 ? 2 : 1);
    queue->event_idx = (head[0] & 16u) != 0;
    queue->desc_gpa = (uint64_t)head[1] << 4;
    queue->avail_gpa = 0x1000 + ((uint64_t)head[2] << 1);
    queue->used_gpa = 0x1400 + ((uint64_t)head[3] << 2);
    memcpy(&value, head + 8, sizeof(value));
    switch (head[0] >> 5) {
    case 1:
        queue->size = (uint16_t)value;
        break;
    case 2:
        queue->desc_gpa = value;
        break;
    case 3:
        queue->avail_gpa = value;
        break;
    case 4:
        queue->used_gpa = value;
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_memory *memory = machine();
    struct vh_virtqueue queue = {.kick_fd = -1};
    struct model model = {0};
    uint8_t *ram = vh_memory_at(memory, 0, RINGS_BYTES);

    if (bytes < HEAD) {
        return 0;
    }
    memset(ram, 0, RINGS_BYTES);
    lay_out(&queue, data);
    size_t page = (size_t)(data[4] | data[5] << 8);
    page = page < bytes - HEAD ? page : bytes - HEAD;
    memcpy(ram, data + HEAD, page < RINGS_BYTES ? page : RINGS_BYTES);
    if (vh_queue_start(&queue, memory, &err) != VMMHPC_OK) {
        MUST(err.code == VMMHPC_E_INVALID || err.code == VMMHPC_E_RANGE);
        MUST(err.text[0] != '\0');
        fuzz_count(false);
        return 0;
    }
    for (size_t at = HEAD + page; bytes - at >= STEP; at += STEP) {
        step(memory, &queue, &model, data + at);
    }
    while (!model.broken && model.chains < 1000 && queue.next_avail != queue.avail_idx &&
           model.outstanding < queue.size) {
        pop(memory, &queue, &model);
    }
    fuzz_count(model.chains > 0);
    return 0;
}
