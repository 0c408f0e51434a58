/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM objects of a machine: VM, memory slots, irqchip, vCPUs. A reset tears them down and
 * builds them again, which leaves no state of the old life behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_cpuid.h"
#include "kvm_irq.h"
#include "layout.h"
#include "machine.h"

#define MSR_MISC_ENABLE 0x1a0u
#define MSR_MTRR_DEF_TYPE 0x2ffu

int32_t vh_kvm_open(const struct vh_files *files, const char *path, int *fd,
                    struct vmmhpc_error *err)
{
    static const struct {
        int capability;
        const char *name;
    } required[] = {
        {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},       {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
        {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},           {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
        {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    };
    if (path == NULL) {
        path = "/dev/kvm";
    }
    int kvm = vh_open(files, path, O_RDWR);
    if (kvm < 0) {
        int failed = errno;
        if (failed == EACCES || failed == EPERM) {
            return vh_fail(err, VMMHPC_E_PERMISSION, failed, 0,
                           "no permission to open %s for reading and writing", path);
        }
        return vh_fail(err, VMMHPC_E_NO_KVM, failed, 0, "cannot open %s: %s", path,
                       vh_errno_text(failed));
    }
    int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        int failed = version < 0 ? errno : 0;
        (void)close(kvm);
        return vh_fail(err, version < 0 ? VMMHPC_E_NO_KVM : VMMHPC_E_UNSUPPORTED, failed,
                       (uint64_t)(int64_t)version, "%s is not a KVM device of API version %d", path,
                       KVM_API_VERSION);
    }
    for (size_t i = 0; i < VH_COUNT(required); i++) {
        if (ioctl(kvm, KVM_CHECK_EXTENSION, required[i].capability) <= 0) {
            (void)close(kvm);
            return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, (uint64_t)required[i].capability,
                           "this host's KVM lacks %s", required[i].name);
        }
    }
    *fd = kvm;
    return VMMHPC_OK;
}

static bool has(const struct vmmhpc *vm, int capability)
{
    return ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, capability) > 0;
}

static int32_t failed_ioctl(struct vmmhpc_error *err, const char *what)
{
    int failed = errno;
    return vh_fail(err, failed == ENOMEM ? VMMHPC_E_NO_MEMORY : VMMHPC_E_SYSCALL, failed, 0,
                   "%s failed: %s", what, vh_errno_text(failed));
}

static int32_t set_memory(const struct vmmhpc *vm, uint32_t slot,
                          const struct vh_extra_memory *memory, struct vmmhpc_error *err)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = memory->read_only ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = memory->gpa,
        .memory_size = memory->bytes,
        .userspace_addr = (uint64_t)(uintptr_t)memory->host,
    };
    if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        int failed = errno;
        return vh_fail(err, VMMHPC_E_NO_MEMORY, failed, memory->bytes,
                       "KVM does not take %llu MiB of memory at 0x%llx: %s",
                       (unsigned long long)(memory->bytes >> 20), (unsigned long long)memory->gpa,
                       vh_errno_text(failed));
    }
    return VMMHPC_OK;
}

static int32_t set_all_memory(const struct vmmhpc *vm, struct vmmhpc_error *err)
{
    int32_t status = VMMHPC_OK;
    uint32_t count = vm->memory.slot_count;
    for (uint32_t i = 0; status == VMMHPC_OK && i < count; i++) {
        const struct vmmhpc_slot *slot = &vm->memory.slots[i];
        const struct vh_extra_memory ram = {
            .gpa = slot->gpa, .bytes = slot->bytes, .host = (void *)(uintptr_t)slot->host};
        status = set_memory(vm, i, &ram, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->extra_memory_count; i++) {
        status = set_memory(vm, count + i, &vm->extra_memory[i], err);
    }
    return status;
}

int32_t vh_kvm_add_memory(struct vmmhpc *vm, uint64_t *gpa, uint64_t bytes, void *host,
                          bool read_only, struct vmmhpc_error *err)
{
    int32_t status = vh_pci_open(vm, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    /* As much again as the window of BARs, right behind it. */
    uint64_t start = vm->pci.window_gpa + vm->pci.window_bytes;
    uint64_t end = start + vm->pci.window_bytes;
    uint32_t count = vm->extra_memory_count;
    if (count > 0) {
        start = vm->extra_memory[count - 1].gpa + vm->extra_memory[count - 1].bytes;
    }
    if (count == VH_EXTRA_MEMORY_MAX || !vh_align_up(start, 2 * VH_MIB, &start) || start >= end ||
        bytes > end - start) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, bytes,
                       "no room in the guest's addresses for %llu MiB of memory",
                       (unsigned long long)(bytes >> 20));
    }
    struct vh_extra_memory *memory = &vm->extra_memory[count];
    *memory = (struct vh_extra_memory){start, bytes, host, read_only};
    (void)pthread_mutex_lock(&vm->kvm_lock);
    status = set_memory(vm, vm->memory.slot_count + count, memory, err);
    (void)pthread_mutex_unlock(&vm->kvm_lock);
    if (status == VMMHPC_OK) {
        vm->extra_memory_count++;
        *gpa = start;
    }
    return status;
}

static int32_t build_vm(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    do {
        vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
    } while (vm->vm_fd < 0 && errno == EINTR);
    if (vm->vm_fd < 0) {
        return failed_ioctl(err, "KVM_CREATE_VM");
    }
    uint64_t identity = VH_IDENTITY_MAP_GPA;
    if (has(vm, KVM_CAP_SET_IDENTITY_MAP_ADDR) &&
        ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) != 0) {
        return failed_ioctl(err, "KVM_SET_IDENTITY_MAP_ADDR");
    }
    if (has(vm, KVM_CAP_SET_TSS_ADDR) && ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, VH_TSS_GPA) != 0) {
        return failed_ioctl(err, "KVM_SET_TSS_ADDR");
    }
    /* APIC ids beyond 8 bits; without it such machines are refused below. */
    if (vm->apic_ids[vm->cpus - 1] > 0xfe) {
        struct kvm_enable_cap cap = {
            .cap = KVM_CAP_X2APIC_API,
            .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
        };
        if (ioctl(vm->vm_fd, KVM_ENABLE_CAP, &cap) != 0) {
            return vh_fail(err, VMMHPC_E_LIMIT, errno, vm->cpus,
                           "%u vCPUs need x2APIC ids, which this host's KVM lacks", vm->cpus);
        }
    }
    if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0) != 0) {
        return failed_ioctl(err, "KVM_CREATE_IRQCHIP");
    }
    int32_t status = vh_irq_reset_routes(vm, err);
    if (status == VMMHPC_OK && vm->placing != NULL) {
        status = vm->placing->vm_made(vm, err);
    }
    return status == VMMHPC_OK ? set_all_memory(vm, err) : status;
}

/* What firmware would have set up: caching on with write-back as the default type. */
static int32_t set_firmware_msrs(struct vh_vcpu *vcpu, struct vmmhpc_error *err)
{
    struct {
        struct kvm_msrs header;
        struct kvm_msr_entry entries[2];
    } msrs = {
        .header = {.nmsrs = 2},
        .entries =
            {
                {.index = MSR_MTRR_DEF_TYPE, .data = 0xc06}, /* MTRRs on, fixed on, write-back */
                {.index = MSR_MISC_ENABLE, .data = 1},       /* fast strings */
            },
    };
    /* The count of MSRs set is returned; hosts that refuse one of these lose nothing vital. */
    if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) < 0) {
        return failed_ioctl(err, "KVM_SET_MSRS");
    }
    return VMMHPC_OK;
}

static int32_t build_vcpu(struct vmmhpc *vm, struct vh_vcpu *vcpu,
                          const struct kvm_cpuid2 *supported, struct vmmhpc_error *err)
{
    /* For KVM a vCPU's id is its APIC id. */
    vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->apic_id);
    if (vcpu->fd < 0) {
        int failed = errno;
        return vh_fail(err, failed == EINVAL ? VMMHPC_E_LIMIT : VMMHPC_E_SYSCALL, failed,
                       vcpu->index, "KVM does not create vCPU %u (APIC id %u): %s", vcpu->index,
                       vcpu->apic_id, vh_errno_text(failed));
    }
    /* Now or never: later the ioctl would wait for a KVM_RUN to end. Fails before Linux 5.14. */
    vcpu->stats_fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, 0);
    vcpu->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        vcpu->run = NULL;
        return failed_ioctl(err, "mapping kvm_run");
    }
    uint32_t capacity = supported->nent + VH_CPUID_EXTRA;
    size_t bytes = sizeof(*supported) + capacity * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *cpuid = calloc(1, bytes);
    if (cpuid == NULL) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, bytes, "no memory for CPUID");
    }
    memcpy(cpuid, supported,
           sizeof(*supported) + supported->nent * sizeof(struct kvm_cpuid_entry2));
    struct vh_cpuid_options options = {
        .topology = {vm->cpus, vm->cores_per_socket, vm->threads_per_core},
        .hide_xsave = vm->hide_xsave,
        .tsc_deadline = has(vm, KVM_CAP_TSC_DEADLINE_TIMER),
    };
    vh_cpuid_adapt(cpuid, capacity, &options, vcpu->apic_id);
    if (vm->placing != NULL) {
        vm->placing->cpuid(vcpu, cpuid, capacity);
    }
    int set = ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
    int failed = errno;
    free(cpuid);
    if (set != 0) {
        errno = failed;
        return failed_ioctl(err, "KVM_SET_CPUID2");
    }
    return set_firmware_msrs(vcpu, err);
}

int32_t vh_kvm_build(struct vmmhpc *vm, struct vmmhpc_error *err)
{
    struct kvm_cpuid2 *supported = NULL;
    int32_t status = vh_cpuid_supported(vm->kvm_fd, &supported, err);
    if (status == VMMHPC_OK) {
        status = build_vm(vm, err);
    }
    for (uint32_t i = 0; status == VMMHPC_OK && i < vm->cpus; i++) {
        status = build_vcpu(vm, &vm->vcpus[i], supported, err);
    }
    free(supported);
    if (status != VMMHPC_OK) {
        vh_kvm_teardown(vm);
    }
    return status;
}

void vh_kvm_teardown(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        struct vh_vcpu *vcpu = &vm->vcpus[i];
        if (vcpu->run != NULL) {
            (void)munmap(vcpu->run, vm->run_bytes);
            vcpu->run = NULL;
        }
        if (vcpu->stats_fd >= 0) {
            (void)close(vcpu->stats_fd);
            vcpu->stats_fd = -1;
        }
        if (vcpu->fd >= 0) {
            (void)close(vcpu->fd);
            vcpu->fd = -1;
        }
    }
    if (vm->vm_fd >= 0) {
        (void)close(vm->vm_fd);
        vm->vm_fd = -1;
    }
}
