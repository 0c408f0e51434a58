/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi-dump DIRECTORY CPUS [--no-uart] [--pci] [--generation-id] [--power-button] [--spread N]
 * Writes the ACPI tables of a machine to DIRECTORY, one file each (RSDP.dat, XSDT.dat, FACP.dat,
 * APIC.dat, DSDT.dat, with --pci MCFG.dat), for iasl. --spread N makes the APIC ids multiples of N.
 * Needs no KVM.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acpi.h"
#include "layout.h"

#define CPUS_MAX 65536ul
#define SPREAD_MAX 65536ul

static int fail(const char *what, const char *detail)
{
    (void)fprintf(stderr, "acpi-dump: %s: %s\n", what, detail);
    return 1;
}

static uint64_t load(const uint8_t *data, uint32_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, data, bytes);
    return value;
}

static int save(const char *directory, const char *name, const uint8_t *data, uint64_t bytes)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/%.4s.dat", directory, name) >= (int)sizeof(path)) {
        return fail(directory, "path too long");
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return fail(path, "cannot be created");
    }
    const size_t written = fwrite(data, 1, bytes, file);
    if (fclose(file) != 0 || written != bytes) {
        return fail(path, "cannot be written");
    }
    return 0;
}

/* A table through the gate, its length from its own header. */
static int save_table(const struct vh_memory *memory, const char *directory, uint64_t gpa)
{
    const uint8_t *header = vh_memory_at(memory, gpa, 36);
    const uint64_t bytes = header == NULL ? 0 : load(header + 4, 4);
    if (bytes == 0 || vh_memory_at(memory, gpa, bytes) == NULL) {
        return fail(directory, "a table lies outside RAM");
    }
    return save(directory, (const char *)header, header, bytes);
}

static int dump(const struct vh_memory *memory, const char *directory, uint64_t rsdp_gpa)
{
    const uint8_t *rsdp = vh_memory_at(memory, rsdp_gpa, 36);
    if (rsdp == NULL || save(directory, "RSDP", rsdp, 36) != 0) {
        return 1;
    }
    const uint64_t xsdt_gpa = load(rsdp + 24, 8);
    if (save_table(memory, directory, xsdt_gpa) != 0) {
        return 1;
    }
    const uint8_t *xsdt = vh_memory_at(memory, xsdt_gpa, 36);
    const uint64_t bytes = xsdt == NULL ? 0 : load(xsdt + 4, 4);
    for (uint64_t at = 36; at + 8 <= bytes; at += 8) {
        const uint64_t gpa = load(xsdt + at, 8);
        const uint8_t *table = vh_memory_at(memory, gpa, 148);
        if (save_table(memory, directory, gpa) != 0) {
            return 1;
        }
        if (table != NULL && memcmp(table, "FACP", 4) == 0 &&
            save_table(memory, directory, load(table + 140, 8)) != 0) { /* X_DSDT */
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct vh_acpi_config config = {.uart = true};
    unsigned long spread = 1;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--no-uart") == 0) {
            config.uart = false;
        } else if (strcmp(argv[i], "--pci") == 0) {
            config.pci = true;
            config.pci_window_gpa = 4 * VH_GIB;
            config.pci_window_bytes = 32 * VH_GIB;
        } else if (strcmp(argv[i], "--power-button") == 0) {
            config.power_button = true;
        } else if (strcmp(argv[i], "--generation-id") == 0) {
            config.generation_gpa = VH_GENERATION_GPA;
        } else if (strcmp(argv[i], "--spread") == 0 && i + 1 < argc) {
            spread = strtoul(argv[++i], NULL, 10);
        } else {
            return fail(argv[i], "unknown option");
        }
    }
    const unsigned long cpus = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (cpus == 0 || cpus > CPUS_MAX || spread == 0 || spread > SPREAD_MAX) {
        return fail("usage", "acpi-dump DIRECTORY CPUS [--no-uart] [--pci] [--generation-id] "
                             "[--power-button] [--spread N]");
    }
    config.cpus = (uint32_t)cpus;
    uint32_t *apic_ids = calloc(cpus, sizeof(*apic_ids));
    if (apic_ids == NULL) {
        return fail(argv[2], "no memory");
    }
    for (uint32_t i = 0; i < cpus; i++) {
        apic_ids[i] = (uint32_t)(i * spread);
    }
    config.apic_ids = apic_ids;

    const struct vmmhpc_memory ram = {.size = sizeof(ram), .bytes = 2 * VH_MIB, .numa_node = -1};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_memory memory = {0};
    uint64_t rsdp = 0;
    int result = 1;
    if (vh_memory_create(&memory, &ram, 1, &err) != VMMHPC_OK) {
        (void)fail("memory", err.text);
    } else {
        if (vh_acpi_build(&memory, &config, &rsdp, &err) != VMMHPC_OK) {
            (void)fail(vmmhpc_status_name(err.code), err.text);
        } else {
            result = dump(&memory, argv[1], rsdp);
        }
        vh_memory_destroy(&memory);
    }
    free(apic_ids);
    return result;
}
