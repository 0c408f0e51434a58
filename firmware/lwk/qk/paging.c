/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces: the application's, the PCT's, and the QK's half, which both share without any
 * right to it. Four levels (SDM 3A, 4.5). The largest pages that fit; nothing is mapped on demand.
 *
 * The QK sees its image, its stacks and the pool, not the application's RAM: that is only
 * accessible by the application's own addresses (user.S). There is no isolation against speculative
 * reads of the QK's half (Meltdown): a VM holds one application, and the QK no secrets.
 */
#include "qk.h"

#define ENTRIES 512u
#define SPAN(level) (1ull << (12 + 9 * (level))) /* that an entry covers; level 0: 4 KiB pages */

/* qk.ld */
extern uint8_t rodata_start[], text_start[], text_end[], bss_start[], bss_end[];
extern uint8_t pct_image[], pct_rodata[], pct_data[], pct_end[], pct_pa[];

uint64_t kernel_cr3, pct_cr3;
static uint8_t pct_stack[65536] __attribute__((aligned(4096)));
static uint32_t mmio_pages;

static uint64_t *table_at(uint64_t entry)
{
    return direct(entry & PTE_ADDRESS);
}

static bool is_mapped(uint64_t entry)
{
    return (entry & (PTE_P | PTE_GUARD)) != 0;
}

/* A table, not a page: at level 0 everything is a page. */
static bool is_table(uint64_t entry, uint32_t level)
{
    return level > 0 && (entry & PTE_P) != 0 && (entry & PTE_LARGE) == 0;
}

static uint64_t new_table(void)
{
    uint64_t pa = page_alloc(false);

    return pa == 0 ? 0 : pa | PTE_P | PTE_W | PTE_U; /* the last level decides */
}

/* Replace a large page, or a large guard, by a table of smaller ones with the same rights. */
static bool split(uint64_t *entry, uint32_t level)
{
    uint64_t table = new_table();
    uint64_t page = level == 1 ? *entry & ~PTE_LARGE : *entry;

    if (table == 0) {
        return false;
    }
    for (uint32_t i = 0; i < ENTRIES; i++) {
        table_at(table)[i] = page + i * SPAN(level - 1);
    }
    *entry = table;
    return true;
}

/* What to do with [va, end) at the pages found there. */
struct walk {
    enum { MAP, UNMAP, PROTECT, CHECK } what;
    uint64_t end;
    uint64_t delta;   /* MAP: physical less virtual address */
    uint64_t flags;   /* MAP, PROTECT */
    bool large_1g;    /* MAP */
    bool was_mapped;  /* something was taken away or changed: TLBs may hold it */
    uint64_t dropped; /* UNMAP: tables that are empty now, freed when no TLB holds them */
};

static uint64_t leaf(const struct walk *w, uint64_t pa, uint32_t level)
{
    return pa | w->flags | (level > 0 ? PTE_LARGE : 0);
}

/* One table: entries for [va, w->end). False: out of tables, or a hole (CHECK). */
static bool walk(struct walk *w, uint64_t *table, uint32_t level, uint64_t va)
{
    uint64_t span = SPAN(level);
    bool page_here = level < 2 || (level == 2 && w->large_1g);

    for (uint32_t i = va / span % ENTRIES; i < ENTRIES && va < w->end; i++) {
        uint64_t next = (va & ~(span - 1)) + span;
        bool whole = (va & (span - 1)) == 0 && next <= w->end;
        uint64_t *entry = &table[i];

        if (w->what == MAP && whole && page_here && !is_table(*entry, level) &&
            ((va + w->delta) & (span - 1)) == 0) {
            *entry = leaf(w, va + w->delta, level);
            va = next;
            continue;
        }
        if (w->what == CHECK && !is_mapped(*entry)) {
            return false;
        }
        if (is_mapped(*entry) && !is_table(*entry, level)) {
            if (!whole && level > 0 && w->what != CHECK) {
                if (!split(entry, level)) {
                    return false;
                }
                w->was_mapped = true;
            } else if (w->what == UNMAP) {
                *entry = 0;
                w->was_mapped = true;
            } else if (w->what == PROTECT) {
                *entry = leaf(w, *entry & (PTE_ADDRESS | PTE_UNCACHED), level);
                w->was_mapped = true;
            }
        } else if (!is_mapped(*entry) && w->what == MAP) {
            *entry = new_table();
            if (*entry == 0) {
                return false;
            }
        }
        if (is_table(*entry, level)) {
            if (!walk(w, table_at(*entry), level - 1, va)) {
                return false;
            }
            if (w->what == UNMAP && whole && level < 3) {
                /* The walk below has emptied it. */
                uint64_t pa = *entry & PTE_ADDRESS;
                *entry = 0;
                *table_at(pa) = w->dropped;
                w->dropped = pa;
            }
        }
        va = next;
    }
    return true;
}

static bool walk_root(struct walk *w, uint64_t cr3, uint64_t va)
{
    return walk(w, table_at(cr3), 3, va);
}

/* --------------------------------------------------------- the application's */

static bool is_app_range(uint64_t va, uint64_t bytes)
{
    return (va | bytes) % LWK_PAGE == 0 && bytes != 0 && va >= LWK_APP_LOW && va < LWK_APP_HIGH &&
           bytes <= LWK_APP_HIGH - va;
}

static uint64_t app_flags(uint64_t prot)
{
    uint64_t nx = features.nx ? PTE_NX : 0;

    if (prot == 0) {
        return PTE_GUARD;
    }
    return PTE_P | PTE_U | ((prot & PROT_WRITE) != 0 ? PTE_W : 0) |
           ((prot & PROT_EXEC) != 0 ? 0 : nx);
}

static bool is_registers(uint64_t pa)
{
    return pa != 0 && pa == machine.shm_registers;
}

static bool is_device(uint64_t pa)
{
    return is_registers(pa) || (pa >= machine.shm.start && pa < machine.shm.end);
}

/* Free RAM, or a channel's. */
static bool may_map(uint64_t pa, uint64_t bytes)
{
    uint64_t end = pa + bytes;

    if (pa % LWK_PAGE != 0 || end < pa || pa < IMAGE_END ||
        (pa < machine.pool.end && machine.pool.start < end)) {
        return false;
    }
    if (is_device(pa)) {
        return is_registers(pa) ? bytes == LWK_PAGE : end <= machine.shm.end;
    }
    for (uint32_t i = 0; i < machine.ranges; i++) {
        if (pa >= machine.ram[i].start && end <= machine.ram[i].end) {
            return true;
        }
    }
    return false;
}

/* Other CPUs must have forgotten what was mapped before tables go back into the pool. This CPU has:
 * the PCT asks, on page tables of its own. */
static void finish(struct walk *w)
{
    if (w->was_mapped || w->dropped != 0) {
        sync_cpus();
    }
    while (w->dropped != 0) {
        uint64_t pa = w->dropped;
        w->dropped = *table_at(pa);
        page_free(pa);
    }
}

static int64_t refuse_prot(uint64_t prot)
{
    if ((prot & ~(uint64_t)(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0) {
        return -EINVAL;
    }
    return (prot & PROT_WRITE) != 0 && (prot & PROT_EXEC) != 0 ? -EACCES : 0;
}

int64_t app_unmap(uint64_t va, uint64_t bytes)
{
    struct walk w = {.what = UNMAP, .end = va + bytes};
    bool done;

    if (!is_app_range(va, bytes)) {
        return -EINVAL;
    }
    done = walk_root(&w, app.cr3, va);
    finish(&w);
    return done ? 0 : -ENOMEM;
}

int64_t app_map(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t prot)
{
    struct walk w = {.what = MAP,
                     .end = va + bytes,
                     .delta = pa - va,
                     .flags = app_flags(prot) | (is_registers(pa) ? PTE_UNCACHED : 0),
                     .large_1g = features.page_1g};
    int64_t error = refuse_prot(prot);

    if (error == 0 && (!is_app_range(va, bytes) || !may_map(pa, bytes))) {
        error = -EINVAL;
    }
    if (error == 0) {
        error = app_unmap(va, bytes);
    }
    if (error == 0 && !walk_root(&w, app.cr3, va)) {
        (void)app_unmap(va, bytes);
        error = -ENOMEM;
    }
    return error;
}

int64_t app_protect(uint64_t va, uint64_t bytes, uint64_t prot)
{
    struct walk check = {.what = CHECK, .end = va + bytes};
    struct walk w = {.what = PROTECT, .end = va + bytes, .flags = app_flags(prot)};
    int64_t error = refuse_prot(prot);
    bool done;

    if (error == 0 && !is_app_range(va, bytes)) {
        error = -EINVAL;
    }
    if (error != 0 || !walk_root(&check, app.cr3, va)) {
        return error != 0 ? error : -ENOMEM;
    }
    done = walk_root(&w, app.cr3, va);
    finish(&w);
    return done ? 0 : -ENOMEM;
}

/* The page at va; false: none with these rights. */
static bool find_page(uint64_t va, uint64_t prot, struct range *page)
{
    uint64_t *table = table_at(app.cr3);
    uint64_t need = app_flags(prot) & (PTE_P | PTE_U | PTE_W);

    for (uint32_t level = 3;; level--) {
        uint64_t entry = table[va / SPAN(level) % ENTRIES];
        if (!is_table(entry, level)) {
            page->start = entry & PTE_ADDRESS & ~(SPAN(level) - 1);
            page->end = page->start + SPAN(level);
            return (entry & need) == need && is_mapped(entry) &&
                   ((prot & PROT_EXEC) == 0 || (entry & PTE_NX) == 0);
        }
        table = table_at(entry);
    }
}

int64_t app_translate(uint64_t va, uint64_t bytes, uint64_t prot, uint64_t out[2])
{
    struct range page;

    out[0] = out[1] = 0;
    while (out[1] < bytes && va < LWK_APP_HIGH && find_page(va, prot | PROT_READ, &page)) {
        uint64_t pa = page.start + va % (page.end - page.start);
        uint64_t run = page.end - pa;
        if (is_device(pa)) {
            break;
        }
        if (out[1] == 0) {
            out[0] = pa;
        } else if (pa != out[0] + out[1]) {
            break;
        }
        out[1] += run < bytes - out[1] ? run : bytes - out[1];
        va += run;
    }
    return out[1] > 0 ? 0 : -EFAULT;
}

/* ------------------------------------------------------ the QK's and the PCT's */

/* Flags without PTE_NX mean execution; nothing here is writable and executable. */
static void must_map(uint64_t cr3, uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    struct walk w = {.what = MAP,
                     .end = va + bytes,
                     .delta = pa - va,
                     .flags = features.nx ? flags : flags & ~PTE_NX,
                     .large_1g = features.page_1g};

    if (bytes != 0 && !walk_root(&w, cr3, va)) {
        panic(NULL, "no page table left for %#lx", va);
    }
}

static void map_image(const uint8_t *start, const uint8_t *end, uint64_t flags)
{
    must_map(kernel_cr3, (uint64_t)start, (uint64_t)start - KERNEL_BASE, (uint64_t)(end - start),
             flags | PTE_P | PTE_GLOBAL);
}

uint64_t map_stack(uint32_t slot, uint32_t part, uint32_t pages)
{
    uint64_t va = STACKS_BASE + slot * 0x10000ull + part * 0x4000ull + LWK_PAGE;

    for (uint32_t i = 0; i < pages; i++) {
        uint64_t pa = page_alloc(false);
        if (pa == 0) {
            panic(NULL, "no memory for the stacks of CPU %u", slot);
        }
        must_map(kernel_cr3, va + i * LWK_PAGE, pa, LWK_PAGE, PTE_P | PTE_W | PTE_NX | PTE_GLOBAL);
    }
    return va + pages * LWK_PAGE;
}

volatile uint32_t *map_mmio(uint64_t pa)
{
    uint64_t va = MMIO_BASE + mmio_pages++ * LWK_PAGE;

    must_map(kernel_cr3, va, pa & PTE_ADDRESS, LWK_PAGE,
             PTE_P | PTE_W | PTE_NX | PTE_UNCACHED | PTE_GLOBAL);
    return (volatile uint32_t *)(va + pa % LWK_PAGE);
}

/* Tables whose upper half is the kernel's; all entries there that will ever be used exist by then.
 */
static uint64_t new_space(void)
{
    uint64_t cr3 = page_alloc(false);

    if (cr3 == 0) {
        panic(NULL, "no memory for page tables");
    }
    for (uint32_t i = ENTRIES / 2; kernel_cr3 != 0 && i < ENTRIES; i++) {
        table_at(cr3)[i] = table_at(kernel_cr3)[i];
    }
    return cr3;
}

void paging_init(void)
{
    kernel_cr3 = new_space();
    map_image(rodata_start, text_start, PTE_NX);
    map_image(text_start, text_end, 0);
    map_image(bss_start, bss_end, PTE_W | PTE_NX);
    must_map(kernel_cr3, DIRECT_BASE + machine.pool.start, machine.pool.start,
             machine.pool.end - machine.pool.start, PTE_P | PTE_W | PTE_NX | PTE_GLOBAL);
    write_cr(3, kernel_cr3);
}

static void map_pct(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    must_map(pct_cr3, va, pa, bytes, flags | PTE_P | PTE_U);
}

void paging_pct(void)
{
    uint64_t image_pa = (uint64_t)pct_pa - (uint64_t)pct_image;

    pct_cr3 = new_space();
    app.cr3 = new_space();
    map_pct((uint64_t)pct_image, (uint64_t)pct_image + image_pa, (uint64_t)(pct_rodata - pct_image),
            0);
    map_pct((uint64_t)pct_rodata, (uint64_t)pct_rodata + image_pa,
            (uint64_t)(pct_data - pct_rodata), PTE_NX);
    map_pct((uint64_t)pct_data, (uint64_t)pct_data + image_pa, (uint64_t)(pct_end - pct_data),
            PTE_W | PTE_NX);
    map_pct(LWK_PCT_STACK - sizeof(pct_stack), (uint64_t)pct_stack - KERNEL_BASE, sizeof(pct_stack),
            PTE_W | PTE_NX);
    map_pct(LWK_PCT_INFO, (uint64_t)&info - KERNEL_BASE, LWK_PAGE, PTE_W | PTE_NX);
    for (uint32_t i = 0; i < machine.ranges; i++) {
        struct range left[3] = {{machine.ram[i].start, machine.pool.start},
                                {machine.pool.end, machine.ram[i].end}};
        for (uint32_t k = 0; k < 2; k++) {
            uint64_t start =
                left[k].start > machine.ram[i].start ? left[k].start : machine.ram[i].start;
            uint64_t end = left[k].end < machine.ram[i].end ? left[k].end : machine.ram[i].end;
            start = start > IMAGE_END ? start : IMAGE_END;
            if (start < end) {
                map_pct(LWK_PCT_RAM + start, start, end - start, PTE_W | PTE_NX);
            }
        }
    }
}
