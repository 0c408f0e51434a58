/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the Linux 64-bit boot protocol that bzImage and vmlinux have in common. */
#ifndef VH_BOOT_LINUX_H
#define VH_BOOT_LINUX_H

#include <asm/bootparam.h>

#include "place.h"

#define VH_LINUX_LOW (VH_LOW_TABLES | VH_LOW_BOOT_PARAMS | VH_LOW_CMDLINE | VH_LOW_ROM)

/**
 * Place the initrd (below initrd_end), the command line (at most cmdline_max characters), the
 * tables and boot_params, whose header the caller has filled with what the kernel says.
 */
int32_t vh_linux_finish(struct vh_memory *memory, const struct vh_boot_source *source,
                        struct vh_claims *claims, struct boot_params *params,
                        struct vh_entry *entry, struct vmmhpc_error *err);

#endif
