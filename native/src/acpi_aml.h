/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An emitter for the little AML that the DSDT needs (ACPI 6.4, chapter 20). Blocks nest: begin
 * returns a position that the matching end takes, and end puts the length in front of the block.
 */
#ifndef VH_ACPI_AML_H
#define VH_ACPI_AML_H

#include "acpi_bytes.h"

/** A path such as "\\_SB" or "COM1.FOO"; segments shorter than four characters get '_' after them.
 */
void vh_aml_path(struct vh_bytes *aml, const char *path);

/** An integer object in its shortest form. */
void vh_aml_integer(struct vh_bytes *aml, uint64_t value);

/** "PNP0501" as the 32-bit compressed EISA id (ACPI 6.4, 19.6.37). */
void vh_aml_eisa_id(struct vh_bytes *aml, const char *id);

/** A string object; ASCII. */
void vh_aml_string(struct vh_bytes *aml, const char *text);

/** Name(path, ...): the object must follow. */
void vh_aml_name(struct vh_bytes *aml, const char *path);

uint32_t vh_aml_scope_begin(struct vh_bytes *aml, const char *path);
uint32_t vh_aml_device_begin(struct vh_bytes *aml, const char *path);
uint32_t vh_aml_package_begin(struct vh_bytes *aml, uint8_t elements);
/** A serialized method. */
uint32_t vh_aml_method_begin(struct vh_bytes *aml, const char *path, uint8_t arguments);
/** Notify(path, value). */
void vh_aml_notify(struct vh_bytes *aml, const char *path, uint8_t value);
/** Ends a scope, device, package or method. */
void vh_aml_block_end(struct vh_bytes *aml, uint32_t position);

/** A resource template: descriptors go between (ACPI 6.4, 6.4). */
uint32_t vh_aml_resources_begin(struct vh_bytes *aml);
void vh_aml_resource_ports(struct vh_bytes *aml, uint16_t base, uint8_t count);
/** An exclusive, edge-triggered, active-high interrupt that the device consumes. */
void vh_aml_resource_interrupt(struct vh_bytes *aml, uint32_t gsi);
/** Memory below 4 GiB at a fixed place, read and written. */
void vh_aml_resource_memory(struct vh_bytes *aml, uint64_t gpa, uint64_t bytes);
/** What a bridge passes on: bus numbers; memory, in 64-bit terms where it lies above 4 GiB. */
void vh_aml_resource_bus(struct vh_bytes *aml, uint16_t first, uint16_t last);
void vh_aml_resource_window(struct vh_bytes *aml, uint64_t gpa, uint64_t bytes);
void vh_aml_resources_end(struct vh_bytes *aml, uint32_t position);

#endif
