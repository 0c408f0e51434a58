/* SPDX-License-Identifier: Apache-2.0 */
/* futex(2). The key is the address: there is one address space, in which no page is mapped twice.
 */
#include "qk.h"

#define BUCKETS 256u

enum {
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    FUTEX_REQUEUE = 3,
    FUTEX_CMP_REQUEUE = 4,
    FUTEX_WAKE_OP = 5,
    FUTEX_WAIT_BITSET = 9,
    FUTEX_WAKE_BITSET = 10,
};
#define FUTEX_PRIVATE 0x80u
#define FUTEX_REALTIME 0x100u

static struct link buckets[BUCKETS];

static struct link *bucket(uint64_t address)
{
    struct link *b = &buckets[(address >> 2 ^ address >> 12) % BUCKETS];

    if (b->next == NULL) {
        list_init(b);
    }
    return b;
}

int64_t futex_wake(uint64_t address, uint32_t count, uint32_t mask)
{
    struct link *b = bucket(address);
    struct link *next;
    uint32_t woken = 0;

    for (struct link *l = b->next; l != b && woken < count; l = next) {
        struct thread *t = thread_of(l, link);
        next = l->next;
        if (t->futex == address && (t->futex_mask & mask) != 0) {
            wake(t, 0);
            woken++;
        }
    }
    return woken;
}

static int64_t futex_wait(struct thread *t, const uint64_t a[6], bool absolute, uint32_t mask)
{
    bool realtime = absolute && (a[1] & FUTEX_REALTIME) != 0;
    uint64_t deadline = NEVER;
    uint32_t value;
    int64_t error = mask == 0 ? -EINVAL : 0;

    if (error == 0 && a[3] != 0) {
        error = read_deadline(a[3], absolute, realtime, &deadline);
    }
    if (error != 0) {
        return error;
    }
    if (get_u32(a[0], &value) != 0) {
        return -EFAULT;
    }
    if (value != (uint32_t)a[2]) {
        return -EAGAIN;
    }
    t->futex = a[0];
    t->futex_mask = mask;
    t->restart = deadline == NEVER;
    list_insert(bucket(a[0]), &t->link);
    wait(t, T_FUTEX, deadline);
    return NO_RESULT;
}

static int64_t requeue(const uint64_t a[6])
{
    struct link *b = bucket(a[0]);
    struct link *to = bucket(a[4]);
    int64_t done = futex_wake(a[0], (uint32_t)a[2], UINT32_MAX);
    uint32_t moved = 0;
    struct link *next;

    for (struct link *l = b->next; l != b && moved < (uint32_t)a[3]; l = next) {
        struct thread *t = thread_of(l, link);
        next = l->next;
        if (t->futex == a[0] && a[0] != a[4]) {
            t->futex = a[4];
            list_remove(l);
            list_insert(to, l);
            moved++;
        }
    }
    return done + moved;
}

/* Change the word at a[4] as the code in a[5] says, wake at a[0], and at a[4] if its old value
 * compares. */
static int64_t wake_op(const uint64_t a[6])
{
    uint32_t code = (uint32_t)a[5];
    uint32_t op = code >> 28 & 7;
    uint32_t operand = (uint32_t)((int32_t)(code << 8) >> 20);
    int32_t compare = (int32_t)(code << 20) >> 20;
    uint32_t old, seen, truth;
    int32_t value;
    bool hit;

    if ((code >> 31 & 1) != 0) {
        operand = 1u << (operand & 31);
    }
    if (get_u32(a[4], &seen) != 0) {
        return -EFAULT;
    }
    do {
        const uint32_t results[5] = {operand, seen + operand, seen | operand, seen & ~operand,
                                     seen ^ operand};
        old = seen;
        if (op > 4) {
            return -ENOSYS;
        }
        if (cmpxchg_u32(a[4], &seen, results[op]) != 0) {
            return -EFAULT;
        }
    } while (seen != old);
    value = (int32_t)old;
    /* = != < <= > >= */
    truth = (value == compare) * 0x29 | (value < compare) * 0x0e | (value > compare) * 0x32;
    if ((code >> 24 & 15) > 5) {
        return -ENOSYS;
    }
    hit = (truth >> (code >> 24 & 15) & 1) != 0;
    return futex_wake(a[0], (uint32_t)a[2], UINT32_MAX) +
           (hit ? futex_wake(a[4], (uint32_t)a[3], UINT32_MAX) : 0);
}

/* (address, operation, value, timeout or value 2, second address, value 3) */
int64_t sys_futex(struct thread *t, const uint64_t a[6])
{
    uint32_t value;

    if (a[0] % 4 != 0) {
        return -EINVAL;
    }
    switch ((uint32_t)a[1] & ~(FUTEX_PRIVATE | FUTEX_REALTIME)) {
    case FUTEX_WAIT:
        return futex_wait(t, a, false, UINT32_MAX);
    case FUTEX_WAIT_BITSET:
        return futex_wait(t, a, true, (uint32_t)a[5]);
    case FUTEX_WAKE:
        return futex_wake(a[0], (uint32_t)a[2], UINT32_MAX);
    case FUTEX_WAKE_BITSET:
        return (uint32_t)a[5] == 0 ? -EINVAL : futex_wake(a[0], (uint32_t)a[2], (uint32_t)a[5]);
    case FUTEX_CMP_REQUEUE:
        if (get_u32(a[0], &value) != 0) {
            return -EFAULT;
        }
        return value != (uint32_t)a[5] ? -EAGAIN : requeue(a);
    case FUTEX_REQUEUE:
        return requeue(a);
    case FUTEX_WAKE_OP:
        return wake_op(a);
    default:
        return call_pct(t); /* priority inheritance: ENOSYS */
    }
}
