/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about the host that decide what a guest can be offered. */
#include "host.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "machine.h"

static void hypervisor_signature(char signature[13])
{
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    memset(signature, 0, 13);
    __cpuid(1, a, b, c, d);
    if ((c & 1u << 31) == 0) {
        return;
    }
    __cpuid(0x40000000, a, b, c, d);
    memcpy(signature, &b, 4);
    memcpy(signature + 4, &c, 4);
    memcpy(signature + 8, &d, 4);
}

static bool is_tcg(void)
{
    char signature[13];
    hypervisor_signature(signature);
    return strcmp(signature, "TCGTCGTCGTCG") == 0;
}

bool vh_xsave_is_broken(void)
{
    return is_tcg();
}

uint64_t vh_measure_tsc_khz(void)
{
    uint64_t start_ns = vh_now_ns();
    uint64_t start = __rdtsc();
    uint64_t ns = 0;
    do {
        ns = vh_now_ns() - start_ns;
    } while (ns < 2000000);
    uint64_t khz = (__rdtsc() - start) * 1000000 / ns;
    return khz == 0 ? 1 : khz;
}

static uint32_t check(int kvm, int capability)
{
    int value = ioctl(kvm, KVM_CHECK_EXTENSION, capability);
    return value > 0 ? (uint32_t)value : 0;
}

/* The frequency belongs to a vCPU, so a throw-away one tells. */
static uint64_t vcpu_tsc_khz(int kvm)
{
    uint64_t khz = 0;
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) {
        return 0;
    }
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu >= 0) {
        int result = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
        khz = result > 0 ? (uint64_t)result : 0;
        (void)close(vcpu);
    }
    (void)close(vm);
    return khz;
}

int32_t vmmhpc_host_info(const char *kvm_path, struct vmmhpc_host *host, struct vmmhpc_error *err)
{
    if (host == NULL || host->size != sizeof(*host)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "the host structure has another version");
    }
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t c = 0;
    uint32_t d = 0;
    memset(host, 0, sizeof(*host));
    host->size = sizeof(*host);
    __cpuid(0, a, b, c, d);
    memcpy(host->vendor, &b, 4);
    memcpy(host->vendor + 4, &d, 4);
    memcpy(host->vendor + 8, &c, 4);
    __cpuid(1, a, b, c, d);
    host->has_vmx = c >> 5 & 1;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0) {
        host->has_svm = c >> 2 & 1;
    }
    char signature[13];
    hypervisor_signature(signature);
    memcpy(host->hypervisor, signature, sizeof(signature));
    host->tcg = is_tcg() ? 1 : 0;
    host->xsave_broken = vh_xsave_is_broken() ? 1 : 0;

    int kvm = -1;
    host->kvm_status = vh_kvm_open(NULL, kvm_path, &kvm, err);
    if (host->kvm_status != VMMHPC_OK) {
        return VMMHPC_OK; /* that is an answer, and err says more */
    }
    host->api_version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    host->max_vcpus = check(kvm, KVM_CAP_MAX_VCPUS);
    host->recommended_vcpus = check(kvm, KVM_CAP_NR_VCPUS);
    host->max_slots = check(kvm, KVM_CAP_NR_MEMSLOTS);
    host->tsc_khz = vcpu_tsc_khz(kvm);
    (void)close(kvm);
    return VMMHPC_OK;
}
