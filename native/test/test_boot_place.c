/* SPDX-License-Identifier: Apache-2.0 */
/* Claims, the memory map, and copies into RAM. */
#include "boot/place.h"
#include "rig.h"

TEST(boot_memory_map_round_the_hole)
{
    const uint64_t mib[] = {2048, 4096};
    struct rig *rig = rig_new_regions(mib, 2);
    struct vh_map_entry map[VH_MAP_MAX];

    CHECK_EQ(vh_memory_map(&rig->memory, map), 4);
    CHECK_EQ(map[2].start, VH_MIB);
    CHECK_EQ(map[2].start + map[2].bytes, VMMHPC_HOLE_START);
    CHECK_EQ(map[3].start, VMMHPC_HOLE_END);
    CHECK_EQ(map[3].bytes, 3 * VH_GIB);
    CHECK_EQ(map[3].type, VH_MAP_RAM);
    rig_free(rig);
}

TEST(boot_memory_map_of_one_mib)
{
    struct rig *rig = rig_new(1);
    struct vh_map_entry map[VH_MAP_MAX];

    CHECK_EQ(vh_memory_map(&rig->memory, map), 2);
    CHECK_EQ(map[0].bytes, VH_LOW_RAM_END);
    CHECK_EQ(map[1].start, VH_ACPI_GPA);
    CHECK_EQ(map[1].type, VH_MAP_RESERVED);
    rig_free(rig);
}

TEST(boot_claims)
{
    struct rig *rig = rig_new(1);
    struct vh_claims claims;
    int32_t status = VMMHPC_OK;

    vh_claims_init(&claims, &rig->memory);
    CHECK_EQ(claims.limit, VH_MIB);
    CHECK_OK(vh_claim(&claims, 0x1000, 0x1000, "a", &rig->err), &rig->err);
    CHECK_OK(vh_claim(&claims, 0x2000, 0x1000, "b", &rig->err), &rig->err); /* touching */
    CHECK_OK(vh_claim(&claims, 0x1800, 0, "nothing", &rig->err), &rig->err);
    CHECK_ERROR(vh_claim(&claims, 0x1fff, 1, "c", &rig->err), &rig->err, VMMHPC_E_OVERLAP,
                "c (0x1fff ... 0x2000) overlaps a (0x1000 ... 0x2000)");
    CHECK_ERROR(vh_claim(&claims, 0xfff, 2, "c", &rig->err), &rig->err, VMMHPC_E_OVERLAP,
                "overlaps a");
    CHECK_OK(vh_claim(&claims, 0xfff, 1, "e", &rig->err), &rig->err);
    CHECK_ERROR(vh_claim(&claims, 0, 0x100000, "c", &rig->err), &rig->err, VMMHPC_E_OVERLAP, "");
    CHECK_ERROR(vh_claim(&claims, UINT64_MAX, 2, "c", &rig->err), &rig->err, VMMHPC_E_BAD_IMAGE,
                "wraps");
    CHECK_ERROR(vh_claim(&claims, 0x100000, 1, "c", &rig->err), &rig->err, VMMHPC_E_NO_ROOM,
                "c needs RAM up to 0x100001 (2 MiB)");
    for (uint64_t i = 0; i < VH_CLAIMS_MAX && status == VMMHPC_OK; i++) {
        status = vh_claim(&claims, 0x10000 + i, 1, "d", &rig->err);
    }
    CHECK_ERROR(status, &rig->err, VMMHPC_E_LIMIT, "one range too many");
    CHECK_EQ(claims.count, VH_CLAIMS_MAX);
    rig_free(rig);
}

TEST(boot_put_crosses_slots)
{
    const uint64_t mib[] = {1, 1};
    struct rig *rig = rig_new_regions(mib, 2);
    uint8_t data[3 * 4096];

    memset(data, 0x33, sizeof(data));
    CHECK_OK(vh_put(&rig->memory, VH_MIB - 100, data, sizeof(data), "x", &rig->err), &rig->err);
    CHECK_EQ(rig_read(rig, VH_MIB - 100, 1), 0x33);
    CHECK_EQ(rig_read(rig, VH_MIB - 101, 1), 0);
    CHECK_EQ(rig_read(rig, VH_MIB - 100 + sizeof(data) - 1, 1), 0x33);
    CHECK_EQ(rig_read(rig, VH_MIB - 100 + sizeof(data), 1), 0);
    /* A page whose part before the border is zero and whose rest is not. */
    memset(data, 0, 200);
    CHECK_OK(vh_put(&rig->memory, VH_MIB - 100, data, sizeof(data), "x", &rig->err), &rig->err);
    CHECK_EQ(rig_read(rig, VH_MIB - 100, 1), 0);
    CHECK_EQ(rig_read(rig, VH_MIB + 99, 1), 0);
    CHECK_EQ(rig_read(rig, VH_MIB + 100, 1), 0x33);
    /* Beyond the end, from the end, and far away. */
    CHECK_ERROR(vh_put(&rig->memory, 2 * VH_MIB - 1, data + 200, 2, "x", &rig->err), &rig->err,
                VMMHPC_E_NO_ROOM, "x");
    CHECK_ERROR(vh_put(&rig->memory, 2 * VH_MIB, data + 200, 1, "x", &rig->err), &rig->err,
                VMMHPC_E_NO_ROOM, "x");
    CHECK_ERROR(vh_put(&rig->memory, UINT64_MAX, data + 200, 2, "x", &rig->err), &rig->err,
                VMMHPC_E_NO_ROOM, "x");
    rig_free(rig);
}
