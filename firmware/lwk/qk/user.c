/* SPDX-License-Identifier: Apache-2.0 */
/* Access to the memory of the address space in use: the application's, or the PCT's while it runs.
 */
#include "qk.h"

int64_t user_copy(void *to, const void *from, uint64_t bytes);
int64_t user_load(const uint32_t *from, uint32_t *to);
int64_t user_cmpxchg(uint32_t *at, uint32_t *expected, uint32_t desired);

static bool is_user(uint64_t address, uint64_t bytes)
{
    return address < LWK_APP_HIGH && bytes <= LWK_APP_HIGH - address;
}

int64_t copy_in(void *to, uint64_t from, uint64_t bytes)
{
    return is_user(from, bytes) ? user_copy(to, (const void *)from, bytes) : -EFAULT;
}

int64_t copy_out(uint64_t to, const void *from, uint64_t bytes)
{
    return is_user(to, bytes) ? user_copy((void *)to, from, bytes) : -EFAULT;
}

int64_t get_u32(uint64_t from, uint32_t *to)
{
    return is_user(from, sizeof(*to)) ? user_load((const uint32_t *)from, to) : -EFAULT;
}

int64_t cmpxchg_u32(uint64_t at, uint32_t *expected, uint32_t desired)
{
    return is_user(at, sizeof(*expected)) ? user_cmpxchg((uint32_t *)at, expected, desired)
                                          : -EFAULT;
}
