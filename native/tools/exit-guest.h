/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest of the exit benchmark, in 16-bit real mode: WARM times OUT and IN at DATA_PORT, OUT at
 * MARK_PORT, COUNT times the same, OUT at MARK_PORT, power off. bench/exit/guest.ts has the same.
 */
#ifndef EXIT_GUEST_H
#define EXIT_GUEST_H

#include <stdint.h>
#include <string.h>

#define EXIT_GUEST_GPA 0x1000u
#define EXIT_DATA_PORT 0xf0u
#define EXIT_MARK_PORT 0xf2u
#define EXIT_END_PORT 0x600u /* libvmmhpc's sleep control register */

#define EXIT_GUEST_BYTES 47u
#define EXIT_WARM_AT 2u
#define EXIT_COUNT_AT 21u

static inline void exit_guest(uint8_t image[EXIT_GUEST_BYTES], uint32_t warm, uint32_t count)
{
    static const uint8_t code[EXIT_GUEST_BYTES] = {
        0x66, 0xb9, 0,    0,    0,    0,    /*     mov ecx, WARM */
        0xba, 0xf0, 0x00,                   /*     mov dx, DATA_PORT */
        0xee,                               /* 1:  out dx, al */
        0xec,                               /*     in al, dx */
        0x66, 0x49,                         /*     dec ecx */
        0x75, 0xfa,                         /*     jnz 1b */
        0xba, 0xf2, 0x00, 0xee,             /*     out MARK_PORT, al */
        0x66, 0xb9, 0,    0,    0,    0,    /*     mov ecx, COUNT */
        0xba, 0xf0, 0x00,                   /*     mov dx, DATA_PORT */
        0xee,                               /* 1:  out dx, al */
        0xec,                               /*     in al, dx */
        0x66, 0x49,                         /*     dec ecx */
        0x75, 0xfa,                         /*     jnz 1b */
        0xba, 0xf2, 0x00, 0xee,             /*     out MARK_PORT, al */
        0xb0, 0x34, 0xba, 0x00, 0x06, 0xee, /*     out END_PORT, 0x34: power off */
        0xf4,                               /* 2:  hlt */
        0xeb, 0xfd,                         /*     jmp 2b */
    };
    memcpy(image, code, sizeof(code));
    memcpy(image + EXIT_WARM_AT, &warm, sizeof(warm));
    memcpy(image + EXIT_COUNT_AT, &count, sizeof(count));
}

#endif
