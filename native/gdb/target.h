/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GD_TARGET_H
#define GD_TARGET_H

#include "session.h"

/** A machine of libvmmhpc as a target; opaque is its struct vmmhpc. */
extern const struct gd_target gd_machine_target;

#endif
