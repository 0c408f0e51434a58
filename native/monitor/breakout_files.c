/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts on files and networks. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "monitor/breakout.h"

#define ATTEMPT(name) static int name(__attribute__((unused)) const struct vh_breakout_world *world)

static int outcome(long result)
{
    return result < 0 ? errno : 0;
}

ATTEMPT(open_absolute)
{
    return outcome(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

ATTEMPT(open_relative)
{
    return outcome(open("../../../../../../etc/passwd", O_RDONLY | O_CLOEXEC));
}

ATTEMPT(open_system_call)
{
    return outcome(syscall(SYS_open, "/proc/self/status", O_RDONLY));
}

ATTEMPT(open_proc)
{
    return outcome(open("/proc/1/root/etc/passwd", O_RDONLY | O_CLOEXEC));
}

ATTEMPT(open_device)
{
    return outcome(open("/dev/kvm", O_RDWR | O_CLOEXEC));
}

ATTEMPT(open_by_openat2)
{
    const struct open_how how = {.flags = O_RDONLY};
    return outcome(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how)));
}

/* A directory that was left open would be a way out by its "..". */
ATTEMPT(open_by_descriptor)
{
    int error = EBADF;
    for (int fd = 0; fd < 64 && error != 0; fd++) {
        int found = openat(fd, "../../../../etc/passwd", O_RDONLY | O_CLOEXEC);
        error = found >= 0 ? 0 : errno;
    }
    return error;
}

ATTEMPT(stat_by_path)
{
    struct stat info;
    return outcome(stat("/etc/passwd", &info));
}

/* What newfstatat's filter lets pass: the kernel still looks at the path. */
ATTEMPT(stat_with_empty_path_flag)
{
    struct stat info;
    return outcome(fstatat(AT_FDCWD, "/etc/passwd", &info, AT_EMPTY_PATH));
}

ATTEMPT(create_file)
{
    return outcome(open("/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

ATTEMPT(make_directory)
{
    return outcome(mkdir("/directory", 0700));
}

ATTEMPT(list_directory)
{
    return outcome(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

ATTEMPT(connect_inet)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    /* Refused by the host's network is reached as well. */
    return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == ECONNREFUSED ? 0
                                                                                         : errno;
}

ATTEMPT(send_inet6)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    to.sin6_addr = in6addr_loopback;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    return outcome(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
}

uint32_t vh_breakout_abstract(const struct vh_breakout_world *world, struct sockaddr_un *to)
{
    size_t length = strlen(world->abstract);
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length > sizeof(to->sun_path) - 1) {
        length = sizeof(to->sun_path) - 1;
    }
    memcpy(to->sun_path + 1, world->abstract, length);
    return (uint32_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

ATTEMPT(connect_abstract)
{
    struct sockaddr_un to;
    socklen_t length = vh_breakout_abstract(world, &to);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    return outcome(connect(fd, (struct sockaddr *)&to, length));
}

/* Hand a descriptor to somebody else. */
ATTEMPT(send_descriptor)
{
    struct sockaddr_un to;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {"x", 1};
    struct msghdr message = {.msg_name = &to,
                             .msg_namelen = vh_breakout_abstract(world, &to),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    return sendmsg(fd, &message, 0) >= 0 || errno == EPROTOTYPE ? 0 : errno;
}

ATTEMPT(packet_socket)
{
    return outcome(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
}

/* What an ioctl() on any socket tells: the host's interfaces, from the second one on. */
ATTEMPT(see_interfaces)
{
    struct ifreq request = {.ifr_ifindex = 2};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (; fd >= 0 && request.ifr_ifindex < 64; request.ifr_ifindex++) {
        if (ioctl(fd, SIOCGIFNAME, &request) == 0 && strcmp(request.ifr_name, "tunl0") != 0 &&
            strcmp(request.ifr_name, "sit0") != 0) {
            return 0;
        }
    }
    return errno;
}

const struct vh_breakout_attempt vh_breakout_files[] = {
    {"open-absolute", open_absolute, VH_LAYER_ROOT, false},
    {"open-relative", open_relative, VH_LAYER_ROOT, false},
    {"open-system-call", open_system_call, VH_LAYER_ROOT, false},
    {"open-proc", open_proc, VH_LAYER_ROOT, false},
    {"open-device", open_device, VH_LAYER_ROOT, false},
    {"open-by-openat2", open_by_openat2, VH_LAYER_ROOT, false},
    {"open-by-descriptor", open_by_descriptor, VH_LAYER_ROOT, false},
    {"stat-by-path", stat_by_path, VH_LAYER_ROOT, false},
    {"stat-with-empty-path-flag", stat_with_empty_path_flag, VH_LAYER_ROOT, false},
    {"create-file", create_file, VH_LAYER_ROOT, false},
    {"make-directory", make_directory, VH_LAYER_ROOT, false},
    {"list-directory", list_directory, VH_LAYER_ROOT, false},
    {"connect-inet", connect_inet, VH_LAYER_NET_NS, false},
    {"send-inet6", send_inet6, VH_LAYER_NET_NS, false},
    {"connect-abstract", connect_abstract, VH_LAYER_NET_NS, false},
    {"send-descriptor", send_descriptor, VH_LAYER_NET_NS, false},
    {"packet-socket", packet_socket, VH_LAYER_CAPABILITIES, false},
    {"see-interfaces", see_interfaces, VH_LAYER_NET_NS, false},
};
const uint32_t vh_breakout_files_count = VH_COUNT(vh_breakout_files);
