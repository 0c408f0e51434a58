/* SPDX-License-Identifier: Apache-2.0 */
#include "acpi_aml.h"

enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_EXT = 0x5b,
    AML_EXT_DEVICE = 0x82,
    AML_NOTIFY = 0x86,
};

void vh_aml_path(struct vh_bytes *aml, const char *path)
{
    if (*path == '\\') {
        vh_emit8(aml, '\\');
        path++;
    }
    uint32_t segments = 1;
    for (const char *p = path; *p != '\0'; p++) {
        segments += *p == '.';
    }
    if (segments == 2) {
        vh_emit8(aml, AML_DUAL_NAME);
    } else if (segments > 2) {
        vh_emit8(aml, AML_MULTI_NAME);
        vh_emit8(aml, segments);
    }
    for (uint32_t i = 0; i < segments; i++) {
        char name[4] = {'_', '_', '_', '_'};
        for (uint32_t n = 0; n < sizeof(name) && *path != '\0' && *path != '.'; n++) {
            name[n] = *path++;
        }
        vh_emit(aml, name, sizeof(name));
        path += *path == '.';
    }
}

void vh_aml_integer(struct vh_bytes *aml, uint64_t value)
{
    if (value <= 1) {
        vh_emit8(aml, value == 0 ? AML_ZERO : AML_ONE);
    } else if (value <= UINT8_MAX) {
        vh_emit8(aml, AML_BYTE);
        vh_emit8(aml, value);
    } else if (value <= UINT16_MAX) {
        vh_emit8(aml, AML_WORD);
        vh_emit16(aml, value);
    } else if (value <= UINT32_MAX) {
        vh_emit8(aml, AML_DWORD);
        vh_emit32(aml, value);
    } else {
        vh_emit8(aml, AML_QWORD);
        vh_emit64(aml, value);
    }
}

static uint32_t hex_digit(char c)
{
    return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10) & 0xf;
}

void vh_aml_eisa_id(struct vh_bytes *aml, const char *id)
{
    /* Three letters of five bits, then four hexadecimal digits; big-endian in memory. */
    uint32_t value = 0;
    for (uint32_t i = 0; i < 7; i++) {
        value =
            i < 3 ? value << 5 | ((uint32_t)(id[i] - '@') & 0x1f) : value << 4 | hex_digit(id[i]);
    }
    vh_emit8(aml, AML_DWORD);
    vh_emit32(aml, __builtin_bswap32(value));
}

void vh_aml_name(struct vh_bytes *aml, const char *path)
{
    vh_emit8(aml, AML_NAME);
    vh_aml_path(aml, path);
}

uint32_t vh_aml_scope_begin(struct vh_bytes *aml, const char *path)
{
    vh_emit8(aml, AML_SCOPE);
    const uint32_t position = aml->used;
    vh_aml_path(aml, path);
    return position;
}

uint32_t vh_aml_device_begin(struct vh_bytes *aml, const char *path)
{
    vh_emit8(aml, AML_EXT);
    vh_emit8(aml, AML_EXT_DEVICE);
    const uint32_t position = aml->used;
    vh_aml_path(aml, path);
    return position;
}

uint32_t vh_aml_package_begin(struct vh_bytes *aml, uint8_t elements)
{
    vh_emit8(aml, AML_PACKAGE);
    const uint32_t position = aml->used;
    vh_emit8(aml, elements);
    return position;
}

uint32_t vh_aml_method_begin(struct vh_bytes *aml, const char *path, uint8_t arguments)
{
    vh_emit8(aml, AML_METHOD);
    const uint32_t position = aml->used;
    vh_aml_path(aml, path);
    vh_emit8(aml, arguments | 0x08u); /* serialized */
    return position;
}

void vh_aml_notify(struct vh_bytes *aml, const char *path, uint8_t value)
{
    vh_emit8(aml, AML_NOTIFY);
    vh_aml_path(aml, path);
    vh_aml_integer(aml, value);
}

void vh_aml_string(struct vh_bytes *aml, const char *text)
{
    vh_emit8(aml, AML_STRING);
    vh_emit(aml, text, (uint32_t)strlen(text) + 1);
}

void vh_aml_block_end(struct vh_bytes *aml, uint32_t position)
{
    /* PkgLength counts itself too. One byte holds 6 bits; with n more bytes, the first holds n in
     * its top bits and the lowest 4 bits of the length, the others 8 bits each (20.2.4). */
    const uint32_t body = aml->used - position;
    uint8_t length[4];
    uint32_t bytes = 1;
    if (body + 1 < 1u << 6) {
        length[0] = (uint8_t)(body + 1);
    } else {
        bytes = body + 2 < 1u << 12 ? 2 : body + 3 < 1u << 20 ? 3 : 4;
        const uint32_t total = body + bytes;
        length[0] = (uint8_t)((bytes - 1) << 6 | (total & 0xf));
        for (uint32_t i = 1; i < bytes; i++) {
            length[i] = (uint8_t)(total >> (8 * i - 4));
        }
    }
    vh_emit_insert(aml, position, length, bytes);
}

uint32_t vh_aml_resources_begin(struct vh_bytes *aml)
{
    vh_emit8(aml, AML_BUFFER);
    return aml->used;
}

void vh_aml_resource_ports(struct vh_bytes *aml, uint16_t base, uint8_t count)
{
    vh_emit8(aml, 0x47); /* small item, I/O port (6.4.2.5) */
    vh_emit8(aml, 1);    /* decodes 16 bits */
    vh_emit16(aml, base);
    vh_emit16(aml, base);
    vh_emit8(aml, 1); /* alignment */
    vh_emit8(aml, count);
}

void vh_aml_resource_interrupt(struct vh_bytes *aml, uint32_t gsi)
{
    vh_emit8(aml, 0x89); /* large item, extended interrupt (6.4.3.6) */
    vh_emit16(aml, 6);
    vh_emit8(aml, 0x03); /* consumer, edge; active-high, exclusive */
    vh_emit8(aml, 1);
    vh_emit32(aml, gsi);
}

void vh_aml_resource_memory(struct vh_bytes *aml, uint64_t gpa, uint64_t bytes)
{
    vh_emit8(aml, 0x86); /* large item, 32-bit fixed memory (6.4.3.4) */
    vh_emit16(aml, 9);
    vh_emit8(aml, 1); /* writable */
    vh_emit32(aml, gpa);
    vh_emit32(aml, bytes);
}

/* Address space descriptors (6.4.3.5): what a bridge produces, with both ends fixed. */
#define ADDRESS_FLAGS 0x0cu

void vh_aml_resource_bus(struct vh_bytes *aml, uint16_t first, uint16_t last)
{
    const uint64_t fields[] = {0, first, last, 0, (uint64_t)last - first + 1};
    vh_emit8(aml, 0x88); /* of 16 bits */
    vh_emit16(aml, 13);
    vh_emit8(aml, 2); /* bus numbers */
    vh_emit8(aml, ADDRESS_FLAGS);
    vh_emit8(aml, 0);
    for (size_t i = 0; i < VH_COUNT(fields); i++) {
        vh_emit16(aml, fields[i]);
    }
}

void vh_aml_resource_window(struct vh_bytes *aml, uint64_t gpa, uint64_t bytes)
{
    const bool wide = gpa + bytes > 1ull << 32;
    const uint64_t fields[] = {0, gpa, gpa + bytes - 1, 0, bytes};
    vh_emit8(aml, wide ? 0x8a : 0x87); /* of 64 or 32 bits */
    vh_emit16(aml, wide ? 43 : 23);
    vh_emit8(aml, 0); /* memory */
    vh_emit8(aml, ADDRESS_FLAGS);
    vh_emit8(aml, 1); /* writable, not cacheable */
    for (size_t i = 0; i < VH_COUNT(fields); i++) {
        vh_emit_int(aml, fields[i], wide ? 8 : 4);
    }
}

void vh_aml_resources_end(struct vh_bytes *aml, uint32_t position)
{
    vh_emit8(aml, 0x79); /* end tag (6.4.2.9) */
    vh_emit8(aml, 0);    /* checksum not used */
    /* The size object comes before the bytes that it counts. */
    uint8_t object[9];
    struct vh_bytes size = {.data = object, .capacity = sizeof(object)};
    vh_aml_integer(&size, aml->used - position);
    vh_emit_insert(aml, position, object, size.used);
    vh_aml_block_end(aml, position);
}
