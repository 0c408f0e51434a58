// SPDX-License-Identifier: Apache-2.0
/* Memory of one's own area for the program: first fit, with what describes it kept elsewhere. */
#include "endpoint.h"

#include <stdlib.h>

int32_t heap_init(struct bypass *bypass, uint64_t offset)
{
    bypass->heap_offset = offset;
    bypass->heap = malloc(sizeof(*bypass->heap));
    if (bypass->heap == NULL) {
        return BYPASS_E_MEMORY;
    }
    *bypass->heap = (struct heap_block){.offset = offset, .bytes = bypass->area_bytes - offset};
    return BYPASS_OK;
}

void heap_destroy(struct bypass *bypass)
{
    while (bypass->heap != NULL) {
        struct heap_block *next = bypass->heap->next;
        free(bypass->heap);
        bypass->heap = next;
    }
}

uint64_t heap_offset_of(const struct bypass *bypass, const void *memory, uint64_t length)
{
    uintptr_t begin = (uintptr_t)bypass->area + bypass->heap_offset;
    uintptr_t end = (uintptr_t)bypass->area + bypass->area_bytes;
    uintptr_t at = (uintptr_t)memory;
    if (at < begin || at >= end || length > end - at) {
        return NOT_IN_AREA;
    }
    return at - (uintptr_t)bypass->area;
}

void *bypass_alloc(struct bypass *bypass, uint64_t bytes)
{
    uint64_t wanted = bytes == 0 ? CACHE_LINE : (bytes + CACHE_LINE - 1) & ~(CACHE_LINE - 1ull);
    struct heap_block *block = bypass->heap;
    while (block != NULL && (block->used || block->bytes < wanted)) {
        block = block->next;
    }
    if (block == NULL || wanted < bytes) {
        return NULL;
    }
    if (block->bytes > wanted) {
        struct heap_block *rest = malloc(sizeof(*rest));
        if (rest == NULL) {
            return NULL;
        }
        *rest = (struct heap_block){
            .next = block->next, .offset = block->offset + wanted, .bytes = block->bytes - wanted};
        block->next = rest;
        block->bytes = wanted;
    }
    block->used = 1;
    return bypass->area + block->offset;
}

static void join(struct heap_block *block)
{
    while (block->next != NULL && !block->used && !block->next->used) {
        struct heap_block *next = block->next;
        block->bytes += next->bytes;
        block->next = next->next;
        free(next);
    }
}

void bypass_free(struct bypass *bypass, void *memory)
{
    struct heap_block *before = NULL;
    struct heap_block *block = bypass->heap;
    while (block != NULL && (!block->used || bypass->area + block->offset != memory)) {
        before = block;
        block = block->next;
    }
    if (block != NULL) {
        block->used = 0;
        join(block);
        if (before != NULL) {
            join(before);
        }
    }
}
