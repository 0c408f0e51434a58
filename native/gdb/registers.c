/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers that gdb sees, in the order of its numbers: the standard features of gdb's manual
 * (G.5.7 "i386 Features") and one of our own for control registers. One table says where each is in
 * struct vmmhpc_debug_regs, and makes the description as well as the packets.
 */
#include <stddef.h>
#include <string.h>

#include "session.h"

#define AT(field) offsetof(struct vmmhpc_debug_regs, field)
#define BANK_MAX 16u

/* FIELD: as it stands in the structure. The x87's are spread over other fields. */
enum part { FIELD, TAGS, FISEG, FIOFF, FOSEG, FOOFF };

struct bank {
    const char *name; /* with the first number as %u where there are several */
    const char *type;
    const char *group;
    uint16_t first;
    uint16_t count;
    uint16_t bits;
    uint16_t at;     /* of the first */
    uint16_t stride; /* to the next */
    uint16_t field;  /* bytes in the structure; the rest is zero */
    uint16_t groups; /* VMMHPC_REGS_* that a change is written with */
    enum part part;
};

struct feature {
    const char *name;
    uint32_t first, count; /* banks */
};

#define ONE(name, type, group, bits, where, bytes, groups)                                         \
    {                                                                                              \
        name, type, group, 0, 1, bits, AT(where), 0, bytes, groups, FIELD                          \
    }
#define GPR(name, type, index) ONE(name, type, NULL, 64, gpr[index], 8, VMMHPC_REGS_GENERAL)
#define SELECTOR(name, index)                                                                      \
    ONE(name, "int32", NULL, 32, segment[index].selector, 2, VMMHPC_REGS_SYSTEM)
#define X87(name, where, bytes) ONE(name, "int", "float", 32, where, bytes, VMMHPC_REGS_FPU)
#define X87_PART(name, part)                                                                       \
    {                                                                                              \
        name, "int", "float", 0, 1, 32, 0, 0, 4, VMMHPC_REGS_FPU, part                             \
    }
#define CONTROL(name, where) ONE(name, "uint64", "system", 64, where, 8, VMMHPC_REGS_SYSTEM)

static const struct bank banks[] = {
    GPR("rax", "int64", 0),
    GPR("rbx", "int64", 1),
    GPR("rcx", "int64", 2),
    GPR("rdx", "int64", 3),
    GPR("rsi", "int64", 4),
    GPR("rdi", "int64", 5),
    GPR("rbp", "data_ptr", 6),
    GPR("rsp", "data_ptr", 7),
    {"r%u", "int64", NULL, 8, 8, 64, AT(gpr[8]), 8, 8, VMMHPC_REGS_GENERAL, FIELD},
    ONE("rip", "code_ptr", NULL, 64, rip, 8, VMMHPC_REGS_GENERAL),
    ONE("eflags", "i386_eflags", NULL, 32, rflags, 4, VMMHPC_REGS_GENERAL),
    SELECTOR("cs", VMMHPC_SEGMENT_CS),
    SELECTOR("ss", VMMHPC_SEGMENT_SS),
    SELECTOR("ds", VMMHPC_SEGMENT_DS),
    SELECTOR("es", VMMHPC_SEGMENT_ES),
    SELECTOR("fs", VMMHPC_SEGMENT_FS),
    SELECTOR("gs", VMMHPC_SEGMENT_GS),
    {"st%u", "i387_ext", NULL, 0, 8, 80, AT(st), 16, 10, VMMHPC_REGS_FPU, FIELD},
    X87("fctrl", fcw, 2),
    X87("fstat", fsw, 2),
    X87_PART("ftag", TAGS),
    X87_PART("fiseg", FISEG),
    X87_PART("fioff", FIOFF),
    X87_PART("foseg", FOSEG),
    X87_PART("fooff", FOOFF),
    X87("fop", fop, 2),
    {"xmm%u", "vec128", NULL, 0, 16, 128, AT(xmm), 16, 16, VMMHPC_REGS_FPU, FIELD},
    ONE("mxcsr", "i386_mxcsr", "vector", 32, mxcsr, 4, VMMHPC_REGS_FPU),
    ONE("fs_base", "int64", NULL, 64, segment[VMMHPC_SEGMENT_FS].base, 8, VMMHPC_REGS_SYSTEM),
    ONE("gs_base", "int64", NULL, 64, segment[VMMHPC_SEGMENT_GS].base, 8, VMMHPC_REGS_SYSTEM),
    CONTROL("k_gs_base", kernel_gs_base),
    CONTROL("cr0", cr0),
    CONTROL("cr2", cr2),
    CONTROL("cr3", cr3),
    CONTROL("cr4", cr4),
    CONTROL("cr8", cr8),
    CONTROL("efer", efer),
    CONTROL("gdt_base", gdt_base),
    CONTROL("idt_base", idt_base),
};

static const struct feature features[] = {
    {"org.gnu.gdb.i386.core", 0, 26},
    {"org.gnu.gdb.i386.sse", 26, 2},
    {"org.gnu.gdb.i386.segments", 28, 2},
    {"org.v3m.x86.system", 30, 9},
};

/* Types that features use and gdb does not know by itself. */
static const char sse_types[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/>"
    "<field name=\"DE\" start=\"1\" end=\"1\"/><field name=\"ZE\" start=\"2\" end=\"2\"/>"
    "<field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/>"
    "<field name=\"PE\" start=\"5\" end=\"5\"/><field name=\"DAZ\" start=\"6\" end=\"6\"/>"
    "<field name=\"IM\" start=\"7\" end=\"7\"/><field name=\"DM\" start=\"8\" end=\"8\"/>"
    "<field name=\"ZM\" start=\"9\" end=\"9\"/><field name=\"OM\" start=\"10\" end=\"10\"/>"
    "<field name=\"UM\" start=\"11\" end=\"11\"/><field name=\"PM\" start=\"12\" end=\"12\"/>"
    "<field name=\"FZ\" start=\"15\" end=\"15\"/></flags>";

static const char core_types[] =
    "<flags id=\"i386_eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

bool gd_make_xml(struct gd_text *xml)
{
    gd_puts(xml, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                 "<architecture>i386:x86-64</architecture>");
    uint32_t number = 0;
    for (size_t f = 0; f < VH_COUNT(features); f++) {
        gd_printf(xml, "<feature name=\"%s\">", features[f].name);
        gd_puts(xml, f == 0 ? core_types : f == 1 ? sse_types : "");
        for (uint32_t b = features[f].first; b < features[f].first + features[f].count; b++) {
            const struct bank *bank = &banks[b];
            for (uint32_t i = 0; i < bank->count; i++, number++) {
                gd_puts(xml, "<reg name=\"");
                gd_puts(xml, bank->count == 1 ? bank->name : "");
                if (bank->count > 1) {
                    gd_put(xml, bank->name, strlen(bank->name) - 2); /* without the %u */
                    gd_printf(xml, "%u", bank->first + i);
                }
                gd_printf(xml, "\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"", bank->bits,
                          bank->type, number);
                if (bank->group != NULL) {
                    gd_printf(xml, " group=\"%s\"", bank->group);
                }
                gd_puts(xml, "/>");
            }
        }
        gd_puts(xml, "</feature>");
    }
    gd_puts(xml, "</target>");
    return !xml->failed;
}

static uint32_t total(bool bytes)
{
    uint32_t sum = 0;
    for (size_t b = 0; b < VH_COUNT(banks); b++) {
        sum += banks[b].count * (bytes ? banks[b].bits / 8u : 1u);
    }
    return sum;
}

uint32_t gd_register_count(void)
{
    return total(false);
}

uint32_t gd_register_bytes(void)
{
    return total(true);
}

/* The bank of a register's number; index: which of the bank. */
static const struct bank *bank_of(uint64_t number, uint32_t *index)
{
    for (size_t b = 0; b < VH_COUNT(banks); b++) {
        if (number < banks[b].count) {
            *index = (uint32_t)number;
            return &banks[b];
        }
        number -= banks[b].count;
    }
    return NULL;
}

/* The x87's tag word has two bits for each register: 3 is empty; used ones are told as valid. */
static uint32_t full_tags(uint8_t abridged)
{
    uint32_t tags = 0;
    for (uint32_t i = 0; i < 8; i++) {
        tags |= (abridged >> i & 1) != 0 ? 0 : 3u << (2 * i);
    }
    return tags;
}

static void load(const struct vmmhpc_debug_regs *regs, const struct bank *bank, uint32_t index,
                 uint8_t value[BANK_MAX])
{
    uint32_t word = 0;
    memset(value, 0, BANK_MAX);
    switch (bank->part) {
    case FIELD:
        memcpy(value, (const uint8_t *)regs + bank->at + (size_t)index * bank->stride, bank->field);
        return;
    case TAGS:
        word = full_tags(regs->ftw);
        break;
    case FISEG:
        word = (uint32_t)(regs->fip >> 32);
        break;
    case FIOFF:
        word = (uint32_t)regs->fip;
        break;
    case FOSEG:
        word = (uint32_t)(regs->fdp >> 32);
        break;
    case FOOFF:
        word = (uint32_t)regs->fdp;
        break;
    }
    memcpy(value, &word, sizeof(word));
}

static void store(struct vmmhpc_debug_regs *regs, const struct bank *bank, uint32_t index,
                  const uint8_t value[BANK_MAX])
{
    uint32_t word = 0;
    memcpy(&word, value, sizeof(word));
    switch (bank->part) {
    case FIELD:
        memcpy((uint8_t *)regs + bank->at + (size_t)index * bank->stride, value, bank->field);
        break;
    case TAGS:
        regs->ftw = 0;
        for (uint32_t i = 0; i < 8; i++) {
            regs->ftw = (uint8_t)(regs->ftw | ((word >> (2 * i) & 3) != 3 ? 1u << i : 0));
        }
        break;
    case FISEG:
        regs->fip = (regs->fip & 0xffffffff) | (uint64_t)word << 32;
        break;
    case FIOFF:
        regs->fip = (regs->fip & ~0xffffffffull) | word;
        break;
    case FOSEG:
        regs->fdp = (regs->fdp & 0xffffffff) | (uint64_t)word << 32;
        break;
    case FOOFF:
        regs->fdp = (regs->fdp & ~0xffffffffull) | word;
        break;
    }
}

static bool get(struct gd_session *session, struct vmmhpc_debug_regs *regs)
{
    memset(regs, 0, sizeof(*regs));
    regs->size = sizeof(*regs);
    int32_t status = session->target->get_regs(session->opaque, session->general, regs);
    if (status != VMMHPC_OK) {
        gd_error(session, status);
    }
    return status == VMMHPC_OK;
}

void gd_read_all(struct gd_session *session)
{
    struct vmmhpc_debug_regs regs;
    uint8_t value[BANK_MAX];
    if (!get(session, &regs)) {
        return;
    }
    for (size_t b = 0; b < VH_COUNT(banks); b++) {
        for (uint32_t i = 0; i < banks[b].count; i++) {
            load(&regs, &banks[b], i, value);
            gd_put_hex(&session->reply, value, banks[b].bits / 8u);
        }
    }
}

static void put(struct gd_session *session, const struct vmmhpc_debug_regs *regs, uint32_t groups)
{
    int32_t status =
        groups == 0 ? VMMHPC_OK
                    : session->target->set_regs(session->opaque, session->general, regs, groups);
    if (status == VMMHPC_OK) {
        gd_ok(session);
    } else {
        gd_error(session, status);
    }
}

/* Take one register's value; the group that has changed, if any. False: digits are missing. */
static bool take(struct gd_cursor *packet, struct vmmhpc_debug_regs *regs, const struct bank *bank,
                 uint32_t index, uint32_t *groups)
{
    uint8_t before[BANK_MAX];
    uint8_t value[BANK_MAX] = {0};
    load(regs, bank, index, before);
    if (!gd_take_bytes(packet, value, bank->bits / 8u)) {
        return false;
    }
    if (memcmp(before, value, sizeof(value)) != 0) {
        store(regs, bank, index, value);
        *groups |= bank->groups;
    }
    return true;
}

void gd_write_all(struct gd_session *session, struct gd_cursor packet)
{
    struct vmmhpc_debug_regs regs;
    uint32_t groups = 0;
    if (!get(session, &regs)) {
        return;
    }
    for (size_t b = 0; b < VH_COUNT(banks); b++) {
        for (uint32_t i = 0; i < banks[b].count; i++) {
            if (!take(&packet, &regs, &banks[b], i, &groups)) {
                gd_error(session, VMMHPC_E_INVALID);
                return;
            }
        }
    }
    put(session, &regs, groups);
}

void gd_read_one(struct gd_session *session, struct gd_cursor packet)
{
    struct vmmhpc_debug_regs regs;
    uint8_t value[BANK_MAX];
    uint64_t number = 0;
    uint32_t index = 0;
    const struct bank *bank = gd_take_number(&packet, &number) ? bank_of(number, &index) : NULL;
    if (bank == NULL) {
        gd_error(session, VMMHPC_E_INVALID);
    } else if (get(session, &regs)) {
        load(&regs, bank, index, value);
        gd_put_hex(&session->reply, value, bank->bits / 8u);
    }
}

void gd_write_one(struct gd_session *session, struct gd_cursor packet)
{
    struct vmmhpc_debug_regs regs;
    uint64_t number = 0;
    uint32_t index = 0;
    uint32_t groups = 0;
    const struct bank *bank = gd_take_number(&packet, &number) ? bank_of(number, &index) : NULL;
    if (bank == NULL || !gd_take(&packet, '=')) {
        gd_error(session, VMMHPC_E_INVALID);
    } else if (get(session, &regs)) {
        if (take(&packet, &regs, bank, index, &groups)) {
            put(session, &regs, groups);
        } else {
            gd_error(session, VMMHPC_E_INVALID);
        }
    }
}
