/* SPDX-License-Identifier: Apache-2.0 */
/* The QK's own RAM, by pages: page tables, stacks, threads. Found once at boot, never more. */
#include "qk.h"

static uint64_t fresh;      /* from here on pages were never used */
static uint64_t free_list;  /* of pages given back; the first word of each points to the next */
static uint64_t free_pages; /* of both kinds */
static uint64_t reserve;    /* pages that threads leave to page tables */

void pool_init(void)
{
    fresh = machine.pool.start;
    free_pages = (machine.pool.end - machine.pool.start) / LWK_PAGE;
    reserve = free_pages / 4;
}

uint64_t page_alloc(bool for_thread)
{
    uint64_t pa = free_list;

    if (free_pages == 0 || (for_thread && free_pages <= reserve)) {
        return 0;
    }
    free_pages--;
    if (pa != 0) {
        free_list = *(uint64_t *)direct(pa);
    } else {
        pa = fresh;
        fresh += LWK_PAGE;
    }
    memset(direct(pa), 0, LWK_PAGE);
    return pa;
}

void page_free(uint64_t pa)
{
    *(uint64_t *)direct(pa) = free_list;
    free_list = pa;
    free_pages++;
}
