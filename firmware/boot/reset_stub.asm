; SPDX-License-Identifier: Apache-2.0
; The reset vector as real mode sees it, F000:FFF0. Linux jumps here to reboot under
; hardware-reduced ACPI without EFI. The library holds these bytes in native/src/reset_stub.h;
; a test compares them.
bits 16
org 0xfff0
        cli
        mov     dx, 0xcf9
        mov     al, 6
        out     dx, al
.stop:  hlt
        jmp     .stop
