/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function of a channel of shared memory (docs/reference/shm.md), found when the PCT asks for
 * it: a machine without one pays nothing at boot. Configuration by ports (PCI 3.0, 3.2.2.3.2).
 * Its registers and window are mapped into the application, which rings doorbells by itself; here
 * are its interrupts, counted for the PCT.
 */
#include "qk.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define ENABLE 0x80000000u
#define SLOTS 32u
#define ID 0x4106110au
enum { REG_ID = 0x00, REG_COMMAND = 0x04, REG_BAR0 = 0x10, REG_CAPABILITIES = 0x34 };
enum { CAPABILITY_VENDOR = 0x09, CAPABILITY_MSIX = 0x11 };
#define COMMAND_ON 0x406u /* memory, messages, no INTx */
#define MSIX_ENABLE 0x80000000u
#define COMMON_BYTES 0x08u          /* in the vendor's capability: what all may write */
#define AREA_BYTES 0x10u            /* likewise */
#define REG_PEERS 1u                /* of the function's registers, in words */
#define MESSAGE_ADDRESS 0xfee00000u /* SDM 3A, 11.11.1; destination in bits 12 to 19 */

static uint32_t slot;

static uint32_t config(uint32_t at)
{
    outl(CONFIG_ADDRESS, ENABLE | slot << 11 | at);
    return inl(CONFIG_DATA);
}

static void set_config(uint32_t at, uint32_t value)
{
    (void)config(at);
    outl(CONFIG_DATA, value);
}

/* 64-bit BARs, at even numbers. */
static uint64_t bar(uint32_t number)
{
    uint32_t at = REG_BAR0 + 4 * number;

    return (uint64_t)config(at + 4) << 32 | (config(at) & ~0xfu);
}

static uint32_t capability(uint32_t id)
{
    uint32_t at = config(REG_CAPABILITIES) & 0xfc;

    while (at != 0 && (config(at) & 0xff) != id) {
        at = config(at) >> 8 & 0xfc;
    }
    return at;
}

/* Without MSI-X there are no interrupts, and waiting for them would last. */
static void enable_interrupts(void)
{
    uint32_t at = capability(CAPABILITY_MSIX);
    volatile uint32_t *table = map_mmio(bar(4));

    for (uint32_t i = 0; i < LWK_SHM_VECTORS; i++) {
        table[4 * i] = MESSAGE_ADDRESS | cpus[0].apic_id << 12;
        table[4 * i + 1] = 0;
        table[4 * i + 2] = VEC_SHM + i;
        table[4 * i + 3] = 0;
    }
    set_config(at, config(at) | MSIX_ENABLE);
}

int64_t shm_find(void)
{
    while (slot < SLOTS && config(REG_ID) != ID) {
        slot++;
    }
    if (slot == SLOTS || info.shm_bytes != 0) {
        return slot == SLOTS ? -ENODEV : 0;
    }
    set_config(REG_COMMAND, COMMAND_ON);
    info.shm_registers_pa = machine.shm_registers = bar(0);
    info.shm_pa = machine.shm.start = bar(2);
    uint32_t sizes = capability(CAPABILITY_VENDOR);
    info.shm_area = config(sizes + AREA_BYTES);
    info.shm_bytes = LWK_PAGE + config(sizes + COMMON_BYTES) +
                     info.shm_area * map_mmio(machine.shm_registers)[REG_PEERS];
    machine.shm.end = machine.shm.start + info.shm_bytes;
    enable_interrupts();
    return 0;
}

/* An interrupt by each vector whose bit is set. The PCT says first that somebody waits, and looks
 * at the counts then: one of us sees what the other wrote. */
void shm_count(uint32_t vectors)
{
    for (uint32_t i = 0; i < LWK_SHM_VECTORS; i++) {
        if ((vectors >> i & 1) != 0) {
            (void)__atomic_add_fetch(&info.shm_rung[i], 1, __ATOMIC_SEQ_CST);
        }
    }
    if (__atomic_load_n(&info.shm_waiting, __ATOMIC_SEQ_CST) != 0) {
        pct_post(1u << PCT_EVENT_SHM);
    }
}
