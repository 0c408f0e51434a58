/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi-dump DIRECTORY CPUS [--no-uart] [--pci] [--generation-id] [--power-button] [--spread N]
 *     [--nodes N]
 * Writes the ACPI tables of a machine to DIRECTORY, one file each (RSDP.dat, XSDT.dat, FACP.dat,
 * APIC.dat, DSDT.dat, with --pci MCFG.dat, with --nodes SRAT.dat and SLIT.dat), for iasl. --spread
 * N makes the APIC ids multiples of N; vCPUs take turns in the NUMA nodes, RAM is in the last one.
 * Needs no KVM.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acpi.h"
#include "layout.h"
#include "place/place.h"

#define CPUS_MAX 65536ul
#define NODES_MAX VMMHPC_NODES_MAX
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

/* The machine that tables of NUMA nodes are about; its RAM and APIC ids are the caller's. */
struct numa {
    struct vmmhpc vm;
    struct vh_place place;
    uint32_t memory_node;
    uint8_t distances[NODES_MAX * NODES_MAX];
    uint32_t vcpu_nodes[];
};

static struct numa *new_numa(uint32_t cpus, uint32_t nodes)
{
    struct numa *numa = calloc(1, sizeof(*numa) + cpus * sizeof(uint32_t));
    if (numa == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < cpus; i++) {
        numa->vcpu_nodes[i] = i % nodes;
    }
    for (uint32_t i = 0; i < nodes * nodes; i++) {
        numa->distances[i] =
            i / nodes == i % nodes ? VMMHPC_DISTANCE_LOCAL : VMMHPC_DISTANCE_REMOTE;
    }
    numa->memory_node = nodes - 1;
    numa->vm.cpus = cpus;
    numa->vm.placing = &numa->place.base;
    numa->place.nodes = nodes;
    numa->place.vcpu_nodes = numa->vcpu_nodes;
    numa->place.memory_nodes = &numa->memory_node;
    numa->place.distances = numa->distances;
    return numa;
}

int main(int argc, char **argv)
{
    struct vh_acpi_config config = {.uart = true};
    unsigned long spread = 1;
    unsigned long nodes = 0;
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
        } else if (strcmp(argv[i], "--nodes") == 0 && i + 1 < argc) {
            nodes = strtoul(argv[++i], NULL, 10);
        } else {
            return fail(argv[i], "unknown option");
        }
    }
    const unsigned long cpus = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (cpus == 0 || cpus > CPUS_MAX || spread == 0 || spread > SPREAD_MAX || nodes > NODES_MAX) {
        return fail("usage", "acpi-dump DIRECTORY CPUS [--no-uart] [--pci] [--generation-id] "
                             "[--power-button] [--spread N] [--nodes N]");
    }
    config.cpus = (uint32_t)cpus;
    uint32_t *apic_ids = calloc(cpus, sizeof(*apic_ids));
    struct numa *numa = nodes == 0 ? NULL : new_numa((uint32_t)cpus, (uint32_t)nodes);
    if (apic_ids == NULL || (numa == NULL && nodes != 0)) {
        free(apic_ids);
        free(numa);
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
        if (numa != NULL) {
            numa->vm.memory = memory;
            numa->vm.apic_ids = apic_ids;
            config.machine = &numa->vm;
            config.further = vh_place_tables;
            config.further_count = VH_PLACE_TABLES;
        }
        if (vh_acpi_build(&memory, &config, &rsdp, &err) != VMMHPC_OK) {
            (void)fail(vmmhpc_status_name(err.code), err.text);
        } else {
            result = dump(&memory, argv[1], rsdp);
        }
        vh_memory_destroy(&memory);
    }
    free(numa);
    free(apic_ids);
    return result;
}
