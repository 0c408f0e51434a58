/* SPDX-License-Identifier: Apache-2.0 */
/* Adaptation modules in a machine without KVM: this test plays its vCPU and its I/O thread. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "machine_rig.h"
#include "tap.h"

#define PORT 0x510u
#define NUMBER 0x123u

static struct vmmhpc_error err = {.size = sizeof(err)};

/* vCPU 0 is in a handler, so to speak, as long as it is `active`. */
static struct vmmhpc *machine(void)
{
    struct vmmhpc *vm = machine_rig_new(2);
    vm->cpus = 1;
    vm->vcpus = calloc(1, sizeof(*vm->vcpus));
    vm->vcpus[0].vm = vm;
    vm->vcpus[0].fd = -1;
    vm->vcpus[0].run = calloc(2, 4096);
    vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return vm;
}

static void discard(struct vmmhpc *vm)
{
    struct vh_vcpu *vcpus = vm->vcpus;
    int fd = vm->wake_fd;

    vcpus[0].active = false;
    free(vcpus[0].run);
    machine_rig_free(vm);
    free(vcpus);
    close(fd);
}

/* A module that does what it is told to, and says what was done to it. */
struct probe {
    int32_t init_status;
    int32_t status; /* of all callbacks */
    bool fail_in_init;
    bool clash; /* claim the same port twice */
    uint32_t inits, finis, resets, calls;
    uint64_t value;
    struct vmmhpc_module_exit exit;
    const struct vmmhpc_module_host *host;
    uint32_t device_part;
    char args[32];
};

static struct probe probe;

static int32_t probe_device(void *opaque, struct vmmhpc_module_access *access)
{
    struct probe *self = opaque;

    self->calls++;
    if (access->direction == VMMHPC_ACCESS_READ) {
        CHECK_EQ(access->value, UINT64_MAX);
        access->value = self->value + access->offset;
    } else {
        self->value = access->value;
    }
    return self->status;
}

static int32_t probe_call(void *opaque, struct vmmhpc_module_call *call)
{
    struct probe *self = opaque;

    self->calls++;
    call->result = call->args[0] * 2 + call->args[5];
    return self->status;
}

static int32_t probe_hook(void *opaque, struct vmmhpc_module_exit *exit)
{
    struct probe *self = opaque;

    self->calls++;
    self->exit = *exit;
    exit->value = self->value;
    return self->status;
}

static int32_t probe_init(const struct vmmhpc_module_host *host, const char *args, void **opaque)
{
    probe.inits++;
    probe.host = host;
    (void)snprintf(probe.args, sizeof(probe.args), "%s", args);
    *opaque = &probe;
    CHECK_EQ(host->add_device(host->context, VMMHPC_SPACE_PIO, PORT, 8, probe_device, &probe,
                              &probe.device_part),
             VMMHPC_OK);
    CHECK_EQ(host->add_hypercall(host->context, NUMBER, probe_call, &probe, NULL), VMMHPC_OK);
    CHECK_EQ(host->add_exit_hook(host->context, 0, probe_hook, &probe, NULL), VMMHPC_OK);
    if (probe.clash) {
        return host->add_device(host->context, VMMHPC_SPACE_PIO, PORT + 4, 8, probe_device, &probe,
                                NULL);
    }
    if (probe.fail_in_init) {
        host->fail(host->context, "changed its mind");
    }
    return probe.init_status;
}

static void probe_fini(void *opaque)
{
    CHECK(opaque == &probe);
    probe.finis++;
}

static void probe_reset(void *opaque)
{
    CHECK(opaque == &probe);
    probe.resets++;
}

static const struct vmmhpc_module good = {
    .magic = VMMHPC_MODULE_MAGIC,
    .size = sizeof(struct vmmhpc_module),
    .abi_major = VMMHPC_MODULE_ABI_MAJOR,
    .abi_minor = VMMHPC_MODULE_ABI_MINOR,
    .name = "probe",
    .version = "3",
    .init = probe_init,
    .fini = probe_fini,
    .reset = probe_reset,
};

static uint32_t attach(struct vmmhpc *vm)
{
    uint32_t id = 0;

    CHECK_OK(vmmhpc_module_attach(vm, &good, NULL, &id, &err), &err);
    return id;
}

static struct vmmhpc_module_info info_of(struct vmmhpc *vm, uint32_t id)
{
    struct vmmhpc_module_info all[VMMHPC_MODULE_MAX];
    uint32_t count = 0;

    CHECK_OK(vmmhpc_module_list(vm, all, VMMHPC_MODULE_MAX, &count, &err), &err);
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].id == id) {
            return all[i];
        }
    }
    return (struct vmmhpc_module_info){.state = UINT32_MAX};
}

static uint64_t access_port(struct vmmhpc *vm, uint64_t port, uint32_t direction, uint64_t value)
{
    uint64_t result = 0;
    const struct vh_access access = {
        .bytes = 4, .direction = direction, .address = port, .value = value};

    (void)vh_dispatch(atomic_load(&vm->tables[VMMHPC_SPACE_PIO]), &access, &result);
    return result;
}

static uint64_t read_port(struct vmmhpc *vm, uint64_t port)
{
    return access_port(vm, port, VMMHPC_ACCESS_READ, 0);
}

static bool hook_for_port(struct vmmhpc *vm, uint16_t port, uint8_t direction, uint32_t value)
{
    struct kvm_run *run = vm->vcpus[0].run;

    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = direction;
    run->io.port = port;
    run->io.size = 4;
    run->io.count = 1;
    run->io.data_offset = 4096;
    memcpy((uint8_t *)run + 4096, &value, sizeof(value));
    return vh_exit_hooks(&vm->vcpus[0]);
}

static uint32_t port_data(struct vmmhpc *vm)
{
    uint32_t value = 0;

    memcpy(&value, (uint8_t *)vm->vcpus[0].run + 4096, sizeof(value));
    return value;
}

static void fresh(void)
{
    memset(&probe, 0, sizeof(probe));
    err = (struct vmmhpc_error){.size = sizeof(err)};
}

TEST(modules_refuse_what_is_none)
{
    struct vmmhpc *vm = machine();
    uint32_t id = 77;
    struct vmmhpc_module bad = good;

    fresh();
    CHECK_ERROR(vmmhpc_module_attach(vm, NULL, "", &id, &err), &err, VMMHPC_E_BAD_IMAGE, "not the");
    bad.magic ^= 1;
    CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_BAD_IMAGE, "not the");
    bad = good;
    bad.abi_major++;
    CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_UNSUPPORTED,
                "made for interface 2.0, this library has 1.0");
    bad.abi_major = 0;
    CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_UNSUPPORTED, "0.0");
    bad = good;
    bad.abi_minor++;
    CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_UNSUPPORTED, "1.1");
    CHECK_EQ(probe.inits, 0);
    CHECK_EQ(id, 77);
    CHECK(vm->modules.list == NULL);
    discard(vm);
}

TEST(modules_refuse_damaged_descriptors)
{
    struct vmmhpc *vm = machine();
    uint32_t id = 77;
    const uint32_t sizes[] = {0, 8, offsetof(struct vmmhpc_module, reset) - 1,
                              sizeof(struct vmmhpc_module) + 1, UINT32_MAX};

    fresh();
    for (size_t i = 0; i < VH_COUNT(sizes); i++) {
        struct vmmhpc_module bad = good;
        bad.size = sizes[i];
        CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_BAD_IMAGE,
                    "damaged");
    }
    for (int i = 0; i < 6; i++) {
        struct vmmhpc_module bad = good;
        switch (i) {
        case 0:
            bad.name[0] = '\0';
            break;
        case 1:
            memset(bad.name, 'x', sizeof(bad.name));
            break;
        case 2:
            bad.name[2] = '\n';
            break;
        case 3:
            memset(bad.version, 'x', sizeof(bad.version));
            break;
        case 4:
            bad.init = NULL;
            break;
        default:
            bad.fini = NULL;
            break;
        }
        CHECK_ERROR(vmmhpc_module_attach(vm, &bad, "", &id, &err), &err, VMMHPC_E_BAD_IMAGE,
                    "damaged");
    }
    CHECK_EQ(probe.inits, 0);
    discard(vm);
}

TEST(modules_of_an_older_header_are_welcome)
{
    struct vmmhpc *vm = machine();
    struct vmmhpc_module old = good;
    uint32_t id = 0;

    fresh();
    old.size = offsetof(struct vmmhpc_module, reset);
    CHECK_OK(vmmhpc_module_attach(vm, &old, "a=1", &id, &err), &err);
    CHECK_CONTAINS(probe.args, "a=1");
    vh_modules_reset(vm);
    CHECK_EQ(probe.resets, 0); /* it has none */
    discard(vm);
    CHECK_EQ(probe.finis, 1);
}

TEST(modules_parts_are_called_and_taken_back)
{
    struct vmmhpc *vm = machine();
    uint32_t id;

    fresh();
    id = attach(vm);
    CHECK_EQ(probe.host->size, sizeof(struct vmmhpc_module_host));
    CHECK_EQ(probe.host->cpus, 1);
    (void)access_port(vm, PORT, VMMHPC_ACCESS_WRITE, 40);
    CHECK_EQ(read_port(vm, PORT), 40);
    CHECK_EQ(read_port(vm, PORT + 4), 44);
    CHECK(!hook_for_port(vm, 0x80, KVM_EXIT_IO_OUT, 7));
    CHECK(vh_table_find(atomic_load(&vm->tables[VH_SPACE_HYPERCALL]), NUMBER) != NULL);
    struct vmmhpc_module_info info = info_of(vm, id);
    CHECK_EQ(info.state, VMMHPC_MODULE_RUNNING);
    CHECK_EQ(info.parts, 3);
    CHECK_EQ(info.device_calls, 3);
    CHECK_EQ(info.hook_calls, 1);
    CHECK_CONTAINS(info.name, "probe");
    CHECK_CONTAINS(info.version, "3");
    vh_modules_reset(vm);
    CHECK_EQ(probe.resets, 1);
    CHECK_OK(vmmhpc_module_remove(vm, id, &err), &err);
    CHECK_EQ(probe.finis, 1);
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX);
    CHECK(vh_table_find(atomic_load(&vm->tables[VH_SPACE_HYPERCALL]), NUMBER) == NULL);
    uint32_t calls = probe.calls;
    CHECK(!hook_for_port(vm, 0x80, KVM_EXIT_IO_OUT, 7));
    CHECK_EQ(probe.calls, calls);
    CHECK_ERROR(vmmhpc_module_remove(vm, id, &err), &err, VMMHPC_E_INVALID, "no module");
    CHECK_ERROR(vmmhpc_module_remove(vm, 999, &err), &err, VMMHPC_E_INVALID, "no module 999");
    discard(vm);
}

TEST(modules_two_and_their_clashes)
{
    struct vmmhpc *vm = machine();
    uint32_t id = 0;

    fresh();
    probe.clash = true;
    CHECK_ERROR(vmmhpc_module_attach(vm, &good, "", &id, &err), &err, VMMHPC_E_STATE,
                "module probe did not start: device range 0x514-0x51b overlaps 0x510-0x517");
    CHECK_EQ(probe.finis, 1); /* it had set its state */
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX);
    CHECK(vm->modules.list == NULL);
    probe.clash = false;
    id = attach(vm); /* the range is free again */
    uint32_t other = 0;
    CHECK_OK(vmmhpc_module_open(vm, "other", &other, &err), &err);
    CHECK_ERROR(
        vmmhpc_module_add_device(vm, other, VMMHPC_SPACE_PIO, PORT, 1, probe_device, &probe, &err),
        &err, VMMHPC_E_OVERLAP, "overlaps");
    CHECK_ERROR(vmmhpc_module_add_hypercall(vm, other, NUMBER, probe_call, &probe, &err), &err,
                VMMHPC_E_OVERLAP, "");
    CHECK_ERROR(vmmhpc_module_add_hypercall(vm, other, VMMHPC_HYPERCALL_FIRST - 1, probe_call,
                                            &probe, &err),
                &err, VMMHPC_E_INVALID, "from 0x100 to 0xffff, not 0xff");
    CHECK_ERROR(
        vmmhpc_module_add_hypercall(vm, other, VMMHPC_HYPERCALL_LAST + 1, probe_call, &probe, &err),
        &err, VMMHPC_E_INVALID, "");
    CHECK_ERROR(vmmhpc_module_add_exit_hook(vm, other, 0, NULL, &probe, &err), &err,
                VMMHPC_E_INVALID, "function");
    CHECK_ERROR(vmmhpc_module_add_device(vm, other, 2, 0, 1, probe_device, &probe, &err), &err,
                VMMHPC_E_INVALID, "no address space 2");
    CHECK_ERROR(vmmhpc_module_add_exit_hook(vm, 99, 0, probe_hook, &probe, &err), &err,
                VMMHPC_E_INVALID, "no module 99");
    CHECK_OK(vmmhpc_module_add_exit_hook(vm, other, 0, probe_hook, &probe, &err), &err);
    CHECK_EQ(info_of(vm, other).parts, 1);
    CHECK_OK(vmmhpc_module_remove(vm, other, &err), &err);
    CHECK_EQ(info_of(vm, id).parts, 3);
    CHECK_ERROR(vmmhpc_module_open(vm, "", &other, &err), &err, VMMHPC_E_INVALID, "name");
    CHECK_ERROR(vmmhpc_module_open(vm, "a b", &other, &err), &err, VMMHPC_E_INVALID, "name");
    discard(vm);
}

TEST(modules_that_do_not_start_leave_nothing)
{
    struct vmmhpc *vm = machine();
    uint32_t id = 77;

    fresh();
    probe.init_status = -5;
    CHECK_ERROR(vmmhpc_module_attach(vm, &good, "", &id, &err), &err, VMMHPC_E_STATE,
                "module probe did not start");
    probe.init_status = 0;
    probe.fail_in_init = true;
    CHECK_ERROR(vmmhpc_module_attach(vm, &good, "", &id, &err), &err, VMMHPC_E_STATE,
                "changed its mind");
    CHECK_EQ(probe.finis, 2);
    CHECK_EQ(id, 77);
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX);
    vh_modules_step(vm);
    CHECK_EQ(probe.finis, 2);
    discard(vm);
}

TEST(modules_have_a_limit)
{
    struct vmmhpc *vm = machine();
    uint32_t ids[VMMHPC_MODULE_MAX];
    uint32_t count = 0;

    fresh();
    for (uint32_t i = 0; i < VMMHPC_MODULE_MAX; i++) {
        CHECK_OK(vmmhpc_module_open(vm, "m", &ids[i], &err), &err);
    }
    CHECK_ERROR(vmmhpc_module_open(vm, "m", &ids[0], &err), &err, VMMHPC_E_LIMIT, "at most 64");
    CHECK_OK(vmmhpc_module_list(vm, NULL, 0, &count, &err), &err);
    CHECK_EQ(count, VMMHPC_MODULE_MAX);
    CHECK_OK(vmmhpc_module_remove(vm, ids[5], &err), &err);
    CHECK_OK(vmmhpc_module_open(vm, "m", &ids[5], &err), &err);
    discard(vm);
}

/* ------------------------------------------------------------------ failure */

static void expect_failed(struct vmmhpc *vm, uint32_t id, const char *why)
{
    uint32_t calls = probe.calls;
    struct vmmhpc_event event = {0};
    int fd = -1;

    CHECK_EQ(info_of(vm, id).state, VMMHPC_MODULE_FAILING);
    CHECK_CONTAINS(info_of(vm, id).text, why);
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX); /* still there, not called */
    CHECK(!hook_for_port(vm, 0x80, KVM_EXIT_IO_OUT, 7));
    CHECK_EQ(probe.calls, calls);
    CHECK_EQ(probe.finis, 0);
    CHECK_EQ(probe.host->add_hypercall(probe.host->context, 0x200, probe_call, &probe, NULL),
             VMMHPC_E_STATE);
    CHECK_OK(vmmhpc_open_events(vm, &fd, &err), &err);
    vh_modules_step(vm);
    CHECK_EQ(recv(fd, &event, sizeof(event), MSG_DONTWAIT), sizeof(event));
    CHECK_EQ(event.type, VMMHPC_EVENT_MODULE_FAILED);
    CHECK_EQ(event.arg, id);
    CHECK_EQ(probe.finis, 1);
    CHECK_EQ(info_of(vm, id).state, VMMHPC_MODULE_FAILED);
    CHECK_EQ(info_of(vm, id).parts, 0);
    CHECK_CONTAINS(info_of(vm, id).text, why);
    vh_modules_step(vm);
    CHECK_EQ(probe.finis, 1);
    CHECK_ERROR(vmmhpc_module_fail(vm, id, "again", &err), &err, VMMHPC_E_INVALID, "");
    CHECK_ERROR(vmmhpc_module_add_exit_hook(vm, id, 0, probe_hook, &probe, &err), &err,
                VMMHPC_E_STATE, "being unloaded");
    CHECK_OK(vmmhpc_module_remove(vm, id, &err), &err); /* forgets it */
    CHECK_EQ(probe.finis, 1);
    CHECK_EQ(info_of(vm, id).state, UINT32_MAX);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        if (vm->streams[i].fd >= 0) {
            close(vm->streams[i].fd);
        }
    }
    vh_events_init(vm);
    close(fd);
}

TEST(modules_fail_in_a_device)
{
    struct vmmhpc *vm = machine();

    fresh();
    uint32_t id = attach(vm);
    probe.status = -1;
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX);
    expect_failed(vm, id, "a device of it failed");
    probe.status = 0;
    id = attach(vm); /* and comes again */
    CHECK_EQ(read_port(vm, PORT), 0);
    discard(vm);
}

TEST(modules_fail_in_a_hook)
{
    struct vmmhpc *vm = machine();
    const int32_t bad[] = {-1, 3, INT32_MIN, INT32_MAX};

    for (size_t i = 0; i < VH_COUNT(bad); i++) {
        fresh();
        uint32_t id = attach(vm);
        probe.status = bad[i];
        CHECK(!hook_for_port(vm, 0x80, KVM_EXIT_IO_OUT, 7)); /* the machine handles it then */
        expect_failed(vm, id, "an exit hook of it failed");
    }
    discard(vm);
}

TEST(modules_fail_by_their_own_word)
{
    struct vmmhpc *vm = machine();

    fresh();
    uint32_t id = attach(vm);
    probe.host->log(probe.host->context, "all is well");
    CHECK_CONTAINS(info_of(vm, id).text, "all is well");
    probe.host->fail(probe.host->context, "out of paper");
    probe.host->fail(probe.host->context, "and of ink");
    probe.host->log(probe.host->context, "all is well again");
    expect_failed(vm, id, "out of paper");
    fresh();
    id = attach(vm);
    CHECK_OK(vmmhpc_module_fail(vm, id, "the loader says so", &err), &err);
    expect_failed(vm, id, "the loader says so");
    discard(vm);
}

TEST(modules_that_failed_can_be_removed_at_once)
{
    struct vmmhpc *vm = machine();

    fresh();
    uint32_t id = attach(vm);
    probe.host->fail(probe.host->context, "no");
    CHECK_OK(vmmhpc_module_remove(vm, id, &err), &err); /* before the I/O thread comes to it */
    CHECK_EQ(probe.finis, 1);
    vh_modules_step(vm);
    CHECK_EQ(probe.finis, 1);
    id = attach(vm);
    probe.host->fail(probe.host->context, "no");
    discard(vm); /* and so can the machine */
    CHECK_EQ(probe.finis, 2);
}

/* ------------------------------------------------------------------ vCPUs */

TEST(modules_vcpus_may_not_change_them)
{
    struct vmmhpc *vm = machine();
    uint32_t id;
    uint32_t other = 0;

    fresh();
    id = attach(vm);
    vm->vcpus[0].active = true;
    vm->vcpus[0].tid = gettid();
    vm->vcpus[0].runner = pthread_self();
    CHECK_ERROR(vmmhpc_module_remove(vm, id, &err), &err, VMMHPC_E_STATE, "vCPU's thread");
    CHECK_ERROR(vmmhpc_module_attach(vm, &good, "", &other, &err), &err, VMMHPC_E_STATE, "");
    CHECK_EQ(probe.host->remove_part(probe.host->context, probe.device_part), VMMHPC_E_STATE);
    CHECK_EQ(probe.host->add_exit_hook(probe.host->context, 0, probe_hook, &probe, NULL),
             VMMHPC_E_STATE);
    CHECK_CONTAINS(info_of(vm, id).text, "vCPU's thread");
    vm->vcpus[0].active = false;
    CHECK_EQ(probe.host->remove_part(probe.host->context, probe.device_part), VMMHPC_OK);
    CHECK_EQ(probe.host->remove_part(probe.host->context, probe.device_part), VMMHPC_E_INVALID);
    CHECK_EQ(info_of(vm, id).parts, 2);
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX);
    discard(vm);
}

struct removal {
    struct vmmhpc *vm;
    uint32_t id;
    int32_t status;
};

static void *remove_module(void *arg)
{
    struct removal *removal = arg;

    removal->status = vmmhpc_module_remove(removal->vm, removal->id, NULL);
    return NULL;
}

static bool someone_waits(struct vmmhpc *vm)
{
    pthread_mutex_lock(&vm->lock);
    bool result = vm->grace_waiters > 0;
    pthread_mutex_unlock(&vm->lock);
    return result;
}

static void nap(void)
{
    struct timespec ms = {0, 1000000};

    (void)nanosleep(&ms, NULL);
}

TEST(modules_in_use_wait_for_the_vcpu)
{
    struct vmmhpc *vm = machine();
    struct removal removals[2];
    pthread_t threads[2];
    uint32_t id;

    fresh();
    id = attach(vm);
    vm->vcpus[0].active = true;           /* in the device, as far as anybody knows */
    vm->vcpus[0].run->immediate_exit = 1; /* no kick: there is no thread to take it */
    for (int i = 0; i < 2; i++) {
        removals[i] = (struct removal){vm, id, 1};
        pthread_create(&threads[i], NULL, remove_module, &removals[i]);
    }
    while (!someone_waits(vm)) {
        nap();
    }
    CHECK_EQ(info_of(vm, id).state, VMMHPC_MODULE_REMOVING);
    CHECK_EQ(read_port(vm, PORT), UINT32_MAX); /* out of the tables */
    CHECK_EQ(probe.finis, 0);
    vm->stats = NULL;
    CHECK(vh_vcpu_park(&vm->vcpus[0])); /* now it is out of it */
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(probe.finis, 1);
    CHECK_EQ((removals[0].status == VMMHPC_OK) + (removals[1].status == VMMHPC_OK), 1);
    CHECK_EQ((removals[0].status == VMMHPC_E_INVALID) + (removals[1].status == VMMHPC_E_INVALID),
             1);
    discard(vm);
}

/* ------------------------------------------------------------------ hooks */

TEST(modules_hooks_see_and_consume_accesses)
{
    struct vmmhpc *vm = machine();
    struct kvm_run *run = vm->vcpus[0].run;

    fresh();
    (void)attach(vm);
    CHECK(!hook_for_port(vm, 0x70, KVM_EXIT_IO_OUT, 0x1234));
    CHECK_EQ(probe.exit.reason, KVM_EXIT_IO);
    CHECK_EQ(probe.exit.address, 0x70);
    CHECK_EQ(probe.exit.direction, VMMHPC_ACCESS_WRITE);
    CHECK_EQ(probe.exit.value, 0x1234);
    CHECK_EQ(probe.exit.bytes, 4);
    probe.status = VMMHPC_HOOK_CONSUME;
    probe.value = 0x77;
    CHECK(hook_for_port(vm, 0x70, KVM_EXIT_IO_OUT, 0x1234));
    CHECK_EQ(port_data(vm), 0x1234); /* a write has no answer */
    CHECK(hook_for_port(vm, 0x70, KVM_EXIT_IO_IN, 0));
    CHECK_EQ(probe.exit.value, UINT64_MAX);
    CHECK_EQ(port_data(vm), 0x77);
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = 0xd0000008;
    run->mmio.len = 255; /* KVM never says so */
    run->mmio.is_write = 0;
    CHECK(vh_exit_hooks(&vm->vcpus[0]));
    CHECK_EQ(probe.exit.bytes, 8);
    CHECK_EQ(probe.exit.address, 0xd0000008);
    CHECK_EQ(run->mmio.data[0], 0x77);
    run->exit_reason = KVM_EXIT_IO; /* a string: its elements are all there, none of them is it */
    run->io.count = 3;
    run->io.size = 2;
    run->io.direction = KVM_EXIT_IO_IN;
    run->io.data_offset = 4096;
    CHECK(vh_exit_hooks(&vm->vcpus[0]));
    CHECK_EQ(probe.exit.count, 3);
    CHECK(probe.exit.data == (uint8_t *)run + 4096);
    CHECK_EQ(port_data(vm), 0x77);
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->internal.suberror = 3;
    CHECK(vh_exit_hooks(&vm->vcpus[0]));
    CHECK_EQ(probe.exit.detail, 3);
    CHECK_EQ(probe.exit.count, 0);
    discard(vm);
}

static int32_t pass_hook(void *opaque, struct vmmhpc_module_exit *exit)
{
    uint64_t *seen = opaque;

    *seen = exit->value;
    exit->value = 0xbad;
    exit->reason = 0xbad;
    return VMMHPC_HOOK_PASS;
}

TEST(modules_hooks_are_filtered_and_in_order)
{
    struct vmmhpc *vm = machine();
    uint64_t first = 0;
    uint64_t second = 0;
    uint64_t mmio = 0;
    uint32_t id = 0;

    fresh();
    CHECK_OK(vmmhpc_module_open(vm, "filter", &id, &err), &err);
    CHECK_OK(vmmhpc_module_add_exit_hook(vm, id, 1ull << KVM_EXIT_IO, pass_hook, &first, &err),
             &err);
    CHECK_OK(vmmhpc_module_add_exit_hook(vm, id, 1ull << KVM_EXIT_MMIO, pass_hook, &mmio, &err),
             &err);
    CHECK_OK(vmmhpc_module_add_exit_hook(vm, id, 0, pass_hook, &second, &err), &err);
    (void)attach(vm);
    probe.status = VMMHPC_HOOK_CONSUME;
    CHECK(hook_for_port(vm, 1, KVM_EXIT_IO_OUT, 5));
    CHECK_EQ(first, 5);
    CHECK_EQ(second, 5); /* not what the first one made of it */
    CHECK_EQ(mmio, 0);
    CHECK_EQ(info_of(vm, id).hook_calls, 2);
    vm->vcpus[0].run->exit_reason = 200; /* beyond the mask: only who wants all */
    second = 1;
    CHECK(vh_exit_hooks(&vm->vcpus[0]));
    CHECK_EQ(second, 0);
    CHECK_EQ(first, 5);
    discard(vm);
}

TEST(modules_hooks_can_stop_the_machine)
{
    struct vmmhpc *vm = machine();

    fresh();
    (void)attach(vm);
    probe.status = VMMHPC_HOOK_STOP;
    CHECK(hook_for_port(vm, 1, KVM_EXIT_IO_OUT, 5));
    CHECK(vm->stop_requested);
    CHECK_CONTAINS(vm->stop.text, "exit hook");
    discard(vm);
}

TEST(modules_hooks_do_not_see_the_debuggers_exits)
{
    struct vmmhpc *vm = machine();

    fresh();
    (void)attach(vm);
    vm->vcpus[0].run->exit_reason = KVM_EXIT_DEBUG;
    CHECK(!vh_exit_hooks(&vm->vcpus[0]));
    CHECK_EQ(probe.calls, 0);
    CHECK(!hook_for_port(vm, VH_TRAP_PORT, KVM_EXIT_IO_OUT, 0)); /* without one it is the guest's */
    CHECK_EQ(probe.calls, 1);
    discard(vm);
}

/* ------------------------------------------------------------------ shared objects */

static const char *tally(void)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 16);

    path[length > 0 ? length : 0] = '\0';
    (void)strcpy(strrchr(path, '/') + 1, "tally.so");
    return path;
}

TEST(modules_load_what_is_no_module)
{
    struct vmmhpc *vm = machine();
    uint32_t id = 0;
    Dl_info libc;

    fresh();
    CHECK_ERROR(vmmhpc_module_load(vm, NULL, "", &id, &err), &err, VMMHPC_E_IO, "cannot open");
    CHECK_ERROR(vmmhpc_module_load(vm, "", "", &id, &err), &err, VMMHPC_E_IO, "cannot open");
    CHECK_ERROR(vmmhpc_module_load(vm, "libc.so.6", "", &id, &err), &err, VMMHPC_E_IO,
                "cannot open module libc.so.6: No such file");
    CHECK_ERROR(vmmhpc_module_load(vm, "/", "", &id, &err), &err, VMMHPC_E_BAD_IMAGE,
                "cannot load the module");
    CHECK_ERROR(vmmhpc_module_load(vm, "/proc/self/cmdline", "", &id, &err), &err,
                VMMHPC_E_BAD_IMAGE, "cannot load the module");
    CHECK(dladdr((void *)(uintptr_t)&strrchr, &libc) != 0);
    void *symbol = dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
    CHECK(dladdr(symbol, &libc) != 0);
    CHECK_ERROR(vmmhpc_module_load(vm, libc.dli_fname, "", &id, &err), &err, VMMHPC_E_BAD_IMAGE,
                "not the descriptor of a module");
    CHECK_ERROR(vmmhpc_module_load(vm, tally(), "speed=9", &id, &err), &err, VMMHPC_E_STATE,
                "module tally did not start: the only argument is port=N");
    CHECK_ERROR(vmmhpc_module_load(vm, tally(), "port=0xffff", &id, &err), &err, VMMHPC_E_STATE,
                "inside its address space");
    CHECK(vm->modules.list == NULL);
    discard(vm);
}

static size_t mappings(void)
{
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (fgets(line, sizeof(line), maps) != NULL) {
        count += strstr(line, "tally.so") != NULL;
    }
    (void)fclose(maps);
    return count;
}

TEST(modules_come_and_go_many_times)
{
    struct vmmhpc *vm = machine();
    uint32_t ids[3];

    fresh();
    for (int round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            char args[32];
            (void)snprintf(args, sizeof(args), "port=%u", 0x600 + 16 * i);
            int32_t status = vmmhpc_module_load(vm, tally(), args, &ids[i], &err);
            if (i == 0) {
                CHECK_OK(status, &err);
            } else { /* the hypercall is the first one's */
                CHECK_ERROR(status, &err, VMMHPC_E_STATE, "overlaps");
            }
        }
        (void)access_port(vm, 0x600, VMMHPC_ACCESS_WRITE, 20);
        (void)access_port(vm, 0x600, VMMHPC_ACCESS_WRITE, 22);
        CHECK_EQ(read_port(vm, 0x600), 42);
        CHECK(mappings() > 0);
        CHECK_OK(vmmhpc_module_remove(vm, ids[0], &err), &err);
        CHECK_EQ(read_port(vm, 0x600), UINT32_MAX);
        CHECK_EQ(mappings(), 0);
    }
    CHECK(vm->retired == NULL);
    discard(vm);
}
