/* SPDX-License-Identifier: Apache-2.0 */
/* Linux bzImage by the 64-bit boot protocol, 2.12 or later (Documentation/arch/x86/boot.rst). */
#include "linux.h"

#include <inttypes.h>
#include <string.h>

#include "recognise.h"

#define HEADER_OFFSET 0x1f1u
#define HEADER_END_BASE 0x202u /* the header ends here + the byte at 0x201, its jump's operand */
#define HEADER_END_MIN 0x264u  /* init_size is the last field that we need */
#define HEADER_END_MAX 0x290u  /* what follows in boot_params is not the header's */
#define ENTRY_64 0x200u
#define SECTOR 512u

bool vh_is_bzimage(const struct vh_blob *file)
{
    return file->bytes >= HEADER_END_BASE + 4 && memcmp(file->data + 0x202, "HdrS", 4) == 0 &&
           file->data[0x1fe] == 0x55 && file->data[0x1ff] == 0xaa;
}

static bool power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Copy the header into boot_params, only as far as it says it goes, and judge it. */
static int32_t read_header(const struct vh_blob *file, struct setup_header *header,
                           struct vmmhpc_error *err)
{
    uint64_t end;

    if (!vh_is_bzimage(file)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, 0,
                       "not a bzImage: no \"HdrS\" at 0x202 after the boot flag 0xaa55");
    }
    end = HEADER_END_BASE + (uint64_t)file->data[0x201];
    if (end > HEADER_END_MAX) {
        end = HEADER_END_MAX;
    }
    if (end < HEADER_END_MIN) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, end,
                       "the setup header ends at 0x%" PRIx64
                       ": older than boot protocol 2.12 (Linux 3.8), or damaged",
                       end);
    }
    if (end > file->bytes) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, file->bytes,
                       "the bzImage ends at byte %" PRIu64 ", inside its setup header",
                       file->bytes);
    }
    /* boot_params keeps room behind the fields that this header file knows. */
    memcpy(header, file->data + HEADER_OFFSET, end - HEADER_OFFSET);
    if (header->version < 0x20c) {
        return vh_fail(
            err, VMMHPC_E_BAD_IMAGE, 0, header->version,
            "the kernel speaks boot protocol %u.%02u; 2.12 (Linux 3.8) or later is needed",
            header->version >> 8u, header->version & 0xffu);
    }
    if ((header->xloadflags & XLF_KERNEL_64) == 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->xloadflags,
                       "a 32-bit Linux kernel (no 64-bit entry point): take an x86-64 one");
    }
    if ((header->loadflags & LOADED_HIGH) == 0) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->loadflags,
                       "a zImage that loads below 1 MiB, not a bzImage");
    }
    return VMMHPC_OK;
}

/* The protected-mode code that follows the setup sectors. */
static int32_t find_code(const struct vh_blob *file, const struct setup_header *header,
                         struct vh_blob *code, struct vmmhpc_error *err)
{
    uint64_t sectors = header->setup_sects != 0 ? header->setup_sects : 4;
    uint64_t start = (sectors + 1) * SECTOR;

    code->bytes = (uint64_t)header->syssize * 16;
    if (code->bytes <= ENTRY_64) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, code->bytes,
                       "the bzImage says that its code has %" PRIu64
                       " bytes: too few to hold the 64-bit entry point",
                       code->bytes);
    }
    if (start > file->bytes || code->bytes > file->bytes - start) {
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, start + code->bytes,
                       "the bzImage is truncated: its header asks for %" PRIu64
                       " bytes, the file has %" PRIu64,
                       start + code->bytes, file->bytes);
    }
    code->data = file->data + start;
    return VMMHPC_OK;
}

/*
 * Where to load: the preferred address. A kernel loaded lower moves itself up to it, so going lower
 * never helps in small RAM; only a missing or unusable preference is replaced.
 */
static int32_t choose_address(const struct setup_header *header, uint64_t *load,
                              struct vmmhpc_error *err)
{
    *load = header->pref_address;
    if (header->relocatable_kernel != 0 && !power_of_two(header->kernel_alignment)) {
        return vh_fail(err, VMMHPC_E_BAD_IMAGE, 0, header->kernel_alignment,
                       "the kernel asks for an alignment of 0x%x, which is not a power of two",
                       header->kernel_alignment);
    }
    if (*load >= VH_HIGH_RAM_START) {
        return VMMHPC_OK;
    }
    if (header->relocatable_kernel == 0) {
        *load = VH_HIGH_RAM_START;
        return VMMHPC_OK;
    }
    (void)vh_align_up(VH_HIGH_RAM_START, header->kernel_alignment, load); /* 32-bit: cannot wrap */
    return VMMHPC_OK;
}

int32_t vh_boot_bzimage(struct vh_memory *memory, const struct vh_boot_source *source,
                        struct vh_entry *entry, struct vmmhpc_error *err)
{
    struct boot_params params;
    struct vh_claims claims;
    struct vh_blob code = {0};
    uint64_t load = 0;
    uint64_t room;
    int32_t status;

    memset(&params, 0, sizeof(params));
    *entry = (struct vh_entry){.kind = VMMHPC_IMAGE_BZIMAGE};
    vh_claims_init(&claims, memory);
    status = read_header(&source->kernel, &params.hdr, err);
    if (status == VMMHPC_OK) {
        status = find_code(&source->kernel, &params.hdr, &code, err);
    }
    if (status == VMMHPC_OK) {
        status = choose_address(&params.hdr, &load, err);
    }
    if (status == VMMHPC_OK) {
        status = vh_claim_low(&claims, VH_LINUX_LOW, err);
    }
    if (status == VMMHPC_OK) {
        /* init_size: what the kernel uses from its load address on before it knows its memory. */
        room = params.hdr.init_size > code.bytes ? params.hdr.init_size : code.bytes;
        status = vh_claim(&claims, load, room, "the kernel (bzImage)", err);
    }
    if (status == VMMHPC_OK) {
        status = vh_put(memory, load, code.data, code.bytes, "the kernel", err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    params.hdr.code32_start = (uint32_t)load;
    entry->rip = load + ENTRY_64;
    return vh_linux_finish(memory, source, &claims, &params, entry, err);
}
