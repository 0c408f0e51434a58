/* SPDX-License-Identifier: Apache-2.0 */
/* Loaders: put a guest image into RAM and say how the boot vCPU enters it. They need no KVM. */
#ifndef VH_BOOT_H
#define VH_BOOT_H

#include "../internal.h"
#include "../memory.h"

/** An image in host memory (a mapped file or a buffer), not trusted. */
struct vh_blob {
    const uint8_t *data;
    uint64_t bytes;
};

/** All that a loader is given. */
struct vh_boot_source {
    uint32_t kind; /* enum vmmhpc_image_kind */
    struct vh_blob kernel;
    struct vh_blob initrd; /* bytes 0: none */
    const char *cmdline;   /* never NULL */
    uint64_t load_address; /* flat images */
    uint64_t rsdp;         /* GPA of the ACPI RSDP, or 0 */
};

enum vh_cpu_mode {
    VH_MODE_REAL16, /* cs:ip = (rip >> 4):(rip & 15), flat 64 KiB segments at that base 0 */
    VH_MODE_PROT32, /* flat 4 GiB segments, paging off; no GDT in RAM */
    VH_MODE_LONG64, /* 64-bit, paging on with cr3 = VH_PAGE_TABLES_GPA; the GDT at VH_GDT_GPA has
                     * four entries: code at selector 0x10, data at 0x18 */
};

/** State of the boot vCPU at its first instruction; all other general registers are 0. */
struct vh_entry {
    uint32_t kind; /* enum vmmhpc_image_kind that was loaded */
    enum vh_cpu_mode mode;
    uint64_t rip;
    uint64_t rsp;
    uint64_t rsi;
    uint64_t rbx;
    uint64_t rax;
};

/**
 * Recognise and load into RAM that reads as zero. Every header field that the image supplies is
 * bounds-checked; a refused image leaves an error that says what is wrong with it:
 *   E_BAD_IMAGE  not of this kind, damaged, or self-contradictory; value: the field at fault
 *   E_TRUNCATED  the file ends before its header says; value: where it should reach
 *   E_NO_ROOM    too little RAM (value: the RAM or bytes needed), command line too long
 *   E_OVERLAP    with another segment, or with what we place below 1 MiB; value: the address
 *   E_LIMIT      more than 64 segments
 *   E_INVALID    unknown kind; an initrd for a flat image
 * A flat image finds the address of the command line in rsi, 0 where that is empty.
 */
int32_t vh_boot_load(struct vh_memory *memory, const struct vh_boot_source *source,
                     struct vh_entry *entry, struct vmmhpc_error *err);

/* The single loaders, which vh_boot_load() chooses from. */
int32_t vh_boot_bzimage(struct vh_memory *memory, const struct vh_boot_source *source,
                        struct vh_entry *entry, struct vmmhpc_error *err);
int32_t vh_boot_elf_linux(struct vh_memory *memory, const struct vh_boot_source *source,
                          struct vh_entry *entry, struct vmmhpc_error *err);
int32_t vh_boot_pvh(struct vh_memory *memory, const struct vh_boot_source *source,
                    struct vh_entry *entry, struct vmmhpc_error *err);
int32_t vh_boot_multiboot(struct vh_memory *memory, const struct vh_boot_source *source,
                          struct vh_entry *entry, struct vmmhpc_error *err);
int32_t vh_boot_flat(struct vh_memory *memory, const struct vh_boot_source *source,
                     struct vh_entry *entry, struct vmmhpc_error *err);

#endif
