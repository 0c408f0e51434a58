/* SPDX-License-Identifier: Apache-2.0 */
/* What libvmmhpc-place calls. */
#include "place_hooks.h"

const struct vh_place_hooks *vmmhpc_place_hooks(void)
{
    static const struct vh_place_hooks hooks = {
        .machine_bytes = sizeof(struct vmmhpc),
        .kvm_build = vh_kvm_build,
        .kvm_teardown = vh_kvm_teardown,
        .thread_start = vh_thread_start,
    };
    return &hooks;
}
