/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in: PVH and multiboot 1 (32-bit, paging off), Linux's 64-bit boot protocol, and other CPUs
 * by SIPI. All end in 64-bit mode in the high half. This file is linked where it is loaded.
 */
#include "x86.h"

/* As in vmmhpc_yod.h, which is C; boot.c compares. */
#define YOD_PORT_MAGIC 0xe00
#define YOD_PORT_TRACE 0xe0c
#define YOD_MAGIC 0x31444f59
#define YOD_TRACE_ENTRY 1

#define BOOT_MULTIBOOT 1
#define BOOT_PVH 2
#define BOOT_LINUX 3

/* ------------------------------------------------------------------ headers */

    .section .boot, "awx"
    /* Multiboot 1 with address fields (3.1.3): QEMU takes an ELF64 file by nothing else. */
#define MULTIBOOT_FLAGS 0x10003 /* modules on page boundaries, memory map, address fields */
    .balign 4
multiboot_header:
    .long 0x1badb002
    .long MULTIBOOT_FLAGS
    .long -(0x1badb002 + MULTIBOOT_FLAGS)
    .long multiboot_header
    .long image_start
    .long image_data_end_pa
    .long image_end_pa
    .long start_multiboot

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18 /* name's length, description's, XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start_pvh

/* -------------------------------------------------------------------- ways in */

    /* Note the time, and tell yod where it listens. Uses eax and edx. */
    /* Paging on, with the boot page tables, in long mode's compatibility mode (SDM 3A, 9.8.5). */
    .macro paging_on
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    mov $EFER_LME, %eax
    xor %edx, %edx
    wrmsr
    mov $CR0_PG | CR0_PE, %eax
    mov %eax, %cr0
    .endm

    .macro trace_entry
    rdtsc
    mov %eax, boot_tsc
    mov %edx, boot_tsc + 4
    mov $YOD_PORT_MAGIC, %edx
    in (%dx), %eax
    cmp $YOD_MAGIC, %eax
    jne 1f
    mov $YOD_PORT_TRACE, %edx
    mov $YOD_TRACE_ENTRY, %eax
    out %eax, (%dx)
1:
    .endm

    /* The first 4 GiB one to one and at DIRECT_BASE, and the first of them at KERNEL_BASE, by pages of
     * 2 MiB. The same instructions in either mode. Uses eax, ecx. */
    .macro boot_tables
    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pdpt + 3, boot_pml4 + 256 * 8
    movl $boot_pdpt_high + 3, boot_pml4 + 511 * 8
    movl $boot_pd + 3, boot_pdpt_high + 510 * 8
    mov $boot_pd + 3, %eax
    xor %ecx, %ecx
1:  mov %eax, boot_pdpt(, %ecx, 8)
    add $0x1000, %eax
    inc %ecx
    cmp $4, %ecx
    jne 1b
    mov $0x83, %eax /* present, writable, large */
    xor %ecx, %ecx
1:  mov %eax, boot_pd(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $2048, %ecx
    jne 1b
    .endm

    .section .boot, "awx"
    .code32
start_pvh: /* ebx: start info */
    mov $BOOT_PVH, %edi
    jmp 1f
start_multiboot: /* ebx: multiboot info */
    mov $BOOT_MULTIBOOT, %edi
1:  cld
    mov %ebx, %esi
    trace_entry
    boot_tables
    paging_on
    lgdt boot_gdt_pointer
    ljmp $SEL_KERNEL_CS, $start_high

    .code64
    .globl start_linux
start_linux: /* rsi: boot_params; 4 GiB are mapped one to one */
    cld
    mov $BOOT_LINUX, %edi
    trace_entry
    boot_tables
    mov $boot_pml4, %eax
    mov %rax, %cr3
    lgdt boot_gdt_pointer
    pushq $SEL_KERNEL_CS
    pushq $start_high
    lretq

start_high:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_top, %rsp
    xor %ebp, %ebp
    mov $qk_main, %rax
    call *%rax

    .balign 8
boot_gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff /* SEL_KERNEL_CS */
    .quad 0x00cf93000000ffff /* SEL_KERNEL_DS */
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .quad boot_gdt
    .globl boot_tsc
    .balign 8
boot_tsc:
    .quad 0

/* ------------------------------------------------------------------ other CPUs */

    /* Copied to a page below 1 MiB, which is cs; real mode. From there to long mode at once: PE and PG
     * in one move (AMD APM volume 2, 14.6). */
    .section .rodata
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl trampoline_gdt - trampoline
    paging_on
    ljmpl $SEL_KERNEL_CS, $ap_high
    .balign 4
trampoline_gdt:
    .word 31
    .long boot_gdt
trampoline_end:

    /* Still on boot_pml4: on to the tables that have the stacks, of which each CPU takes the next. */
    .section .boot, "awx"
    .code64
ap_high:
    mov $ap_high_half, %rax
    jmp *%rax
    .text
ap_high_half:
    mov $MSR_EFER, %ecx
    mov ap_efer, %eax
    xor %edx, %edx
    wrmsr
    mov kernel_cr3, %rax
    mov %rax, %cr3
    mov $1, %eax
    lock xadd %rax, ap_next
    mov ap_stacks(, %rax, 8), %rsp
    xor %ebp, %ebp
    xor %ecx, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov %eax, %edi
    call ap_main

    /* void return_to_frame(struct frame *): the end of trap_entry.S */
    .globl return_to_frame
return_to_frame:
    mov %rdi, %rax
    jmp return_to_user

    .section .bss.boot, "aw", @nobits
    .globl boot_pml4
    .balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pdpt_high:
    .skip 4096
boot_pd:
    .skip 4 * 4096

    .bss
    .balign 16
    .skip 8192
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
