/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VH_HOST_H
#define VH_HOST_H

#include "internal.h"

/** QEMU's TCG does not let XSETBV of a nested guest work, so a guest that is offered XSAVE there
 *  believes in state that is never saved. */
bool vh_xsave_is_broken(void);

/** Frequency of the host's TSC, measured against the monotonic clock (takes about 2 ms). */
uint64_t vh_measure_tsc_khz(void);

#endif
