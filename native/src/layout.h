/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are in the machine: guest-physical addresses, ports and interrupt lines. */
#ifndef VH_LAYOUT_H
#define VH_LAYOUT_H

/* Low memory, built by the loaders. All of it is below 0x9fc00, the end of conventional RAM. */
#define VH_GDT_GPA 0x500ull
#define VH_START_INFO_GPA 0x6000ull  /* PVH hvm_start_info and its tables, or multiboot info */
#define VH_BOOT_PARAMS_GPA 0x7000ull /* Linux "zero page" */
#define VH_STACK_GPA 0x8ff0ull       /* initial stack pointer, grows down */
#define VH_PAGE_TABLES_GPA 0x9000ull /* PML4, PDPT, four PDs: 4 GiB identity-mapped */
#define VH_CMDLINE_GPA 0x20000ull
#define VH_CMDLINE_MAX 0x10000ull
#define VH_LOW_RAM_END 0x9fc00ull

/* The legacy ROM area: RAM that the memory map reports as reserved. */
#define VH_ACPI_GPA 0xe0000ull
#define VH_ACPI_END 0xf0000ull
#define VH_GENERATION_GPA                                                                          \
    0xf0000ull /* of 16 bytes: the VM generation ID; a clone's name behind it */
#define VH_RESET_STUB_GPA 0xffff0ull /* the reset vector seen from real mode */
#define VH_HIGH_RAM_START 0x100000ull

#define VH_LAPIC_GPA 0xfee00000ull
#define VH_IOAPIC_GPA 0xfec00000ull
#define VH_IOAPIC_PINS 24u
#define VH_IDENTITY_MAP_GPA 0xfeffc000ull /* one page for KVM on Intel */
#define VH_TSS_GPA 0xfeffd000ull          /* three pages for KVM on Intel */

/* PCI: configuration of bus 0, BARs below 4 GiB. Those above are behind RAM. */
#define VH_PCI_WINDOW_GPA 0xc0000000ull
#define VH_PCI_WINDOW_BYTES 0x20000000ull
#define VH_ECAM_GPA 0xe0000000ull
#define VH_ECAM_BYTES 0x100000ull
/* IOMMUs of libvmmhpc-shm's devices: a page for each slot. */
#define VH_IOMMU_GPA 0xfed90000ull
/* INTx: four lines, shared by the slots. */
#define VH_PCI_FIRST_GSI 16u
#define VH_PCI_LINE(slot) ((slot) % 4u)
#define VH_GED_GSI 6u /* generic events (ACPI 6.4, 5.6.9): edge-triggered */

#define VH_UART_PORT 0x3f8u
#define VH_UART_BYTES 8u
#define VH_UART_GSI 4u

/* Hardware-reduced ACPI (ACPI 6.4, 4.8.3.7): sleep control, sleep status. */
#define VH_SLEEP_CONTROL_PORT 0x600u
#define VH_SLEEP_STATUS_PORT 0x601u
#define VH_SLEEP_ENABLE 0x20u
#define VH_SLEEP_TYPE_S5 5u

/* PCI configuration: address, data. */
#define VH_PCI_PORT 0xcf8u
#define VH_PCI_BYTES 8u
/* The PC's reset control register, also named by the FADT, amid PCI's. */
#define VH_RESET_PORT 0xcf9u
#define VH_RESET_VALUE 0x06u
/* Keyboard controller: command 0xfe pulses the reset line; nothing else of it exists. */
#define VH_I8042_PORT 0x64u
#define VH_I8042_RESET 0xfeu

#endif
