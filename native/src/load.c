/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine boots: kept as a recipe, applied at load and again after every reset. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acpi.h"
#include "layout.h"
#include "machine.h"
#include "reset_stub.h"

/* Files and buffers alike become private read-only mappings of our own. */
static int32_t map_file(const struct vh_files *files, const char *path, const char *what,
                        struct vh_blob *blob, struct vmmhpc_error *err)
{
    int fd = vh_open(files, path, O_RDONLY);
    if (fd < 0) {
        int failed = errno;
        return vh_fail(err, failed == EACCES ? VMMHPC_E_PERMISSION : VMMHPC_E_IO, failed, 0,
                       "cannot open %s %.150s: %s", what, path, vh_errno_text(failed));
    }
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return vh_fail(err, VMMHPC_E_IO, 0, 0, "%s %.150s is not a regular file", what, path);
    }
    if (info.st_size == 0) {
        (void)close(fd);
        return vh_fail(err, VMMHPC_E_TRUNCATED, 0, 0, "%s %.150s is empty", what, path);
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    int failed = errno;
    (void)close(fd);
    if (data == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_IO, failed, (uint64_t)info.st_size, "cannot map %s %.150s",
                       what, path);
    }
    blob->data = data;
    blob->bytes = (uint64_t)info.st_size;
    return VMMHPC_OK;
}

static int32_t copy_buffer(const void *data, uint64_t bytes, const char *what, struct vh_blob *blob,
                           struct vmmhpc_error *err)
{
    if (data == NULL || bytes == 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, bytes, "the %s is empty", what);
    }
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, bytes, "no memory for the %s", what);
    }
    memcpy(copy, data, bytes);
    (void)mprotect(copy, bytes, PROT_READ);
    blob->data = copy;
    blob->bytes = bytes;
    return VMMHPC_OK;
}

static void unmap(struct vh_blob *blob)
{
    if (blob->data != NULL) {
        (void)munmap((void *)(uintptr_t)blob->data, blob->bytes);
    }
    blob->data = NULL;
    blob->bytes = 0;
}

void vh_recipe_free(struct vh_recipe *recipe)
{
    unmap(&recipe->kernel);
    unmap(&recipe->initrd);
    free(recipe->cmdline);
    memset(recipe, 0, sizeof(*recipe));
}

static int32_t gather(const struct vh_files *files, struct vh_recipe *recipe,
                      const struct vmmhpc_boot *boot, struct vmmhpc_error *err)
{
    recipe->kind = boot->kind;
    recipe->load_address = boot->load_address;
    recipe->kernel_is_file = boot->kernel_path != NULL;
    recipe->initrd_is_file = boot->initrd_path != NULL;
    recipe->cmdline = strdup(boot->cmdline == NULL ? "" : boot->cmdline);
    if (recipe->cmdline == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, 0, "no memory for the command line");
    }
    int32_t status =
        boot->kernel_path != NULL
            ? map_file(files, boot->kernel_path, "kernel", &recipe->kernel, err)
            : copy_buffer(boot->kernel, boot->kernel_bytes, "kernel", &recipe->kernel, err);
    if (status != VMMHPC_OK || (boot->initrd_path == NULL && boot->initrd_bytes == 0)) {
        return status;
    }
    return boot->initrd_path != NULL
               ? map_file(files, boot->initrd_path, "initrd", &recipe->initrd, err)
               : copy_buffer(boot->initrd, boot->initrd_bytes, "initrd", &recipe->initrd, err);
}

/* The loaders have read every page of the files into this process. They stay in the page cache, but
 * need not count as ours until a reset wants them again. */
static void release_files(const struct vh_recipe *recipe)
{
    if (recipe->kernel_is_file) {
        (void)madvise((void *)(uintptr_t)recipe->kernel.data, recipe->kernel.bytes, MADV_DONTNEED);
    }
    if (recipe->initrd_is_file) {
        (void)madvise((void *)(uintptr_t)recipe->initrd.data, recipe->initrd.bytes, MADV_DONTNEED);
    }
}

static int32_t write_platform(struct vmmhpc *vm, uint64_t *rsdp, struct vmmhpc_error *err)
{
    *rsdp = 0;
    if ((vm->flags & VMMHPC_FLAG_BARE) != 0) {
        return VMMHPC_OK;
    }
    const struct vh_acpi_config acpi = {
        .cpus = vm->cpus,
        .apic_ids = vm->apic_ids,
        .uart = (vm->flags & VMMHPC_FLAG_NO_UART) == 0,
        .power_button = (vm->flags & VMMHPC_FLAG_POWER_BUTTON) != 0,
        .pci = vm->pci.window_bytes != 0,
        .pci_window_gpa = vm->pci.window_gpa,
        .pci_window_bytes = vm->pci.window_bytes,
        .generation_gpa = vm->has_generation_id ? VH_GENERATION_GPA : 0,
        .further = vm->acpi_tables,
        .further_count = vm->acpi_table_count,
        .machine = vm,
    };
    int32_t status = vh_acpi_build(&vm->memory, &acpi, rsdp, err);
    if (status == VMMHPC_OK && vm->has_generation_id) {
        status = vh_generation_write(vm, err);
    }
    if (status != VMMHPC_OK) {
        return status;
    }
    return vh_memory_write(&vm->memory, VH_RESET_STUB_GPA, vh_reset_stub, sizeof(vh_reset_stub),
                           "reset stub", err);
}

int32_t vh_recipe_apply(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    uint64_t rsdp = 0;
    int32_t status = write_platform(vm, &rsdp, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    const struct vh_recipe *recipe = &vm->recipe;
    struct vh_boot_source source = {
        .kind = recipe->kind,
        .kernel = recipe->kernel,
        .initrd = recipe->initrd,
        .cmdline = recipe->cmdline,
        .load_address = recipe->load_address,
        .rsdp = rsdp,
    };
    status = vh_boot_load(&vm->memory, &source, &vm->recipe.entry, err);
    release_files(recipe);
    if (status != VMMHPC_OK) {
        return status;
    }
    return vh_vcpu_set_entry(&vm->vcpus[0], &recipe->entry, err);
}

int32_t vmmhpc_load(struct vmmhpc *vm, const struct vmmhpc_boot *boot, struct vmmhpc_error *err)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->load(vm, boot, err);
    }
    uint32_t state = atomic_load(&vm->state);
    if (state != VMMHPC_STATE_CREATED || vm->has_io_thread ||
        (vm->restored && vm->recipe.present)) {
        return vh_fail(err, VMMHPC_E_STATE, 0, state, "a guest is loaded before the start");
    }
    if (boot == NULL || boot->size != sizeof(*boot)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the boot structure has another version");
    }
    if (vm->recipe.present) { /* a second load replaces the first, wholly */
        vh_recipe_free(&vm->recipe);
        int32_t status = vh_memory_clear(&vm->memory, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    int32_t status = gather(vm->files, &vm->recipe, boot, err);
    if (status == VMMHPC_OK && !vm->restored) { /* else it is for the next reset */
        status = vh_recipe_apply(vm, err);
    }
    if (status != VMMHPC_OK) {
        vh_recipe_free(&vm->recipe);
        if (!vm->restored) {
            (void)vh_memory_clear(&vm->memory, NULL); /* another try must not find parts of it */
        }
        return status;
    }
    vm->recipe.present = true;
    return VMMHPC_OK;
}

uint32_t vmmhpc_image_kind(const struct vmmhpc *vm)
{
    if (vm->remote != NULL) {
        return vm->remote->ops->image_kind(vm);
    }
    return vm->recipe.present ? vm->recipe.entry.kind : 0;
}
