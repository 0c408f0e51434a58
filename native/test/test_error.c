/* SPDX-License-Identifier: Apache-2.0 */
/* Structured errors: what fits is written, nothing beyond it. */
#include <string.h>

#include "internal.h"
#include "tap.h"

/* An error structure of a caller who knows a shorter or a longer one. */
struct padded {
    struct vmmhpc_error err;
    char behind[64];
};

static struct padded padded(uint32_t size)
{
    struct padded p;

    memset(&p, 0x5a, sizeof(p));
    p.err.size = size;
    return p;
}

TEST(error_is_filled)
{
    struct padded p = padded(sizeof(p.err));

    CHECK_EQ(vh_fail(&p.err, VMMHPC_E_RANGE, 14, 0x123456789abcull, "bad %s %d", "thing", 7),
             VMMHPC_E_RANGE);
    CHECK_EQ(p.err.code, VMMHPC_E_RANGE);
    CHECK_EQ(p.err.sys_errno, 14);
    CHECK_EQ(p.err.value, 0x123456789abcull);
    CHECK_EQ(strcmp(p.err.text, "bad thing 7"), 0);
    CHECK_EQ(p.behind[0], 0x5a);
}

TEST(error_text_is_cut)
{
    char text[400];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    /* Sizes: the whole structure, one that a newer caller has, room for 8 and for 1 characters. */
    const uint32_t sizes[] = {sizeof(struct vmmhpc_error), sizeof(struct padded),
                              offsetof(struct vmmhpc_error, text) + 8,
                              offsetof(struct vmmhpc_error, text) + 1};
    const size_t lengths[] = {sizeof(((struct vmmhpc_error *)0)->text) - 1,
                              sizeof(((struct vmmhpc_error *)0)->text) - 1, 7, 0};
    for (size_t i = 0; i < VH_COUNT(sizes); i++) {
        struct padded p = padded(sizes[i]);

        CHECK_EQ(vh_fail(&p.err, VMMHPC_E_IO, 0, 0, "%s", text), VMMHPC_E_IO);
        CHECK_EQ(p.err.code, VMMHPC_E_IO);
        CHECK_EQ(strnlen(p.err.text, sizeof(p.err.text)), lengths[i]);
        if (lengths[i] + 1 < sizeof(p.err.text)) {
            CHECK_EQ(p.err.text[lengths[i] + 1], 0x5a);
        }
        CHECK_EQ(p.behind[0], 0x5a);
    }
}

TEST(error_is_optional)
{
    struct padded p = padded(offsetof(struct vmmhpc_error, text));

    CHECK_EQ(vh_fail(NULL, VMMHPC_E_STATE, 1, 2, "text"), VMMHPC_E_STATE);
    CHECK_EQ(vh_fail(&p.err, VMMHPC_E_STATE, 1, 2, "text"),
             VMMHPC_E_STATE); /* too short: untouched */
    CHECK_EQ(p.err.code, 0x5a5a5a5a);
    p.err.size = 0;
    CHECK_EQ(vh_fail(&p.err, VMMHPC_E_STATE, 1, 2, "text"), VMMHPC_E_STATE);
    CHECK_EQ(p.err.code, 0x5a5a5a5a);
}

TEST(error_status_names)
{
    CHECK_EQ(strcmp(vmmhpc_status_name(VMMHPC_OK), "VMMHPC_OK"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(VMMHPC_E_INVALID), "VMMHPC_E_INVALID"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(VMMHPC_E_NO_ROOM), "VMMHPC_E_NO_ROOM"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(VMMHPC_E_TIMEOUT), "VMMHPC_E_TIMEOUT"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(VMMHPC_E_TIMEOUT - 1), "VMMHPC_E_UNKNOWN"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(1), "VMMHPC_E_UNKNOWN"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(INT32_MIN), "VMMHPC_E_UNKNOWN"), 0);
    CHECK_EQ(strcmp(vmmhpc_status_name(INT32_MAX), "VMMHPC_E_UNKNOWN"), 0);
    CHECK_EQ(vmmhpc_version(), VMMHPC_VERSION_MAJOR << 16 | VMMHPC_VERSION_MINOR);
}
