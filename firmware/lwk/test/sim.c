/* SPDX-License-Identifier: Apache-2.0 */
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mm.h"
#include "pct.h"
#include "shm.h"

#define THREADS 2048u
#define BUCKETS (1u << 18)

struct page {
    uint64_t va;
    uint64_t pa;
    uint32_t prot;
    bool used; /* 0 and no page: the end of a chain; with `va` set once: was used */
    bool ever;
};

uint8_t *pct_ram_base;
struct pct pct;
struct lwk_info sim_info;
sim_service sim_serve;
uint32_t sim_refuse_map;
char sim_console[65536];
uint32_t sim_console_bytes;
uint64_t sim_signals;
uint64_t sim_window_bytes;
uint32_t sim_timeout_tid;
uint64_t sim_timeout_ns;

static struct page pages[BUCKETS];
static uint32_t page_count;
static uint64_t ram_bytes;
static int64_t replies[THREADS];

uint64_t sim_random(void)
{
    static uint64_t state;

    if (state == 0) {
        const char *seed = getenv("SEED");
        state = seed != NULL ? strtoull(seed, NULL, 0) * 2 + 1 : 20070423;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

uint32_t sim_rounds(uint32_t usual)
{
    const char *rounds = getenv("ROUNDS");

    return rounds != NULL ? (uint32_t)strtoul(rounds, NULL, 0) : usual;
}

static struct page *find(uint64_t va, bool make)
{
    uint32_t i = (uint32_t)((va / LWK_PAGE) * 0x9e3779b97f4a7c15ull >> 46);

    for (;; i = (i + 1) % BUCKETS) {
        struct page *page = &pages[i];
        if (page->ever && page->va == va) {
            return page;
        }
        if (!page->ever) {
            if (!make) {
                return NULL;
            }
            page->ever = true;
            page->va = va;
            return page;
        }
    }
}

static void unmap(uint64_t va, uint64_t bytes)
{
    for (uint64_t at = va; at < va + bytes; at += LWK_PAGE) {
        struct page *page = find(at, false);
        if (page != NULL && page->used) {
            page->used = false;
            page_count--;
        }
    }
}

static bool is_device(uint64_t pa, uint64_t bytes)
{
    return sim_window_bytes != 0 && ((pa == SIM_REGISTERS && bytes == LWK_PAGE) ||
                                     (pa >= SIM_WINDOW && pa - SIM_WINDOW < sim_window_bytes &&
                                      bytes <= sim_window_bytes - (pa - SIM_WINDOW)));
}

static int64_t map(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t prot)
{
    if (!mm_range(va, bytes) || pa % LWK_PAGE != 0 ||
        ((pa < SIM_HEAP || pa + bytes > ram_bytes) && !is_device(pa, bytes))) {
        fprintf(stderr, "# QK_MAP of %llx at %llx, %llx bytes\n", (unsigned long long)va,
                (unsigned long long)pa, (unsigned long long)bytes);
        abort();
    }
    if ((prot & 6) == 6) {
        return -EACCES;
    }
    if (sim_refuse_map != 0 && --sim_refuse_map == 0) {
        return -ENOMEM;
    }
    unmap(va, bytes);
    for (uint64_t at = 0; at < bytes; at += LWK_PAGE) {
        struct page *page = find(va + at, true);
        page->pa = pa + at;
        page->prot = (uint32_t)prot;
        page->used = true;
        page_count++;
    }
    return 0;
}

static int64_t protect(uint64_t va, uint64_t bytes, uint64_t prot)
{
    for (uint64_t at = va; at < va + bytes; at += LWK_PAGE) {
        struct page *page = find(at, false);
        if (page == NULL || !page->used) {
            return -ENOMEM;
        }
        page->prot = (uint32_t)prot;
    }
    return 0;
}

static int64_t translate(uint64_t va, uint64_t bytes, uint64_t prot, uint64_t out[2])
{
    uint64_t got = 0;

    while (got < bytes && va + got >= va) {
        const struct page *page = find(round_down(va + got, LWK_PAGE), false);
        uint64_t here = (va + got) % LWK_PAGE;
        if (page == NULL || !page->used || (page->prot & prot) != prot || page->pa >= ram_bytes ||
            (got > 0 && page->pa + here != out[0] + got)) {
            break;
        }
        if (got == 0) {
            out[0] = page->pa + here;
        }
        got += least(LWK_PAGE - here, bytes - got);
    }
    out[1] = got;
    return got == 0 ? -EFAULT : 0;
}

static int64_t find_channel(void)
{
    sim_info.shm_registers_pa = SIM_REGISTERS;
    sim_info.shm_pa = SIM_WINDOW;
    sim_info.shm_bytes = sim_window_bytes;
    sim_info.shm_area = 65536;
    return sim_window_bytes != 0 ? 0 : -ENODEV;
}

void sim_ring(uint32_t vector)
{
    sim_info.shm_rung[vector]++;
    if (sim_info.shm_waiting != 0) {
        shm_interrupt();
    }
}

void sim_cancel(uint32_t tid, bool time_over)
{
    if (!shm_cancel(tid, time_over)) {
        ship_cancel(tid);
    }
}

static void doorbell(uint32_t index)
{
    if (index >= YOD_SLOTS) {
        return;
    }
    struct yod_slot *slot = &pct.queue->slot[index];
    for (uint32_t i = 0; i < 6; i++) {
        if (slot->extent[i] != 0 &&
            (slot->args[i] > ram_bytes || slot->extent[i] > ram_bytes - slot->args[i])) {
            fprintf(stderr, "# call %u ships memory that does not exist\n", slot->call);
            abort();
        }
    }
    int64_t result = sim_serve(slot, index);
    if (result != SIM_BLOCKED) {
        slot->result = result;
        slot->state = YOD_SLOT_DONE;
    }
}

int64_t qk(uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    switch (call) {
    case QK_REPLY:
        if (a == 0 || a >= THREADS || replies[a] != SIM_BLOCKED) {
            fprintf(stderr, "# reply to thread %u, which waits for none\n", (uint32_t)a);
            abort();
        }
        replies[a] = (int64_t)b;
        return 0;
    case QK_MAP:
        return map(a, b, c, d);
    case QK_UNMAP:
        unmap(a, b);
        return 0;
    case QK_PROTECT:
        return protect(a, b, c);
    case QK_TRANSLATE:
        return translate(a, b, c, (uint64_t *)(uintptr_t)d);
    case QK_DOORBELL:
        doorbell((uint32_t)a);
        return 0;
    case QK_SIGNAL:
        sim_signals |= 1ull << (a - 1);
        return 0;
    case QK_CONSOLE:
        if (b < sizeof(sim_console) - sim_console_bytes) {
            memcpy(sim_console + sim_console_bytes, (const void *)(uintptr_t)a, b);
            sim_console_bytes += (uint32_t)b;
        }
        return 0;
    case QK_SHM:
        return find_channel();
    case QK_TIMEOUT:
        sim_timeout_tid = (uint32_t)a;
        sim_timeout_ns = b;
        return replies[a] == SIM_BLOCKED ? 0 : -ESRCH;
    default:
        fprintf(stderr, "# privileged call 0x%llx\n", (unsigned long long)call);
        abort();
    }
}

void sim_start(uint64_t heap_bytes, bool yod)
{
    if (pct_ram_base != NULL) {
        (void)munmap(pct_ram_base, ram_bytes);
    }
    ram_bytes = SIM_HEAP + heap_bytes;
    pct_ram_base =
        mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pct_ram_base == MAP_FAILED) {
        abort();
    }
    if (!yod) {
        memset(pct_ram_base + SIM_HEAP, 0xa5, heap_bytes); /* what another application left */
    }
    memset(pages, 0, sizeof(pages));
    page_count = 0;
    sim_refuse_map = 0;
    sim_window_bytes = 0;
    sim_signals = 0;
    sim_console_bytes = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        replies[i] = 0;
    }
    sim_info = (struct lwk_info){.heap_pa = SIM_HEAP,
                                 .heap_bytes = heap_bytes,
                                 .ram_bytes = ram_bytes,
                                 .cpus = 1,
                                 .yod = yod,
                                 .tsc_hz = 1000000000};
    pct = (struct pct){.info = &sim_info};
    if (!mm_init(SIM_HEAP, heap_bytes, yod) || !ship_init()) {
        abort();
    }
    mm.brk_start = 0x10000000;
    mm.brk = mm.brk_start;
}

void sim_launch(uint64_t heap_bytes, bool yod)
{
    static struct yod_launch header;

    sim_start(heap_bytes, yod);
    header = (struct yod_launch){.pid = 1, .uid = 1000, .euid = 1000, .nodename = "sim"};
    pct.launch = (struct launch){.header = &header, .execfn = "/bin/app"};
    random_seed(header.seed);
}

int64_t sim_call_by(uint32_t tid, uint64_t call, const uint64_t args[6])
{
    struct pct_event event = {.kind = PCT_EVENT_CALL, .tid = tid, .call = call};

    memcpy(event.args, args, sizeof(event.args));
    replies[tid] = SIM_BLOCKED;
    call_start(&event);
    ship_waiting();
    return replies[tid];
}

int64_t sim_call(uint64_t call, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                 uint64_t f)
{
    const uint64_t args[6] = {a, b, c, d, e, f};

    return sim_call_by(1, call, args);
}

int64_t sim_reply(uint32_t tid)
{
    return replies[tid];
}

void sim_done(uint32_t index, int64_t result)
{
    struct yod_slot *slot = &pct.queue->slot[index];

    slot->result = result;
    slot->state = YOD_SLOT_DONE;
    ship_interrupt();
    ship_waiting();
}

uint8_t *sim_memory(uint64_t va, uint32_t prot)
{
    uint64_t out[2];

    return translate(va, 1, prot, out) == 0 ? pct_ram_base + out[0] : NULL;
}

uint32_t sim_mapped_pages(void)
{
    return page_count;
}

static bool wrong(const char *what, uint64_t where)
{
    printf("# %s at 0x%llx\n", what, (unsigned long long)where);
    return false;
}

bool sim_consistent(void)
{
    static uint8_t owner[(1u << 30) / LWK_PAGE];
    uint64_t free = 0;
    uint64_t backed = 0;

    memset(owner, 0, ram_bytes / LWK_PAGE);
    for (uint32_t i = 0; i < mm.phys.count; i++) {
        const struct phys_range *range = &mm.phys.free[i];
        if (range->bytes == 0 || (i > 0 && range[-1].pa + range[-1].bytes >= range->pa)) {
            return wrong("free ranges out of order", range->pa);
        }
        memset(owner + range->pa / LWK_PAGE, 1, range->bytes / LWK_PAGE);
        free += range->bytes;
    }
    if (free != mm.phys.bytes) {
        return wrong("the sum of free memory is not", free);
    }
    for (uint32_t i = 0; i < mm.areas.count; i++) {
        const struct area *area = &mm.areas.area[i];
        if (!mm_range(area->va, area->bytes) || area->bytes == 0 ||
            (i > 0 && area_end(area - 1) > area->va)) {
            return wrong("areas out of order", area->va);
        }
        for (uint64_t at = 0; area_backed(area) && at < area->bytes; at += LWK_PAGE) {
            const struct page *page = find(area->va + at, false);
            if (page == NULL || !page->used || page->pa != area->pa + at ||
                page->prot != area->prot) {
                return wrong("page table differs from its area", area->va + at);
            }
            bool device = (area->flags & AREA_DEVICE) != 0;
            if (device != is_device(area->pa + at, LWK_PAGE)) {
                return wrong("memory that is not what its area says", area->va + at);
            }
            if (!device && owner[(area->pa + at) / LWK_PAGE]++ != 0) {
                return wrong("memory that has two owners", area->pa + at);
            }
            backed++;
        }
    }
    return backed == page_count || wrong("pages without an area", page_count - backed);
}
