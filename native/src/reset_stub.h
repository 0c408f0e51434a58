/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands at F000:FFF0, the reset vector, for a guest that jumps there to reboot. Linux does so
 * under hardware-reduced ACPI without EFI, where "reboot=" is not given. At most 16 bytes.
 */
#ifndef VH_RESET_STUB_H
#define VH_RESET_STUB_H

#include <stdint.h>

#include "layout.h"

/* clang-format off */
static const uint8_t vh_reset_stub[] = {
    0xfa,                                           /*       cli                    */
    0xba, VH_RESET_PORT & 0xff, VH_RESET_PORT >> 8, /*       mov dx, VH_RESET_PORT  */
    0xb0, VH_RESET_VALUE,                           /*       mov al, VH_RESET_VALUE */
    0xee,                                           /*       out dx, al             */
    0xf4,                                           /* stop: hlt                    */
    0xeb, 0xfd,                                     /*       jmp stop               */
};
/* clang-format on */

_Static_assert(sizeof(vh_reset_stub) <= 16, "it ends where the address space of real mode does");

#endif
