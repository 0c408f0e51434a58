/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM and a boot source for tests of the loaders. */
#ifndef RIG_H
#define RIG_H

#include <stdlib.h>
#include <string.h>

#include "boot/boot.h"
#include "images.h"
#include "layout.h"
#include "tap.h"

struct rig {
    struct vh_memory memory;
    struct vh_boot_source source;
    struct vh_entry entry;
    struct vmmhpc_error err;
    struct image image;
};

/** A machine's RAM of so many MiB, with "test" as command line and an RSDP. */
struct rig *rig_new(uint64_t mib);
struct rig *rig_new_regions(const uint64_t *mib, uint32_t count);
void rig_free(struct rig *rig);

/** Load rig->image, or source.kernel where that is set, as a kind. */
int32_t rig_load(struct rig *rig, uint32_t kind);

/** A little-endian value from guest RAM; all ones where it is none. */
uint64_t rig_read(const struct rig *rig, uint64_t gpa, uint32_t bytes);
const char *rig_text(const struct rig *rig, uint64_t gpa);

#endif
