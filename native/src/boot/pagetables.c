/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptor and page tables for guests that are entered with them (Intel SDM 3A, 3.4.5 and 4.5).
 */
#include "place.h"

#define PTE_PRESENT 0x1u
#define PTE_WRITABLE 0x2u
#define PTE_HUGE 0x80u
#define ENTRIES 512u

int32_t vh_put_gdt(struct vh_memory *memory, bool long_mode, struct vmmhpc_error *err)
{
    /* Selectors 0x10 and 0x18 are what Linux calls __BOOT_CS and __BOOT_DS. */
    const uint64_t gdt[4] = {
        0, 0,
        long_mode ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull, /* execute, read, accessed */
        0x00cf93000000ffffull,                                     /* read, write, accessed */
    };

    return vh_put(memory, VH_GDT_GPA, gdt, sizeof(gdt), "the GDT", err);
}

int32_t vh_put_page_tables(struct vh_memory *memory, struct vmmhpc_error *err)
{
    const uint64_t pdpt = VH_PAGE_TABLES_GPA + VH_PAGE;
    const uint64_t pd = pdpt + VH_PAGE;
    uint64_t table[ENTRIES] = {0};
    int32_t status;

    table[0] = pdpt | PTE_PRESENT | PTE_WRITABLE;
    status = vh_put(memory, VH_PAGE_TABLES_GPA, table, 8, "the page tables", err);
    for (uint32_t i = 0; i < 4; i++) {
        table[i] = (pd + i * VH_PAGE) | PTE_PRESENT | PTE_WRITABLE;
    }
    if (status == VMMHPC_OK) {
        status = vh_put(memory, pdpt, table, 32, "the page tables", err);
    }
    for (uint64_t gib = 0; gib < 4 && status == VMMHPC_OK; gib++) {
        for (uint64_t i = 0; i < ENTRIES; i++) {
            table[i] = (gib * VH_GIB + i * 2 * VH_MIB) | PTE_PRESENT | PTE_WRITABLE | PTE_HUGE;
        }
        status = vh_put(memory, pd + gib * VH_PAGE, table, VH_PAGE, "the page tables", err);
    }
    return status;
}
