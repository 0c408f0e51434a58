/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

struct rig *rig_new_regions(const uint64_t *mib, uint32_t count)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct vmmhpc_memory specs[VMMHPC_MEMORY_MAX] = {0};

    for (uint32_t i = 0; i < count; i++) {
        specs[i] = (struct vmmhpc_memory){
            .size = sizeof(specs[i]), .bytes = mib[i] * VH_MIB, .numa_node = -1};
    }
    rig->err.size = sizeof(rig->err);
    CHECK_OK(vh_memory_create(&rig->memory, specs, count, &rig->err), &rig->err);
    rig->source.cmdline = "test";
    rig->source.rsdp = VH_ACPI_GPA;
    return rig;
}

struct rig *rig_new(uint64_t mib)
{
    return rig_new_regions(&mib, 1);
}

void rig_free(struct rig *rig)
{
    vh_memory_destroy(&rig->memory);
    free(rig);
}

int32_t rig_load(struct rig *rig, uint32_t kind)
{
    struct vh_boot_source source = rig->source;
    uint8_t *exact = NULL;
    int32_t status;

    source.kind = kind;
    if (source.kernel.data == NULL) {
        /* A copy of just the right size, so that ASan sees a read past its end. */
        exact = malloc(rig->image.bytes + 1);
        memcpy(exact, rig->image.data, rig->image.bytes);
        source.kernel = (struct vh_blob){exact, rig->image.bytes};
        if (rig->image.bytes != 0) {
            exact = realloc(exact, rig->image.bytes);
            source.kernel.data = exact;
        }
    }
    memset(&rig->err, 0, sizeof(rig->err));
    rig->err.size = sizeof(rig->err);
    status = vh_boot_load(&rig->memory, &source, &rig->entry, &rig->err);
    free(exact);
    return status;
}

uint64_t rig_read(const struct rig *rig, uint64_t gpa, uint32_t bytes)
{
    const void *at = vh_memory_at(&rig->memory, gpa, bytes);
    uint64_t value = 0;

    if (at == NULL) {
        return UINT64_MAX;
    }
    memcpy(&value, at, bytes);
    return value;
}

const char *rig_text(const struct rig *rig, uint64_t gpa)
{
    const char *at = vh_memory_at(&rig->memory, gpa, 1);

    return at != NULL ? at : "(not RAM)";
}
