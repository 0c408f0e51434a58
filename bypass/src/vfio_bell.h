/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of a PCI function in a program of Linux, by VFIO (vfio-pci, vfio_iommu_type1): MSI-X,
 * so that the kernel neither asks the function nor masks anything. Knows nothing of libbypass.
 */
#ifndef BYPASS_VFIO_BELL_H
#define BYPASS_VFIO_BELL_H

#include <stdbool.h>

struct vfio_bell {
    int container, group, device; /* held open, or -1 */
    int event; /* eventfd: a read of 8 bytes gives the number of interrupts since the last */
};

/*
 * Bind the function at `directory` (/sys/bus/pci/devices/…) to vfio-pci, unless another driver has
 * it, and have all of its vectors signal one eventfd with these flags (EFD_NONBLOCK or 0). False,
 * with errno, where VFIO is not there or does not want to: then the function is as it was. Its
 * memory decoding is on afterwards; BARs are left alone, so that /dev/mem may map them.
 */
bool vfio_bell_open(struct vfio_bell *bell, const char *directory, int flags);

/* Interrupts off. The function stays bound. Also for one that is all -1. */
void vfio_bell_close(struct vfio_bell *bell);

#endif
