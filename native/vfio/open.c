/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a function: its IOMMU group, in a container of its own, and the function in the group. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"
#include "vmmhpc_vfio.h"

#define ADDRESS_DIGITS "0123456789abcdef"

/* dddd:bb:ss.f: nothing else goes into a path. */
static bool is_address(const char *address)
{
    static const char shape[] = "xxxx:xx:xx.x";
    if (address == NULL || strlen(address) != sizeof(shape) - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == 'x' ? strchr(ADDRESS_DIGITS, address[i]) == NULL : address[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

/* The number of its group. (One without an IOMMU has no device file of this number.) */
static int32_t find_group(const char *address, unsigned long *group, struct vmmhpc_error *err)
{
    char path[128];
    char target[PATH_MAX];
    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
    if (access(path, F_OK) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, errno, 0, "there is no PCI function %s", address);
    }
    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
    const ssize_t length = readlink(path, target, sizeof(target) - 1);
    if (length <= 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, 0,
                       "%s is behind no IOMMU: this host has none, or it is off", address);
    }
    target[length] = '\0';
    const char *name = strrchr(target, '/');
    *group = strtoul(name == NULL ? target : name + 1, NULL, 10);
    return VMMHPC_OK;
}

static int32_t cannot_open(const char *path, const char *address, struct vmmhpc_error *err)
{
    const int failed = errno;
    if (failed == EACCES || failed == EPERM) {
        return vh_fail(err, VMMHPC_E_PERMISSION, failed, 0,
                       "no permission to open %s for reading and writing", path);
    }
    if (failed == EBUSY) {
        return vh_fail(err, VMMHPC_E_STATE, failed, 0, "%s, with all of its group, is in use",
                       address);
    }
    if (failed == ENOENT && strcmp(path, "/dev/vfio/vfio") != 0) {
        return vh_fail(err, VMMHPC_E_STATE, failed, 0, "%s is not bound to vfio-pci", address);
    }
    return vh_fail(err, VMMHPC_E_UNSUPPORTED, failed, 0, "cannot open %s: %s", path,
                   vh_errno_text(failed));
}

static int32_t open_group(const char *address, unsigned long group, struct vmmhpc_vfio *vfio,
                          struct vmmhpc_error *err)
{
    char path[64];
    struct vfio_group_status status = {.argsz = sizeof(status)};
    (void)snprintf(path, sizeof(path), "/dev/vfio/%lu", group);
    vfio->group = open(path, O_RDWR | O_CLOEXEC);
    if (vfio->group < 0) {
        return cannot_open(path, address, err);
    }
    if (ioctl(vfio->group, VFIO_GROUP_GET_STATUS, &status) != 0 ||
        (status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
        return vh_fail(err, VMMHPC_E_STATE, 0, 0,
                       "%s shares IOMMU group %lu with devices that are bound to other drivers",
                       address, group);
    }
    return VMMHPC_OK;
}

static int32_t open_all(const char *address, struct vmmhpc_vfio *vfio, struct vmmhpc_error *err)
{
    static const char container[] = "/dev/vfio/vfio";
    unsigned long group = 0;
    int32_t status = find_group(address, &group, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    vfio->container = open(container, O_RDWR | O_CLOEXEC);
    if (vfio->container < 0) {
        return cannot_open(container, address, err);
    }
    if (ioctl(vfio->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
        ioctl(vfio->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, 0, 0,
                       "this host's VFIO has no IOMMU of type 1 (modprobe vfio_iommu_type1)");
    }
    status = open_group(address, group, vfio, err);
    if (status != VMMHPC_OK) {
        return status;
    }
    if (ioctl(vfio->group, VFIO_GROUP_SET_CONTAINER, &vfio->container) != 0 ||
        ioctl(vfio->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) {
        return vh_fail(err, errno == EPERM ? VMMHPC_E_PERMISSION : VMMHPC_E_UNSUPPORTED, errno, 0,
                       "the IOMMU does not take group %lu: %s", group, vh_errno_text(errno));
    }
    vfio->device = ioctl(vfio->group, VFIO_GROUP_GET_DEVICE_FD, address);
    if (vfio->device < 0) {
        return vh_fail(err, errno == ENODEV ? VMMHPC_E_STATE : VMMHPC_E_SYSCALL, errno, 0,
                       "cannot open %s: %s%s", address, vh_errno_text(errno),
                       errno == ENODEV ? " (it is not bound to vfio-pci)" : "");
    }
    return VMMHPC_OK;
}

int32_t vmmhpc_vfio_open(const char *address, struct vmmhpc_vfio *out, struct vmmhpc_error *err)
{
    if (out == NULL || out->size != sizeof(*out)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0, "struct vmmhpc_vfio has another size");
    }
    if (!is_address(address)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, 0,
                       "%s is no address of a PCI function, such as 0000:00:04.0",
                       address == NULL ? "nothing" : address);
    }
    out->container = out->group = out->device = -1;
    const int32_t status = open_all(address, out, err);
    if (status != VMMHPC_OK) {
        vmmhpc_vfio_close(out);
    }
    return status;
}

void vmmhpc_vfio_close(struct vmmhpc_vfio *vfio)
{
    if (vfio == NULL) {
        return;
    }
    int *const fds[] = {&vfio->device, &vfio->group, &vfio->container};
    for (size_t i = 0; i < VH_COUNT(fds); i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
        }
        *fds[i] = -1;
    }
}
