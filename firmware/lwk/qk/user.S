/* SPDX-License-Identifier: Apache-2.0 */
/* The only places where the QK touches user memory, by user addresses that user.c has found to be below
 * LWK_APP_HIGH. A page fault between user_code and user_code_end goes on at user_fault (trap.c), with the
 * stack as at the function's entry. */

    /* Under SMAP; see trap_entry.S. */
    .macro smap_site bytes:vararg
9:  .byte 0x0f, 0x1f, 0x00
    .pushsection .smap_sites, "a"
    .quad 9b
    .byte \bytes, 0, 0, 0, 0, 0
    .popsection
    .endm
#define STAC smap_site 0x0f, 0x01, 0xcb
#define CLAC smap_site 0x0f, 0x01, 0xca

    .text
    .globl user_code, user_code_end, user_fault, user_copy, user_load, user_cmpxchg
user_code:

    /* int64_t user_copy(void *to, const void *from, uint64_t bytes) */
user_copy:
    STAC
    mov %rdx, %rcx
    shr $3, %rcx
    rep movsq
    mov %edx, %ecx
    and $7, %ecx
    rep movsb
    CLAC
    xor %eax, %eax
    ret

    /* int64_t user_load(const uint32_t *from, uint32_t *to) */
user_load:
    STAC
    mov (%rdi), %ecx
    CLAC
    mov %ecx, (%rsi)
    xor %eax, %eax
    ret

    /* int64_t user_cmpxchg(uint32_t *at, uint32_t *expected, uint32_t desired) */
user_cmpxchg:
    mov (%rsi), %eax
    STAC
    lock cmpxchg %edx, (%rdi)
    CLAC
    mov %eax, (%rsi)
    xor %eax, %eax
    ret

user_code_end:
user_fault:
    CLAC
    mov $-14, %rax /* -EFAULT */
    ret

    .section .note.GNU-stack, "", @progbits
