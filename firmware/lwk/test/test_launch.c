/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "launch.h"
#include "mm.h"
#include "pct.h"
#include "sim.h"
#include "tap.h"

#define MIB (1ull << 20)
#define STRINGS "app\0-x\0HOME=/root\0/bin/app"
#define APP_BYTES 0x3000u
#define MODULE_BYTES (LWK_PAGE + APP_BYTES)

static char reason[256];

/* A header, the strings, and at a page an executable of code at 0x400000, constants, and data with
 * bss. */
static uint8_t *module(uint32_t type)
{
    static uint8_t bytes[MODULE_BYTES] __attribute__((aligned(4096)));
    struct yod_launch *header = (struct yod_launch *)(void *)bytes;
    uint8_t *app = bytes + LWK_PAGE;
    uint64_t base = type == ET_EXEC ? 0x400000 : 0;

    memset(bytes, 0, sizeof(bytes));
    *header = (struct yod_launch){.magic = YOD_LAUNCH_MAGIC,
                                  .version = YOD_LAUNCH_VERSION,
                                  .bytes_header = sizeof(*header),
                                  .bytes = sizeof(bytes),
                                  .app_offset = LWK_PAGE,
                                  .app_bytes = APP_BYTES,
                                  .strings_offset = sizeof(*header),
                                  .strings_bytes = sizeof(STRINGS),
                                  .argc = 2,
                                  .envc = 1,
                                  .pid = 7,
                                  .uid = 1000};
    memcpy(bytes + sizeof(*header), STRINGS, sizeof(STRINGS));
    *(Elf64_Ehdr *)(void *)app =
        (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                     .e_type = (Elf64_Half)type,
                     .e_machine = EM_X86_64,
                     .e_entry = base + 0x200,
                     .e_phoff = sizeof(Elf64_Ehdr),
                     .e_phentsize = sizeof(Elf64_Phdr),
                     .e_phnum = 3};
    Elf64_Phdr *segment = (Elf64_Phdr *)(void *)(app + sizeof(Elf64_Ehdr));
    segment[0] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, base, base, 0x1000, 0x1000, 0x1000};
    segment[1] = (Elf64_Phdr){PT_LOAD,         PF_R | PF_W, 0x2010, base + 0x203010,
                              base + 0x203010, 0xff0,       0x2000, 0x1000};
    segment[2] = (Elf64_Phdr){PT_GNU_STACK, PF_R | PF_W | PF_X, 0, 0, 0, 0, 0, 16};
    memset(app + 0x200, 0x90, 16);
    app[0x2fff] = 0x77;
    return bytes;
}

static bool check(const uint8_t *bytes, uint64_t length, struct launch *launch)
{
    struct text why;

    text_init(&why, reason, sizeof(reason));
    return launch_check(bytes, length, launch, &why);
}

static bool plan(const uint8_t *bytes, struct elf_plan *out)
{
    struct text why;

    text_init(&why, reason, sizeof(reason));
    return elf_check(bytes + LWK_PAGE, APP_BYTES, out, &why);
}

static bool load_it(struct loaded *loaded)
{
    struct text why;

    text_init(&why, reason, sizeof(reason));
    return load(&pct.launch, loaded, &why);
}

TEST(launch_accepts_what_is_right)
{
    struct launch launch;

    CHECK(check(module(ET_EXEC), MODULE_BYTES, &launch));
    CHECK_CONTAINS(launch.execfn, "/bin/app");
}

TEST(launch_refuses_what_is_wrong)
{
    struct launch launch;
    uint8_t *bytes = module(ET_EXEC);
    struct yod_launch *header = (struct yod_launch *)(void *)bytes;

    CHECK(!check(bytes, 64, &launch));
    CHECK(!check(bytes, MODULE_BYTES - 1, &launch));
    CHECK_CONTAINS(reason, "cut short");
    header->app_bytes = UINT64_MAX;
    CHECK(!check(bytes, MODULE_BYTES, &launch));
    header = (struct yod_launch *)(void *)module(ET_EXEC);
    header->envc = 2;
    CHECK(!check(bytes, MODULE_BYTES, &launch));
    CHECK_CONTAINS(reason, "fewer strings");
    header->envc = UINT32_MAX;
    CHECK(!check(bytes, MODULE_BYTES, &launch));
    header->envc = 1;
    header->strings_offset = MODULE_BYTES - 4;
    CHECK(!check(bytes, MODULE_BYTES, &launch));
}

TEST(elf_plans_segments)
{
    struct elf_plan out;

    CHECK(plan(module(ET_EXEC), &out));
    CHECK_EQ(out.segments, 2);
    CHECK_EQ(out.low, 0x400000);
    CHECK_EQ(out.high, 0x606000);
    CHECK_EQ(out.phdr, 0x400040);
    CHECK(!out.movable);
}

TEST(elf_refuses_what_is_wrong)
{
    struct elf_plan out;
    uint8_t *bytes = module(ET_EXEC);
    Elf64_Ehdr *header = (Elf64_Ehdr *)(void *)(bytes + LWK_PAGE);
    Elf64_Phdr *segment = (Elf64_Phdr *)(void *)(header + 1);

#define REFUSED(change, text)                                                                      \
    (void)module(ET_EXEC);                                                                         \
    change;                                                                                        \
    CHECK(!plan(bytes, &out));                                                                     \
    CHECK_CONTAINS(reason, text)
    REFUSED(header->e_ident[0] = 0, "not an ELF file");
    REFUSED(memcpy(header, "#!/bin/sh\n", 10), "script");
    REFUSED(header->e_ident[EI_CLASS] = ELFCLASS32, "not for x86-64");
    REFUSED(header->e_machine = EM_AARCH64, "not for x86-64");
    REFUSED(header->e_type = ET_REL, "not an executable");
    REFUSED(header->e_phoff = UINT64_MAX - 7, "program headers");
    REFUSED(header->e_phnum = 60000, "program headers");
    REFUSED(header->e_entry = 0x603010, "entry point");
    REFUSED(segment[2].p_type = PT_INTERP, "dynamically linked");
    REFUSED(segment[1].p_filesz = 0x2000, "cut short");
    REFUSED(segment[1].p_offset = UINT64_MAX, "cut short");
    REFUSED(segment[0].p_filesz = 0x1001, "larger in the file");
    REFUSED(segment[1].p_vaddr = 0x400fff, "overlaps");
    REFUSED(segment[1].p_memsz = UINT64_MAX, "addresses");
    REFUSED(segment[1].p_vaddr = LWK_APP_HIGH - 1, "addresses");
    REFUSED(segment[1].p_vaddr = 1ull << 46, "far from the first");
    REFUSED(segment[0].p_vaddr = 0, "addresses");
    REFUSED(segment[1].p_flags = 7, "both writable and executable");
    REFUSED(segment[1].p_align = 3, "alignment");
    REFUSED(segment[0].p_type = segment[1].p_type = PT_NULL, "nothing to load");
}

/* No byte of a module makes the checks read outside of it, or loading do what it should not. */
TEST(launch_survives_anything)
{
    uint32_t rounds = sim_rounds(3000);

    for (uint32_t i = 0; i < rounds; i++) {
        uint8_t *from = module((sim_random() & 1) != 0 ? ET_EXEC : ET_DYN);
        struct loaded loaded = {0};
        for (uint32_t n = (uint32_t)(sim_random() % 6); n > 0; n--) {
            static const uint32_t places[] = {0, sizeof(struct yod_launch), LWK_PAGE,
                                              LWK_PAGE + sizeof(Elf64_Ehdr)};
            uint32_t at = places[sim_random() % 4] + (uint32_t)(sim_random() % 192);
            from[at] = (sim_random() & 1) != 0 ? (uint8_t)sim_random() : 0xff;
        }
        uint64_t length = sim_random() % 8 == 0 ? sim_random() % MODULE_BYTES : MODULE_BYTES;
        uint8_t *exact = aligned_alloc(LWK_PAGE, round_up(length + 1, LWK_PAGE));
        memcpy(exact, from, length);
        sim_start(8 * MIB, false);
        if (check(exact, length, &pct.launch)) {
            random_seed(pct.launch.header->seed);
            if (load_it(&loaded)) {
                CHECK_EQ(loaded.sp % 16, 0);
                CHECK(sim_memory(loaded.entry, PROT_EXEC) != NULL);
            } else {
                CHECK(strlen(reason) > 10);
            }
            CHECK(sim_consistent());
        }
        free(exact);
    }
}

static uint64_t word(uint64_t va)
{
    uint64_t value = 0;

    CHECK(user_read(&value, va, sizeof(value)));
    return value;
}

static void check_string(uint64_t va, const char *expected)
{
    char text[64];

    CHECK_EQ(user_string(text, va, sizeof(text)), strlen(expected));
    CHECK_CONTAINS(text, expected);
}

TEST(load_builds_a_process)
{
    struct loaded loaded = {0};
    uint64_t aux[64] = {0};

    sim_start(64 * MIB, false);
    CHECK(check(module(ET_EXEC), MODULE_BYTES, &pct.launch));
    CHECK(load_it(&loaded));
    CHECK_EQ(loaded.bias, 0);
    CHECK_EQ(loaded.entry, 0x400200);
    CHECK_EQ(*sim_memory(0x400200, PROT_READ | PROT_EXEC), 0x90);
    CHECK(sim_memory(0x400200, PROT_WRITE) == NULL);
    CHECK(sim_memory(0x401000, PROT_READ) == NULL);
    CHECK_EQ(*sim_memory(0x603fff, PROT_READ | PROT_WRITE), 0x77);
    CHECK_EQ(*sim_memory(0x604000, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(mm_brk(0), 0x606000);
    /* Physically as far apart as virtually, from a large page on. */
    const struct area *code = area_at(&mm.areas, 0x400000);
    CHECK_EQ(area_at(&mm.areas, 0x603000)->pa - code->pa, 0x203000);
    CHECK_EQ(code->pa, SIM_HEAP);

    CHECK_EQ(loaded.sp % 16, 0);
    uint64_t at = loaded.sp;
    CHECK_EQ(word(at), 2);
    check_string(word(at + 8), "app");
    check_string(word(at + 16), "-x");
    CHECK_EQ(word(at + 24), 0);
    check_string(word(at + 32), "HOME=/root");
    CHECK_EQ(word(at + 40), 0);
    for (at += 48; word(at) != AT_NULL; at += 16) {
        CHECK(word(at) < 64);
        aux[word(at) % 64] = word(at + 8);
    }
    CHECK_EQ(aux[AT_PHDR], 0x400040);
    CHECK_EQ(aux[AT_PHENT], 56);
    CHECK_EQ(aux[AT_PHNUM], 3);
    CHECK_EQ(aux[AT_PAGESZ], 4096);
    CHECK_EQ(aux[AT_ENTRY], 0x400200);
    CHECK_EQ(aux[AT_UID], 1000);
    CHECK(sim_memory(aux[AT_RANDOM] + 15, PROT_READ) != NULL);
    check_string(aux[AT_EXECFN], "/bin/app");
    check_string(aux[AT_PLATFORM], "x86_64");
    CHECK(aux[AT_MINSIGSTKSZ] >= 2048);
    const struct area *stack = area_at(&mm.areas, loaded.sp);
    CHECK(area_end(stack) <= 0x7fffffe00000 && area_end(stack) > 0x7fffffe00000 - 2 * MIB);
    CHECK_EQ(stack->bytes, 4 * MIB);
    CHECK_EQ((stack->pa ^ stack->va) % (2 * MIB), 0);
    CHECK(sim_memory(stack->va - 1, PROT_READ) == NULL);
    CHECK(sim_consistent());
}

TEST(load_moves_what_can_be_moved)
{
    struct loaded loaded = {0};

    sim_start(64 * MIB, false);
    CHECK(check(module(ET_DYN), MODULE_BYTES, &pct.launch));
    CHECK(load_it(&loaded));
    CHECK_EQ(loaded.bias, 0x555555400000);
    CHECK_EQ(loaded.entry, 0x555555400200);
    CHECK_EQ(mm_brk(0), 0x555555606000);
}

TEST(load_refuses_what_does_not_fit)
{
    struct loaded loaded = {0};
    uint8_t *bytes = module(ET_EXEC);

    sim_start(8 * MIB, false);
    CHECK(check(bytes, MODULE_BYTES, &pct.launch));
    ((Elf64_Phdr *)(void *)(bytes + LWK_PAGE + sizeof(Elf64_Ehdr)))[1].p_memsz = 16 * MIB;
    CHECK(!load_it(&loaded));
    CHECK_CONTAINS(reason, "executable does not fit");
    sim_start(8 * MIB, false);
    bytes = module(ET_EXEC);
    CHECK(check(bytes, MODULE_BYTES, &pct.launch));
    ((struct yod_launch *)(void *)bytes)->stack_bytes = UINT64_MAX - 100;
    CHECK(!load_it(&loaded));
    CHECK_CONTAINS(reason, "stack does not fit");
}
