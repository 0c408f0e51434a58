/* SPDX-License-Identifier: Apache-2.0 */
/* The one gate to what a call's pointers point to. */
#include <errno.h>
#include <string.h>

#include "yod_internal.h"

void *yd_memory(const struct yd_op *op, uint32_t i, uint64_t bytes)
{
    const struct yd_machine *machine = &op->yod->machine;
    if (yd_is_null(op, i) || bytes == 0 || bytes > op->extent[i]) {
        return NULL;
    }
    return machine->memory_at(machine->opaque, op->args[i], bytes);
}

void *yd_buffer(const struct yd_op *op, uint32_t i, uint64_t bytes, uint64_t *usable)
{
    *usable = bytes < op->extent[i] ? bytes : op->extent[i];
    return yd_memory(op, i, *usable);
}

int yd_get(const struct yd_op *op, uint32_t i, void *to, uint64_t bytes)
{
    const void *from = yd_memory(op, i, bytes);
    if (from == NULL) {
        return -EFAULT;
    }
    memcpy(to, from, bytes);
    return 0;
}

int yd_put(const struct yd_op *op, uint32_t i, const void *from, uint64_t bytes)
{
    void *to = yd_memory(op, i, bytes);
    if (to == NULL) {
        return -EFAULT;
    }
    memcpy(to, from, bytes);
    return 0;
}

int yd_get_path(const struct yd_op *op, uint32_t i, char path[YD_PATH])
{
    uint64_t bytes = 0;
    const void *from = yd_buffer(op, i, YD_PATH, &bytes);
    if (from == NULL) {
        return -EFAULT;
    }
    memcpy(path, from, bytes); /* first copied, then looked at: the guest may write meanwhile */
    if (memchr(path, '\0', bytes) == NULL) {
        return bytes == YD_PATH ? -ENAMETOOLONG : -EFAULT;
    }
    return 0;
}
