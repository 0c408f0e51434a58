// SPDX-License-Identifier: Apache-2.0
#include "vfio_bell.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VECTORS_MAX 4u
#define BUSY_MS 2000

static const char CONTAINER[] = "/dev/vfio/vfio";
static const char DRIVER[] = "/sys/bus/pci/drivers/vfio-pci";
static const char PROBE[] = "/sys/bus/pci/drivers_probe";

static bool write_text(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    const int error = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    errno = error;
    return written;
}

/* The last part of where a symbolic link of the function's leads; empty where there is none. */
static void link_of(const char *directory, const char *name, char *out, size_t bytes)
{
    char path[400];
    char target[400];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    const ssize_t length = readlink(path, target, sizeof(target) - 1);
    target[length > 0 ? length : 0] = '\0';
    (void)snprintf(out, bytes, "%s", length > 0 ? basename(target) : "");
}

static bool is_ours(const char *directory)
{
    char driver[64];
    link_of(directory, "driver", driver, sizeof(driver));
    return strcmp(driver, "vfio-pci") == 0;
}

/* By driver_override: it is this function alone that is bound. */
static bool override(const char *directory, const char *driver)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/driver_override", directory);
    return write_text(path, driver);
}

static bool bind(const char *directory, const char *address)
{
    char driver[64];
    link_of(directory, "driver", driver, sizeof(driver));
    if (driver[0] != '\0' || access(DRIVER, F_OK) != 0) {
        errno = driver[0] != '\0' ? EBUSY : errno;
        return is_ours(directory);
    }
    return override(directory, "vfio-pci") && write_text(PROBE, address) && is_ours(directory);
}

static void unbind(const char *directory, const char *address)
{
    char path[400];
    const int error = errno;
    (void)snprintf(path, sizeof(path), "%s/unbind", DRIVER);
    (void)write_text(path, address);
    (void) override(directory, "\n");
    errno = error;
}

/* A group is one process's. The one that had it before may be about to leave. */
static int open_group(const char *number)
{
    char path[100];
    int fd = -1;
    (void)snprintf(path, sizeof(path), "/dev/vfio/%s", number);
    for (int turn = 0; turn < BUSY_MS && fd < 0; turn++) {
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 || errno != EBUSY) {
            break;
        }
        (void)usleep(1000);
    }
    return fd;
}

static bool route_vectors(const struct vfio_bell *bell)
{
    struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
    union {
        struct vfio_irq_set set;
        uint8_t bytes[sizeof(struct vfio_irq_set) + VECTORS_MAX * sizeof(int32_t)];
    } request = {0};
    if (ioctl(bell->device, VFIO_DEVICE_GET_IRQ_INFO, &info) != 0 || info.count == 0) {
        return false;
    }
    request.set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    request.set.index = VFIO_PCI_MSIX_IRQ_INDEX;
    request.set.count = info.count < VECTORS_MAX ? info.count : VECTORS_MAX;
    request.set.argsz = (uint32_t)(sizeof(request.set) + request.set.count * sizeof(int32_t));
    const int32_t event = bell->event;
    for (uint32_t i = 0; i < request.set.count; i++) {
        memcpy(request.set.data + i * sizeof(event), &event, sizeof(event));
    }
    return ioctl(bell->device, VFIO_DEVICE_SET_IRQS, &request) == 0;
}

static bool open_bound(struct vfio_bell *bell, const char *directory, const char *address,
                       int flags)
{
    char group[64];
    link_of(directory, "iommu_group", group, sizeof(group));
    bell->container = open(CONTAINER, O_RDWR | O_CLOEXEC);
    bell->group = bell->container < 0 ? -1 : open_group(group);
    if (bell->group < 0 || ioctl(bell->group, VFIO_GROUP_SET_CONTAINER, &bell->container) != 0 ||
        ioctl(bell->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) {
        return false;
    }
    bell->device = ioctl(bell->group, VFIO_GROUP_GET_DEVICE_FD, address);
    bell->event = bell->device < 0 ? -1 : eventfd(0, EFD_CLOEXEC | flags);
    return bell->event >= 0 && route_vectors(bell);
}

bool vfio_bell_open(struct vfio_bell *bell, const char *directory, int flags)
{
    char copy[400];
    *bell = (struct vfio_bell){.container = -1, .group = -1, .device = -1, .event = -1};
    (void)snprintf(copy, sizeof(copy), "%s", directory);
    const char *address = basename(copy);
    const bool was_ours = is_ours(directory);
    if (bind(directory, address) && open_bound(bell, directory, address, flags)) {
        return true;
    }
    vfio_bell_close(bell);
    if (!was_ours && is_ours(directory)) {
        unbind(directory, address);
    }
    return false;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void vfio_bell_close(struct vfio_bell *bell)
{
    const int error = errno;
    close_one(&bell->device);
    close_one(&bell->event);
    close_one(&bell->group);
    close_one(&bell->container);
    errno = error;
}
