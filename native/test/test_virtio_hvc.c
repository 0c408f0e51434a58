/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console (virtio 1.2, 5.3): nothing is lost, nobody waits where the other side is slow. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/small.h"
#include "virtio_rig.h"

enum { RECEIVE, TRANSMIT };
#define F_SIZE 1u
#define F_EMERG_WRITE 4u

static struct virtio_rig *hvc_new(int in_fd, int out_fd)
{
    struct vmmhpc_hvc config = {.size = sizeof(config), .in_fd = in_fd, .out_fd = out_fd};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtio *device = NULL;

    CHECK_OK(vh_hvc_new(&config, &device, &err), &err);
    struct virtio_rig *rig = virtio_rig_new(device);
    CHECK_OK(virtio_rig_start(rig, F_EMERG_WRITE | RIG_F_EVENT_IDX), &rig->err);
    return rig;
}

static void print(struct virtio_rig *rig, const char *text)
{
    uint32_t bytes = (uint32_t)strlen(text);
    struct rig_buffer buffer = {virtio_rig_put(rig, text, bytes), bytes, false};

    CHECK(virtio_rig_add(rig, TRANSMIT, &buffer, 1) >= 0);
    virtio_rig_kick(rig, TRANSMIT);
}

static uint64_t offer(struct virtio_rig *rig, uint32_t bytes)
{
    struct rig_buffer buffer = {virtio_rig_alloc(rig, bytes), bytes, true};

    CHECK(virtio_rig_add(rig, RECEIVE, &buffer, 1) >= 0);
    virtio_rig_kick(rig, RECEIVE);
    return buffer.gpa;
}

static uint32_t in_ready(struct virtio_rig *rig)
{
    return virtio_rig_ready(vh_hvc_source(rig->device, false), EPOLLIN, 0);
}

static uint32_t out_ready(struct virtio_rig *rig)
{
    return virtio_rig_ready(vh_hvc_source(rig->device, true), EPOLLOUT, 0);
}

static bool is_text(struct virtio_rig *rig, uint64_t gpa, const char *text)
{
    return memcmp(virtio_rig_at(rig, gpa, strlen(text)), text, strlen(text)) == 0;
}

/* ------------------------------------------------------------------ both ways */

TEST(virtio_hvc_both_ways)
{
    uint32_t written = 0;
    char text[64] = {0};
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct virtio_rig *rig = hvc_new(pair[0], pair[0]);
    print(rig, "hello, ");
    print(rig, "host\n");
    CHECK_EQ(recv(pair[1], text, sizeof(text), MSG_DONTWAIT), 12);
    CHECK(strcmp(text, "hello, host\n") == 0);
    CHECK(virtio_rig_used(rig, TRANSMIT, NULL, &written));
    CHECK_EQ(written, 0);
    CHECK(virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    CHECK_EQ(virtio_rig_interrupts(rig, TRANSMIT), 1); /* the second was not asked for */

    uint64_t gpa = offer(rig, 64);
    CHECK(!virtio_rig_used(rig, RECEIVE, NULL, NULL));
    CHECK_EQ(in_ready(rig), 0);
    CHECK_EQ(send(pair[1], "hello, guest", 12, 0), 12);
    CHECK(in_ready(rig) != 0);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 12);
    CHECK(is_text(rig, gpa, "hello, guest"));
    CHECK_EQ(virtio_rig_interrupts(rig, RECEIVE), 1);
    virtio_rig_free(rig);
    CHECK_EQ(send(pair[1], "x", 1, MSG_NOSIGNAL), 1); /* the caller's is still open */
    close(pair[0]);
    close(pair[1]);
}

TEST(virtio_hvc_input_waits_for_the_guest)
{
    uint32_t written = 0;
    int pair[2];

    CHECK_EQ(pipe(pair), 0);
    struct virtio_rig *rig = hvc_new(pair[0], -1);
    CHECK_EQ(write(pair[1], "abcdefghij", 10), 10);
    CHECK(in_ready(rig) != 0); /* no buffer: it stays in the pipe */
    CHECK(!virtio_rig_used(rig, RECEIVE, NULL, NULL));
    uint64_t first = offer(rig, 4); /* the kick is enough */
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 4);
    CHECK(is_text(rig, first, "abcd"));
    uint64_t second = offer(rig, 4);
    uint64_t third = offer(rig, 4);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, NULL));
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 2);
    CHECK(is_text(rig, second, "efgh"));
    CHECK(is_text(rig, third, "ij"));
    /* A chain that is held over a reset is forgotten; nothing was read into it. */
    offer(rig, 4);
    virtio_rig_reset(rig);
    CHECK_EQ(write(pair[1], "kl", 2), 2);
    CHECK(in_ready(rig) != 0);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    first = offer(rig, 4);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 2);
    CHECK(is_text(rig, first, "kl"));
    /* The end of input is no input. */
    offer(rig, 4);
    close(pair[1]);
    CHECK(in_ready(rig) != 0);
    CHECK(!virtio_rig_used(rig, RECEIVE, NULL, NULL));
    virtio_rig_free(rig);
    close(pair[0]);
}

TEST(virtio_hvc_buffers_in_pieces)
{
    struct rig_buffer buffers[3];
    uint32_t written = 0;
    char text[16] = {0};
    int in[2];
    int out[2];

    CHECK_EQ(pipe(in), 0);
    CHECK_EQ(pipe(out), 0);
    struct virtio_rig *rig = hvc_new(in[0], out[1]);
    uint64_t gpa = virtio_rig_put(rig, "one two three", 13);
    for (uint32_t i = 0; i < 3; i++) {
        buffers[i] = (struct rig_buffer){gpa + 4ull * i, i == 2 ? 5 : 4, false};
    }
    virtio_rig_add(rig, TRANSMIT, buffers, 3);
    virtio_rig_kick(rig, TRANSMIT);
    CHECK_EQ(read(out[0], text, sizeof(text)), 13);
    CHECK(strcmp(text, "one two three") == 0);
    uint64_t room = virtio_rig_alloc(rig, 64);
    for (uint32_t i = 0; i < 3; i++) {
        buffers[i] = (struct rig_buffer){room + 16ull * i, 3, true};
    }
    CHECK_EQ(write(in[1], "ABCDEFGHIJ", 10), 10);
    virtio_rig_add_indirect(rig, RECEIVE, buffers, 3);
    virtio_rig_kick(rig, RECEIVE);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 9);
    CHECK(is_text(rig, room, "ABC") && is_text(rig, room + 32, "GHI"));
    /* A chain without room for anything comes back empty. */
    offer(rig, 0);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 0);
    virtio_rig_free(rig);
    for (uint32_t i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

/* ------------------------------------------------------------------ slow and absent readers */

static char pattern(uint64_t at)
{
    return (char)('a' + at * 31 % 26);
}

/* Output of more than the pipe or socket holds arrives whole, in order; the chain comes back when
 * all of it was taken. */
static void slow_reader(int read_fd, int write_fd)
{
    const uint32_t bytes = 600000;
    struct virtio_rig *rig = hvc_new(-1, write_fd);
    uint64_t gpa = virtio_rig_alloc(rig, bytes);
    struct rig_buffer buffer = {gpa, bytes, false};
    char *memory = virtio_rig_at(rig, gpa, bytes);
    uint64_t taken = 0;
    uint64_t wrong = 0;
    bool done = false;

    for (uint32_t i = 0; i < bytes; i++) {
        memory[i] = pattern(i);
    }
    virtio_rig_add(rig, TRANSMIT, &buffer, 1);
    virtio_rig_kick(rig, TRANSMIT);
    CHECK(!virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    virtio_rig_force_kick(rig, TRANSMIT); /* does not send anything twice */
    for (uint32_t turns = 0; taken < bytes && turns < 10000; turns++) {
        char data[3000];
        ssize_t got = read(read_fd, data, sizeof(data));

        for (ssize_t i = 0; i < got; i++) {
            wrong += data[i] != pattern(taken++);
        }
        eventfd_t again = 0;
        if (eventfd_read(rig->device->queues[TRANSMIT].kick_fd, &again) == 0) {
            vh_virtio_kicked(rig->device, TRANSMIT);
        }
        (void)out_ready(rig);
        done = done || virtio_rig_used(rig, TRANSMIT, NULL, NULL);
    }
    CHECK_EQ(taken, bytes);
    CHECK_EQ(wrong, 0);
    CHECK(done);
    virtio_rig_free(rig);
    close(read_fd);
    close(write_fd);
}

TEST(virtio_hvc_slow_reader)
{
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    slow_reader(pair[1], pair[0]);
    CHECK_EQ(pipe(pair), 0);
    slow_reader(pair[0], pair[1]);
}

/* Without a reader, or when it has gone, output is dropped and the guest goes on. */
TEST(virtio_hvc_no_reader)
{
    struct virtio_rig *rig = hvc_new(-1, -1);
    int pair[2];

    print(rig, "into the void");
    CHECK(virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    CHECK_EQ(vh_hvc_source(rig->device, true)->fd, -1);
    virtio_rig_free(rig);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    rig = hvc_new(-1, pair[0]);
    close(pair[1]);
    for (uint32_t i = 0; i < 3; i++) {
        print(rig, "gone");
        CHECK(virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    }
    virtio_rig_free(rig);
    close(pair[0]);

    CHECK_EQ(pipe(pair), 0);
    rig = hvc_new(-1, pair[1]);
    close(pair[0]);
    for (uint32_t i = 0; i < 3; i++) { /* SIGPIPE would end this process */
        print(rig, "gone");
        CHECK(virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    }
    virtio_rig_free(rig);
    close(pair[1]);
}

/* epoll refuses files: they need no waiting. */
TEST(virtio_hvc_files)
{
    char path[] = "/tmp/hvc-test-XXXXXX";
    int fd = mkstemp(path);
    char text[16] = {0};
    uint32_t written = 0;

    CHECK(fd >= 0);
    (void)unlink(path);
    struct virtio_rig *rig = hvc_new(-1, fd);
    CHECK_EQ(vh_hvc_source(rig->device, true)->fd, -1);
    print(rig, "to a file");
    CHECK(virtio_rig_used(rig, TRANSMIT, NULL, NULL));
    virtio_rig_free(rig);
    CHECK_EQ(pread(fd, text, sizeof(text), 0), 9);
    CHECK(strcmp(text, "to a file") == 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    rig = hvc_new(fd, -1);
    uint64_t gpa = offer(rig, 64);
    CHECK(virtio_rig_used(rig, RECEIVE, NULL, &written));
    CHECK_EQ(written, 9);
    CHECK(is_text(rig, gpa, "to a file"));
    offer(rig, 64);
    CHECK(!virtio_rig_used(rig, RECEIVE, NULL, NULL)); /* its end */
    virtio_rig_free(rig);
    close(fd);
}

/* ------------------------------------------------------------------ configuration */

TEST(virtio_hvc_config)
{
    struct vmmhpc_hvc config = {
        .size = sizeof(config), .in_fd = -1, .out_fd = -1, .columns = 132, .rows = 43};
    struct vmmhpc_error err = {.size = sizeof(err)};
    struct vh_virtio *device = NULL;

    CHECK_OK(vh_hvc_new(&config, &device, &err), &err);
    CHECK_EQ(device->features, F_SIZE | F_EMERG_WRITE);
    struct virtio_rig *rig = virtio_rig_new(device);
    CHECK_EQ(virtio_rig_config(rig, 0, 2), 132);
    CHECK_EQ(virtio_rig_config(rig, 2, 2), 43);
    CHECK_EQ(virtio_rig_config(rig, 4, 4), 1);
    CHECK_OK(virtio_rig_start(rig, 0), &rig->err);
    CHECK_EQ(rig->config_interrupts, 0);
    virtio_rig_reset(rig);
    CHECK_OK(virtio_rig_start(rig, F_SIZE), &rig->err);
    CHECK_EQ(rig->config_interrupts, 1); /* or Linux does not look */
    virtio_rig_free(rig);
    config.rows = 0;
    CHECK_OK(vh_hvc_new(&config, &device, &err), &err);
    CHECK_EQ(device->features, F_EMERG_WRITE);
    device->ops->destroy(device);
    config.size--;
    CHECK_ERROR(vh_hvc_new(&config, &device, &err), &err, VMMHPC_E_INVALID, "size");
    config.size++;
    config.out_fd = 10000;
    CHECK_ERROR(vh_hvc_new(&config, &device, &err), &err, VMMHPC_E_INVALID, "not open");
    config.out_fd = -1;
    config.in_fd = 10000;
    CHECK_ERROR(vh_hvc_new(&config, &device, &err), &err, VMMHPC_E_INVALID, "not open");
}

TEST(virtio_hvc_emergency_write)
{
    char text[8] = {0};
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct virtio_rig *rig = hvc_new(-1, pair[0]);
    virtio_rig_reset(rig); /* it works without a driver */
    virtio_rig_config_write(rig, 8, 4, 'p');
    virtio_rig_config_write(rig, 8, 4, 'q');
    virtio_rig_config_write(rig, 0, 4, 'x');
    virtio_rig_config_write(rig, 9, 1, 'x');
    CHECK_EQ(recv(pair[1], text, sizeof(text), MSG_DONTWAIT), 2);
    CHECK(strcmp(text, "pq") == 0);
    CHECK_EQ(virtio_rig_config(rig, 8, 4), 0);
    close(pair[1]);
    virtio_rig_config_write(rig, 8, 4, 'r');
    virtio_rig_free(rig);
    close(pair[0]);
}
