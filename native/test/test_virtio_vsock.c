/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock over the host's vhost-vsock: a connection with a socket of this host, where it has
 * one. The nested machine does, after `modprobe vhost_vsock`. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "virtio/small.h"
#include "virtio/vhost.h"
#include "virtio_rig.h"

enum { RECEIVE, TRANSMIT, EVENTS };
enum { OP_REQUEST = 1, OP_RESPONSE = 2, OP_RST = 3, OP_RW = 5 };
#define GUEST_PORT 4000u
#define PAYLOAD 4096u
#define WAIT_MS 20000

static struct vmmhpc_error err = {.size = sizeof(err)};

/* 5.10.6: struct virtio_vsock_hdr */
struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
    uint8_t data[PAYLOAD];
} __attribute__((packed));

#define HEADER 44u

static bool host_has_vsock(void)
{
    int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        tap_skip("this host has no /dev/vhost-vsock");
        return false;
    }
    close(fd);
    return true;
}

static uint64_t some_cid(void)
{
    return 0x10000u + (uint64_t)getpid() * 4;
}

struct guest {
    struct virtio_rig *rig;
    uint64_t cid;
    uint64_t received[4]; /* packets that the device may write */
};

static void kick(struct guest *guest, uint32_t queue)
{
    CHECK_EQ(eventfd_write(guest->rig->device->queues[queue].kick_fd, 1), 0);
}

static void send_packet(struct guest *guest, uint16_t op, uint32_t port, const char *text)
{
    struct packet packet = {.src_cid = guest->cid,
                            .dst_cid = VMADDR_CID_HOST,
                            .src_port = GUEST_PORT,
                            .dst_port = port,
                            .len = (uint32_t)strlen(text),
                            .type = 1,
                            .op = op,
                            .buf_alloc = 1 << 20};
    memcpy(packet.data, text, packet.len);
    uint64_t gpa = virtio_rig_put(guest->rig, &packet, sizeof(packet));
    struct rig_buffer buffers[] = {{gpa, HEADER, false}, {gpa + HEADER, packet.len, false}};

    CHECK(virtio_rig_add(guest->rig, TRANSMIT, buffers, packet.len > 0 ? 2 : 1) >= 0);
    kick(guest, TRANSMIT);
}

static void offer(struct guest *guest)
{
    for (uint32_t i = 0; i < VH_COUNT(guest->received); i++) {
        struct rig_buffer buffer = {virtio_rig_alloc(guest->rig, sizeof(struct packet)),
                                    sizeof(struct packet), true};
        int head = virtio_rig_add(guest->rig, RECEIVE, &buffer, 1);

        CHECK(head >= 0 && head < (int)VH_COUNT(guest->received));
        guest->received[head & 3] = buffer.gpa;
    }
    kick(guest, RECEIVE);
}

/* The next packet with that operation; its data must be `text`. Its source port. */
static uint32_t expect(struct guest *guest, uint16_t op, const char *text)
{
    struct pollfd call = {.fd = guest->rig->rings[RECEIVE].call_fd, .events = POLLIN};
    uint32_t id = 0;
    uint32_t written = 0;

    for (;;) {
        eventfd_t count = 0;

        while (!virtio_rig_used(guest->rig, RECEIVE, &id, &written)) {
            if (!CHECK(poll(&call, 1, WAIT_MS) == 1)) {
                return 0;
            }
            (void)eventfd_read(call.fd, &count);
        }
        const struct packet *packet = virtio_rig_at(guest->rig, guest->received[id & 3], 44);
        if (packet->op == op) {
            CHECK_EQ(packet->src_cid, VMADDR_CID_HOST);
            CHECK_EQ(packet->dst_cid, guest->cid);
            CHECK_EQ(packet->len, strlen(text));
            CHECK_EQ(written, HEADER + strlen(text));
            CHECK(memcmp(packet->data, text, strlen(text)) == 0);
            return packet->src_port;
        }
    }
}

static int listen_any(uint32_t *port)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    socklen_t length = sizeof(address);
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(fd, 4), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = address.svm_port;
    return fd;
}

/* Connect from the guest, say something both ways. */
static void converse(struct guest *guest, uint64_t features)
{
    struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    uint32_t port = 0;
    int listener = listen_any(&port);
    char text[16] = {0};

    CHECK_OK(virtio_rig_start(guest->rig, features), &guest->rig->err);
    offer(guest);
    send_packet(guest, OP_REQUEST, port, "");
    CHECK_EQ(expect(guest, OP_RESPONSE, ""), port);
    (void)setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    CHECK_EQ(send(fd, "hello, guest", 12, MSG_NOSIGNAL), 12);
    CHECK_EQ(expect(guest, OP_RW, "hello, guest"), port);
    send_packet(guest, OP_RW, port, "hello, host");
    CHECK_EQ(recv(fd, text, sizeof(text), 0), 11);
    CHECK(strcmp(text, "hello, host") == 0);
    send_packet(guest, OP_RST, port, "");
    (void)recv(fd, text, sizeof(text), 0); /* the end, or a reset */
    close(fd);
    close(listener);
}

TEST(virtio_vsock_absent)
{
    struct vh_virtio *device = NULL;

    if (access("/dev/vhost-vsock", F_OK) == 0) {
        tap_skip("this host has /dev/vhost-vsock");
        return;
    }
    CHECK_ERROR(vh_vsock_new(NULL, 3, &device, &err), &err, VMMHPC_E_UNSUPPORTED,
                "/dev/vhost-vsock");
    CHECK_EQ(err.sys_errno, ENOENT);
}

TEST(virtio_vsock_cid_range)
{
    static const uint64_t bad[] = {0, 1, 2, 0xffffffff, 0x100000000, UINT64_MAX};
    struct vh_virtio *device = NULL;

    for (uint32_t i = 0; i < VH_COUNT(bad); i++) {
        CHECK_ERROR(vh_vsock_new(NULL, bad[i], &device, &err), &err, VMMHPC_E_RANGE, "CID");
    }
}

TEST(virtio_vhost_open_errors)
{
    struct vh_vhost vhost;
    char path[] = "/tmp/vhost-test-XXXXXX";
    int fd = mkstemp(path);

    CHECK_ERROR(vh_vhost_open(NULL, &vhost, "/dev/no-vhost", &err), &err, VMMHPC_E_UNSUPPORTED,
                "/dev/no-vhost");
    CHECK_EQ(vhost.fd, -1);
    CHECK_ERROR(vh_vhost_open(NULL, &vhost, path, &err), &err, VMMHPC_E_UNSUPPORTED, "owner");
    CHECK_EQ(vhost.fd, -1);
    vh_vhost_close(&vhost, NULL);
    (void)unlink(path);
    close(fd);
}

TEST(virtio_vsock_cid_in_use)
{
    struct vh_virtio *device = NULL;
    struct vh_virtio *other = NULL;

    if (!host_has_vsock()) {
        return;
    }
    CHECK_OK(vh_vsock_new(NULL, some_cid(), &device, &err), &err);
    CHECK_ERROR(vh_vsock_new(NULL, some_cid(), &other, &err), &err, VMMHPC_E_OVERLAP, "in use");
    device->ops->destroy(device);
    CHECK_OK(vh_vsock_new(NULL, some_cid(), &device, &err), &err);
    device->ops->destroy(device);
}

TEST(virtio_vsock_talks_to_the_host)
{
    struct guest guest = {.cid = some_cid() + 1};
    struct vh_virtio *device = NULL;

    if (!host_has_vsock()) {
        return;
    }
    CHECK_OK(vh_vsock_new(NULL, guest.cid, &device, &err), &err);
    CHECK(device->kicked_elsewhere);
    guest.rig = virtio_rig_new(device);
    CHECK_EQ(virtio_rig_config(guest.rig, 0, 8), guest.cid);
    converse(&guest, 0);
    /* Again, after a reset, with another choice of features. */
    virtio_rig_reset(guest.rig);
    CHECK_EQ(virtio_rig_interrupts(guest.rig, RECEIVE), 0); /* they went past this process */
    converse(&guest, RIG_F_EVENT_IDX | (device->features & 2));
    virtio_rig_reset(guest.rig);
    /* Stopped: the kernel leaves the rings alone. */
    uint16_t used = guest.rig->rings[TRANSMIT].used[1];
    send_packet(&guest, OP_REQUEST, 1, "");
    (void)poll(NULL, 0, 100);
    CHECK_EQ(guest.rig->rings[TRANSMIT].used[1], used);
    virtio_rig_free(guest.rig);
}

/* A queue that the driver did not enable: no start, and no harm at the next. */
TEST(virtio_vsock_queue_missing)
{
    struct guest guest = {.cid = some_cid() + 2};
    struct vh_virtio *device = NULL;

    if (!host_has_vsock()) {
        return;
    }
    CHECK_OK(vh_vsock_new(NULL, guest.cid, &device, &err), &err);
    guest.rig = virtio_rig_new(device);
    virtio_rig_negotiate(guest.rig, 0);
    virtio_rig_queue(guest.rig, RECEIVE, 0);
    CHECK_ERROR(vh_virtio_start(device, &guest.rig->memory, &guest.rig->err), &guest.rig->err,
                VMMHPC_E_STATE, "queue 1");
    CHECK(device->broken);
    virtio_rig_reset(guest.rig);
    converse(&guest, 0);
    virtio_rig_free(guest.rig);
}
