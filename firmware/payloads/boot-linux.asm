; SPDX-License-Identifier: Apache-2.0
; Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst): 64-bit mode, rsi at boot_params.
; Built as a bzImage and, with -D ELF, as an ELF64 like vmlinux.
%ifndef ELF
%define SETUP_BYTES 1024
%define LINK_BASE (0x100000 - SETUP_BYTES)
%endif
%include "boot.inc"

CODE_BYTES      equ 0x1400      ; fixed, as the header names it; the file is filled up to it
FILL            equ 0x100000 + CODE_BYTES - 16

%ifdef ELF
        ELF64   start, note, note_end - note
align 4
note:   dd      6, 4, 0x101             ; the owner says which loader is meant
        db      "Linux", 0, 0, 0
        dd      0
note_end:
%else
%macro AT 1                             ; go on at this offset
        times %1 - ($ - $$) db 0
%endmacro
        AT      0x1f1
        db      SETUP_BYTES / 512 - 1   ; setup_sects
        AT      0x1f4
        dd      CODE_BYTES / 16         ; syssize
        AT      0x1fe
        dw      0xaa55
        jmp     short header_end
        db      "HdrS"
        dw      0x20c                   ; version
        AT      0x211
        db      1                       ; loadflags: loaded high
        AT      0x214
        dd      0x100000                ; code32_start
        AT      0x22c
        dd      0x7fffffff              ; initrd_addr_max
        dd      0x1000                  ; kernel_alignment
        db      0, 12                   ; not relocatable
        dw      1                       ; xloadflags: 64-bit entry point
        dd      2047                    ; cmdline_size
        AT      0x258
        dq      0x100000                ; pref_address
        dd      0x10000                 ; init_size
        dd      0
header_end:
        AT      SETUP_BYTES + 0x200     ; the 64-bit entry point
%endif

start:  mov     esp, stack
        mov     rbx, rsi
        call    tables_init
        cmp     dword [rbx + 0x202], 0x53726448
        jne     .bad
        PRINT   "boot: linux", 10
        mov     r12d, [rbx + 0x228]
        mov     r13d, [rbx + 0x218]
        mov     r14d, [rbx + 0x21c]
        mov     r15, [rbx + 0x70]       ; acpi_rsdp_addr
        lea     rsi, [rbx + 0x2d0]
        movzx   ecx, byte [rbx + 0x1e8]
        mov     edx, 20
        jmp     report
.bad:   FAIL    "no setup header"

section .data
%ifndef ELF
section .fill start=FILL align=16
        times 16 db 0
%endif
file_end:
section .bss
bss_end:
