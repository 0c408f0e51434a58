/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, device tables and events of a machine without KVM: this test plays its vCPUs. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "tap.h"

static struct vmmhpc_error err = {.size = sizeof(err)};

/* vCPU 0 ... cpus-1 are in handlers, so to speak; nobody can be kicked. */
static struct vmmhpc *machine_with(uint32_t cpus)
{
    struct vmmhpc *vm = calloc(1, sizeof(*vm));
    pthread_mutex_t *locks[] = {&vm->lock, &vm->kvm_lock, &vm->device_lock, &vm->console_lock,
                                &vm->event_lock};

    for (size_t i = 0; i < VH_COUNT(locks); i++) {
        pthread_mutex_init(locks[i], NULL);
    }
    pthread_cond_init(&vm->changed, NULL);
    CHECK_OK(vh_uart_init(&vm->uart, &err), &err);
    vh_console_init(vm);
    vm->cpus = cpus;
    vm->vcpus = calloc(cpus, sizeof(*vm->vcpus));
    vh_events_init(vm);
    vm->stats_fd = vm->vm_fd = vm->kvm_fd = -1;
    vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    vm->next_device_id = 1;
    CHECK_OK(vh_stats_create(vm, &err), &err);
    for (uint32_t i = 0; i < cpus; i++) {
        vm->vcpus[i].vm = vm;
        vm->vcpus[i].fd = -1;
        vm->vcpus[i].index = i;
        vm->vcpus[i].active = true;
        vm->vcpus[i].run = calloc(1, sizeof(struct kvm_run));
    }
    atomic_store(&vm->state, VMMHPC_STATE_RUNNING);
    return vm;
}

static void discard(struct vmmhpc *vm)
{
    for (uint32_t i = 0; i < vm->cpus; i++) {
        if (vm->vcpus[i].active) {
            vh_vcpu_leave(&vm->vcpus[i]);
        }
        free(vm->vcpus[i].run);
        vm->vcpus[i].run = NULL;
    }
    vmmhpc_destroy(vm);
}

/* As the run loop does for its thread. */
static sigset_t block_kicks(void)
{
    sigset_t kick;

    sigemptyset(&kick);
    sigaddset(&kick, SIGRTMIN + 7);
    pthread_sigmask(SIG_BLOCK, &kick, NULL);
    return kick;
}

/* How many are pending; none is afterwards. */
static uint32_t take_kicks(const sigset_t *kick)
{
    struct timespec now = {0, 0};
    uint32_t count = 0;

    while (sigtimedwait(kick, NULL, &now) > 0) {
        count++;
    }
    return count;
}

static uint64_t handle(void *opaque, uint32_t vcpu, uint64_t offset, uint32_t bytes,
                       uint32_t direction, uint64_t value)
{
    (void)opaque;
    (void)vcpu;
    (void)offset;
    (void)bytes;
    (void)direction;
    return value;
}

static uint32_t add(struct vmmhpc *vm, uint64_t base)
{
    uint32_t id = 0;

    CHECK_OK(vmmhpc_device_add(vm, VMMHPC_SPACE_PIO, base, 1, handle, NULL, &id, &err), &err);
    return id;
}

TEST(lifecycle_adding_a_device_waits_for_nobody)
{
    struct vmmhpc *vm = machine_with(2);

    (void)add(vm, 1);
    CHECK(vm->retired == NULL); /* there was no table before */
    (void)add(vm, 2);
    (void)add(vm, 3);
    CHECK(vm->retired != NULL && vm->retired->next_retired != NULL);
    CHECK(atomic_load(&vm->attention));
    CHECK_EQ(vm->vcpus[0].run->immediate_exit, 1);
    CHECK(vh_vcpu_park(&vm->vcpus[0])); /* the first is out of its handler ... */
    CHECK(vm->retired != NULL);
    CHECK(vh_vcpu_park(&vm->vcpus[1])); /* ... and now the other */
    CHECK(vm->retired == NULL);
    CHECK(!atomic_load(&vm->attention));
    (void)add(vm, 4);
    vh_vcpu_leave(&vm->vcpus[0]); /* who leaves does not look any more */
    CHECK(vh_vcpu_park(&vm->vcpus[1]));
    CHECK(vm->retired == NULL);
    (void)add(vm, 5); /* left to the end: freed with the machine (LeakSanitizer watches) */
    discard(vm);
}

TEST(lifecycle_adding_to_a_machine_that_stands_still)
{
    struct vmmhpc *vm = machine_with(1);

    vh_vcpu_leave(&vm->vcpus[0]);
    for (uint32_t i = 1; i < 10; i++) {
        (void)add(vm, i);
        CHECK(vm->retired == NULL);
    }
    CHECK(!atomic_load(&vm->attention));
    discard(vm);
}

struct removal {
    struct vmmhpc *vm;
    uint32_t id;
    int32_t status;
    atomic_bool done;
};

static void *remove_device(void *arg)
{
    struct removal *removal = arg;

    removal->status = vmmhpc_device_remove(removal->vm, removal->id, NULL);
    atomic_store(&removal->done, true);
    return NULL;
}

static void nap(void)
{
    struct timespec ms = {0, 1000000};

    (void)nanosleep(&ms, NULL);
}

static bool someone_waits(struct vmmhpc *vm)
{
    pthread_mutex_lock(&vm->lock);
    bool result = vm->grace_waiters > 0;
    pthread_mutex_unlock(&vm->lock);
    return result;
}

TEST(lifecycle_removing_a_device_waits_for_its_handler)
{
    struct vmmhpc *vm = machine_with(1);
    struct removal removal = {.vm = vm, .id = add(vm, 1), .status = 1};
    pthread_t thread;

    pthread_create(&thread, NULL, remove_device, &removal);
    while (!someone_waits(vm)) {
        nap();
    }
    nap();
    CHECK(!atomic_load(&removal.done));
    CHECK(vh_vcpu_park(&vm->vcpus[0]));
    pthread_join(thread, NULL);
    CHECK_EQ(removal.status, VMMHPC_OK);
    CHECK(!atomic_load(&vm->attention));
    CHECK(vm->retired == NULL);
    CHECK_ERROR(vmmhpc_device_remove(vm, removal.id, &err), &err, VMMHPC_E_INVALID, "no device");
    discard(vm);
}

TEST(lifecycle_handlers_may_not_wait_for_themselves)
{
    struct vmmhpc *vm = machine_with(1);
    uint32_t id = add(vm, 1);

    sigset_t kick = block_kicks();
    vm->vcpus[0].pid = getpid();
    vm->vcpus[0].tid = gettid();
    vm->vcpus[0].runner = pthread_self();
    CHECK_ERROR(vmmhpc_device_remove(vm, id, &err), &err, VMMHPC_E_STATE, "device handler");
    CHECK_ERROR(vmmhpc_pause(vm, &err), &err, VMMHPC_E_STATE, "device handler");
    CHECK_OK(vmmhpc_stop(vm, &err), &err); /* this it may */
    CHECK_EQ(take_kicks(&kick), 1);
    vm->vcpus[0].tid = 0;
    discard(vm);
}

TEST(lifecycle_first_reason_counts)
{
    struct vmmhpc *vm = machine_with(1);
    struct vmmhpc_stop_info info = {.size = sizeof(info)};

    vh_request(vm, VH_WANT_STOP, VMMHPC_STOP_POWEROFF, "the guest powered off");
    CHECK_OK(vmmhpc_stop(vm, &err), &err);
    vh_request(vm, VH_WANT_RESET, VMMHPC_STOP_RESET, "too late");
    CHECK(!vm->reset_requested);
    CHECK(!vh_vcpu_park(&vm->vcpus[0])); /* it is to leave */
    vh_vcpu_leave(&vm->vcpus[0]);
    CHECK(vh_lifecycle_step(vm));
    CHECK_EQ(vmmhpc_get_stop_info(vm, &info), VMMHPC_OK);
    CHECK_EQ(info.state, VMMHPC_STATE_STOPPED);
    CHECK_EQ(info.reason, VMMHPC_STOP_POWEROFF);
    CHECK_CONTAINS(info.text, "the guest powered off");
    CHECK_OK(vmmhpc_wait(vm, 0, &err), &err);
    discard(vm);
}

TEST(lifecycle_kicks_do_not_pile_up)
{
    struct vmmhpc *vm = machine_with(1);
    sigset_t kick = block_kicks();

    vm->vcpus[0].pid = getpid();
    vm->vcpus[0].tid = gettid();
    vm->vcpus[0].runner = pthread_self();
    for (int i = 0; i < 100; i++) {
        vh_kick_all(vm);
    }
    CHECK_EQ(take_kicks(&kick), 1);
    CHECK_EQ(vm->vcpus[0].run->immediate_exit, 1);
    vm->vcpus[0].tid = 0;
    discard(vm);
}

static void *enter(void *arg)
{
    vh_vcpu_loop(arg);
    return NULL;
}

static bool is_active(struct vh_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->vm->lock);
    bool active = vcpu->active;
    pthread_mutex_unlock(&vcpu->vm->lock);
    return active;
}

TEST(lifecycle_destroyed_before_the_start)
{
    struct vmmhpc *vm = machine_with(1);
    pthread_t thread;

    /* A caller's thread waits for the start, which never comes. */
    vh_vcpu_leave(&vm->vcpus[0]);
    atomic_store(&vm->state, VMMHPC_STATE_CREATED);
    pthread_create(&thread, NULL, enter, &vm->vcpus[0]);
    while (!is_active(&vm->vcpus[0])) {
        nap();
    }
    CHECK(!vh_vcpu_enter(&vm->vcpus[0])); /* one thread only */
    free(vm->vcpus[0].run);
    vm->vcpus[0].run = NULL;
    vmmhpc_destroy(vm); /* comes back when the thread has left */
    pthread_join(thread, NULL);
}

/* All records until the stream ends or says nothing for a while. */
static uint32_t read_events(int fd, struct vmmhpc_event *last, uint32_t until_type)
{
    uint32_t count = 0;

    do {
        if (recv(fd, last, sizeof(*last), MSG_WAITALL) != (ssize_t)sizeof(*last)) {
            last->type = 0;
            return count;
        }
        count++;
    } while (last->type != until_type);
    return count;
}

TEST(lifecycle_last_state_reaches_a_reader_who_sleeps)
{
    struct vmmhpc *vm = machine_with(1);
    struct vmmhpc_event event = {0};
    const uint32_t sent = 5000;
    int fd = -1;

    CHECK_OK(vmmhpc_open_events(vm, &fd, &err), &err);
    CHECK_OK(vh_io_thread_start(vm, &err), &err);
    vm->has_io_thread = true;
    for (uint32_t i = 0; i < sent; i++) {
        vh_send_event(vm, VMMHPC_EVENT_RESET, i);
    }
    vh_send_event(vm, VMMHPC_EVENT_STATE, VMMHPC_STATE_PAUSED); /* overtaken by the next */
    vh_vcpu_leave(&vm->vcpus[0]);
    CHECK_OK(vmmhpc_stop(vm, &err), &err);
    CHECK_OK(vmmhpc_wait(vm, -1, &err), &err);
    uint32_t got = read_events(fd, &event, VMMHPC_EVENT_STATE);
    CHECK(got > 1 && got < sent); /* it was full indeed */
    CHECK_EQ(event.type, VMMHPC_EVENT_STATE);
    CHECK_EQ(event.arg, VMMHPC_STATE_STOPPED);
    discard(vm);
    CHECK_EQ(read_events(fd, &event, VMMHPC_EVENT_STATE), 0); /* and then the end */
    close(fd);
}

TEST(lifecycle_events_go_to_every_reader)
{
    struct vmmhpc *vm = machine_with(1);
    struct vmmhpc_event event = {0};
    int fds[VH_EVENT_STREAMS];
    int more = -1;

    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        CHECK_OK(vmmhpc_open_events(vm, &fds[i], &err), &err);
    }
    CHECK_ERROR(vmmhpc_open_events(vm, &more, &err), &err, VMMHPC_E_LIMIT, "streams");
    vh_send_event(vm, VMMHPC_EVENT_RESET, 1);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        CHECK_EQ(recv(fds[i], &event, sizeof(event), 0), sizeof(event));
        CHECK_EQ(event.arg, 1);
    }
    close(fds[2]); /* its reader has gone: there is room for another */
    vh_send_event(vm, VMMHPC_EVENT_RESET, 2);
    CHECK_OK(vmmhpc_open_events(vm, &fds[2], &err), &err);
    vh_send_event(vm, VMMHPC_EVENT_RESET, 3);
    CHECK_EQ(recv(fds[2], &event, sizeof(event), 0), sizeof(event));
    CHECK_EQ(event.arg, 3);
    discard(vm);
    for (uint32_t i = 0; i < VH_EVENT_STREAMS; i++) {
        close(fds[i]);
    }
}

TEST(lifecycle_console_is_told_of_the_end_however_late_it_comes)
{
    struct vmmhpc *vm = machine_with(1);
    char byte = 0;
    int fd = -1;

    CHECK_OK(vh_io_thread_start(vm, &err), &err);
    vm->has_io_thread = true;
    CHECK_OK(vmmhpc_console_open(vm, &fd, &err), &err);
    (void)vh_uart_access(&vm->uart, 0, 0, 1, VMMHPC_ACCESS_WRITE, 'x');
    vh_vcpu_leave(&vm->vcpus[0]);
    CHECK_OK(vmmhpc_stop(vm, &err), &err);
    CHECK_OK(vmmhpc_wait(vm, -1, &err), &err);
    CHECK_EQ(vm->stats->console_out, 1); /* figures are final when the end is seen */
    CHECK_EQ(recv(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    close(fd);
    CHECK_OK(vmmhpc_console_open(vm, &fd, &err), &err); /* another reader, afterwards */
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
    close(fd);
    discard(vm);
}
