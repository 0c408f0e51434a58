/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <errno.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Guest frames are mapped by 2 MiB entries only where host and guest address agree modulo 2 MiB. */
#define HOST_ALIGNMENT (2 * VH_MIB)
#define NUMA_NODE_MAX 1024

static uint64_t page_bytes(uint32_t backing)
{
    switch (backing) {
    case VMMHPC_BACKING_HUGE_2M:
        return 2 * VH_MIB;
    case VMMHPC_BACKING_HUGE_1G:
        return VH_GIB;
    default:
        return VH_PAGE;
    }
}

/* Reserve address space and give back what lies outside the aligned part. */
static void *map_aligned(uint64_t bytes, uint64_t alignment, int prot)
{
    uint64_t span = 0;
    if (!vh_add(bytes, alignment, &span)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    uint8_t *start = mmap(NULL, span, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return MAP_FAILED;
    }
    uint64_t head = (alignment - ((uintptr_t)start & (alignment - 1))) & (alignment - 1);
    uint64_t tail = span - head - bytes;
    if (head > 0) {
        (void)munmap(start, head);
    }
    if (tail > 0) {
        (void)munmap(start + head + bytes, tail);
    }
    return start + head;
}

static int32_t check_spec(const struct vmmhpc_memory *spec, uint32_t index,
                          struct vmmhpc_error *err)
{
    if (spec->size != sizeof(*spec)) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, spec->size, "memory region %u: bad structure size",
                       index);
    }
    if (spec->backing > VMMHPC_BACKING_HUGE_1G || (spec->flags & ~VMMHPC_MEMORY_PREFAULT) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, spec->backing,
                       "memory region %u: unknown backing or flags", index);
    }
    if (spec->bytes == 0 || spec->bytes % page_bytes(spec->backing) != 0) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, spec->bytes,
                       "memory region %u: size is not a positive multiple of its page size", index);
    }
    if (spec->bytes > 1ull << 46) {
        return vh_fail(err, VMMHPC_E_NO_MEMORY, 0, spec->bytes,
                       "memory region %u: more than the address space holds", index);
    }
    return VMMHPC_OK;
}

static int32_t bind_node(void *base, uint64_t bytes, int32_t node, struct vmmhpc_error *err)
{
    unsigned long mask[NUMA_NODE_MAX / (8 * sizeof(unsigned long))] = {0};
    if (node < 0 || node >= NUMA_NODE_MAX) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, (uint64_t)(int64_t)node,
                       "NUMA node %d is out of range", node);
    }
    const unsigned bits = 8 * sizeof(unsigned long);
    mask[(unsigned)node / bits] |= 1ul << ((unsigned)node % bits);
    if (syscall(SYS_mbind, base, bytes, MPOL_BIND, mask, NUMA_NODE_MAX, 0) != 0) {
        return vh_fail(err, errno == EINVAL ? VMMHPC_E_INVALID : VMMHPC_E_SYSCALL, errno,
                       (uint64_t)node, "cannot bind guest memory to NUMA node %d", node);
    }
    return VMMHPC_OK;
}

static int32_t map_region(struct vh_mapping *mapping, const struct vmmhpc_memory *spec,
                          struct vmmhpc_error *err)
{
    uint64_t alignment = page_bytes(spec->backing);
    if (alignment < HOST_ALIGNMENT) {
        alignment = HOST_ALIGNMENT;
    }
    mapping->fd = -1;
    mapping->bytes = spec->bytes;
    mapping->numa_node = spec->numa_node;
    mapping->base = map_aligned(spec->bytes, alignment, PROT_READ | PROT_WRITE);
    if (mapping->base == MAP_FAILED) {
        mapping->base = NULL;
        return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, spec->bytes,
                       "cannot reserve %llu MiB of address space for guest memory",
                       (unsigned long long)(spec->bytes >> 20));
    }
    if (spec->backing >= VMMHPC_BACKING_MEMFD) {
        unsigned flags = MFD_CLOEXEC;
        if (spec->backing == VMMHPC_BACKING_HUGE_2M) {
            flags |= MFD_HUGETLB | MFD_HUGE_2MB;
        } else if (spec->backing == VMMHPC_BACKING_HUGE_1G) {
            flags |= MFD_HUGETLB | MFD_HUGE_1GB;
        }
        mapping->fd = memfd_create("vmmhpc-ram", flags);
        if (mapping->fd < 0 || ftruncate(mapping->fd, (off_t)spec->bytes) != 0 ||
            mmap(mapping->base, spec->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 mapping->fd, 0) == MAP_FAILED) {
            int saved = errno;
            if (spec->backing == VMMHPC_BACKING_MEMFD) {
                return vh_fail(err, VMMHPC_E_NO_MEMORY, saved, spec->bytes,
                               "cannot create a memfd for guest memory");
            }
            return vh_fail(err, VMMHPC_E_NO_MEMORY, saved, spec->bytes,
                           "not enough free huge pages of %llu MiB for %llu MiB of guest memory",
                           (unsigned long long)(page_bytes(spec->backing) >> 20),
                           (unsigned long long)(spec->bytes >> 20));
        }
    }
    if (spec->backing == VMMHPC_BACKING_THP &&
        madvise(mapping->base, spec->bytes, MADV_HUGEPAGE) != 0) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, spec->bytes,
                       "this kernel has no transparent huge pages");
    }
    if (spec->backing == VMMHPC_BACKING_ANON) {
        /* Asked for 4 KiB pages, so do not let the host's "always" policy decide otherwise. */
        (void)madvise(mapping->base, spec->bytes, MADV_NOHUGEPAGE);
    }
    (void)madvise(mapping->base, spec->bytes, MADV_DONTFORK);
    (void)madvise(mapping->base, spec->bytes, MADV_DONTDUMP);
    if (spec->numa_node != -1) {
        int32_t status = bind_node(mapping->base, spec->bytes, spec->numa_node, err);
        if (status != VMMHPC_OK) {
            return status;
        }
    }
    return VMMHPC_OK;
}

/* Touching more than the host has would call the out-of-memory killer, not fail: ask first. */
static int32_t prefault(const struct vh_mapping *mapping, bool huge, struct vmmhpc_error *err)
{
    struct sysinfo info;
    if (!huge && sysinfo(&info) == 0) {
        uint64_t total = (uint64_t)info.totalram * info.mem_unit;
        if (mapping->bytes > total) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, ENOMEM, mapping->bytes,
                           "cannot pre-fault %llu MiB: this host has %llu MiB",
                           (unsigned long long)(mapping->bytes >> 20),
                           (unsigned long long)(total >> 20));
        }
    }
    int result = 0;
    do {
        result = madvise(mapping->base, mapping->bytes, MADV_POPULATE_WRITE);
    } while (result != 0 && (errno == EINTR || errno == EAGAIN));
    if (result == 0) {
        return VMMHPC_OK;
    }
    if (errno == EINVAL) {
        return vh_fail(err, VMMHPC_E_UNSUPPORTED, errno, mapping->bytes,
                       "pre-faulting needs Linux 5.14 or later");
    }
    return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, mapping->bytes,
                   "cannot pre-fault %llu MiB of guest memory",
                   (unsigned long long)(mapping->bytes >> 20));
}

static void add_slot(struct vh_memory *memory, const struct vh_mapping *mapping, uint64_t gpa,
                     uint64_t offset, uint64_t bytes)
{
    memory->slots[memory->slot_count++] = (struct vmmhpc_slot){
        .gpa = gpa,
        .bytes = bytes,
        .host = (uint64_t)(uintptr_t)mapping->base + offset,
        .fd = mapping->fd,
        .fd_offset = offset,
    };
}

/* Regions follow each other; what would fall into the hole goes on above it. */
static void place(struct vh_memory *memory, const struct vh_mapping *mapping, uint64_t *next)
{
    uint64_t low = 0;
    if (*next < VMMHPC_HOLE_START) {
        low = VMMHPC_HOLE_START - *next;
        if (low > mapping->bytes) {
            low = mapping->bytes;
        }
        add_slot(memory, mapping, *next, 0, low);
        *next += low;
    }
    if (*next == VMMHPC_HOLE_START) {
        *next = VMMHPC_HOLE_END;
    }
    if (low < mapping->bytes) {
        add_slot(memory, mapping, *next, low, mapping->bytes - low);
        *next += mapping->bytes - low;
    }
}

int32_t vh_memory_create(struct vh_memory *memory, const struct vmmhpc_memory *specs,
                         uint32_t count, struct vmmhpc_error *err)
{
    memset(memory, 0, sizeof(*memory));
    if (count == 0 || count > VMMHPC_MEMORY_MAX || specs == NULL) {
        return vh_fail(err, count > VMMHPC_MEMORY_MAX ? VMMHPC_E_LIMIT : VMMHPC_E_INVALID, 0, count,
                       "a machine has 1 to %u memory regions, not %u", VMMHPC_MEMORY_MAX, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        int32_t status = check_spec(&specs[i], i, err);
        if (status != VMMHPC_OK) {
            return status;
        }
        memory->total += specs[i].bytes; /* each at most 2^46, so 16 of them do not wrap */
    }
    if (memory->total < VMMHPC_MEMORY_MIN) {
        return vh_fail(err, VMMHPC_E_INVALID, 0, memory->total,
                       "%llu KiB of memory is too small: a machine needs at least 1 MiB",
                       (unsigned long long)(memory->total >> 10));
    }
    uint64_t next = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct vh_mapping *mapping = &memory->mappings[memory->mapping_count++];
        int32_t status = map_region(mapping, &specs[i], err);
        if (status == VMMHPC_OK && (specs[i].flags & VMMHPC_MEMORY_PREFAULT) != 0) {
            status = prefault(mapping, specs[i].backing >= VMMHPC_BACKING_HUGE_2M, err);
        }
        if (status != VMMHPC_OK) {
            vh_memory_destroy(memory);
            return status;
        }
        place(memory, mapping, &next);
    }
    return VMMHPC_OK;
}

void vh_memory_destroy(struct vh_memory *memory)
{
    for (uint32_t i = 0; i < memory->mapping_count; i++) {
        struct vh_mapping *mapping = &memory->mappings[i];
        if (mapping->base != NULL) {
            (void)munmap(mapping->base, mapping->bytes);
        }
        if (mapping->fd >= 0) {
            (void)close(mapping->fd);
        }
    }
    memset(memory, 0, sizeof(*memory));
}

int32_t vh_memory_clear(struct vh_memory *memory, struct vmmhpc_error *err)
{
    for (uint32_t i = 0; i < memory->mapping_count; i++) {
        struct vh_mapping *mapping = &memory->mappings[i];
        if (memory->restored && mapping->fd < 0 &&
            mmap(mapping->base, mapping->bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
            return vh_fail(err, VMMHPC_E_NO_MEMORY, errno, mapping->bytes,
                           "cannot clear guest memory");
        }
        /* MADV_REMOVE punches the pages out of a memfd; private pages are simply dropped. */
        int advice = mapping->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED;
        if (madvise(mapping->base, mapping->bytes, advice) != 0) {
            return vh_fail(err, VMMHPC_E_SYSCALL, errno, mapping->bytes,
                           "cannot clear guest memory");
        }
    }
    memory->restored = false;
    return VMMHPC_OK;
}

void *vh_memory_at(const struct vh_memory *memory, uint64_t gpa, uint64_t bytes)
{
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];
        /* No sum of guest-supplied numbers here, so nothing can wrap. */
        if (gpa >= slot->gpa && gpa - slot->gpa < slot->bytes &&
            bytes <= slot->bytes - (gpa - slot->gpa)) {
            return (uint8_t *)(uintptr_t)slot->host + (gpa - slot->gpa);
        }
    }
    return NULL;
}

/* For large copies libc uses "rep movsb", which is the fastest way on hardware and the slowest
 * where this host is itself emulated: TCG does it byte by byte, and vectors in pieces. Words in
 * registers are good in both. */
static void copy_words(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    uint64_t words[4];
    while (bytes >= sizeof(words)) {
        __builtin_memcpy(words, from, sizeof(words));
        /* Or the compiler makes one memcpy() of the loop. */
        __asm__("" : "+r"(words[0]), "+r"(words[1]), "+r"(words[2]), "+r"(words[3]));
        __builtin_memcpy(to, words, sizeof(words));
        to += sizeof(words);
        from += sizeof(words);
        bytes -= sizeof(words);
    }
    memcpy(to, from, bytes);
}

int32_t vh_memory_write(struct vh_memory *memory, uint64_t gpa, const void *data, uint64_t bytes,
                        const char *what, struct vmmhpc_error *err)
{
    if (bytes == 0) {
        return VMMHPC_OK;
    }
    void *target = vh_memory_at(memory, gpa, bytes);
    if (target == NULL) {
        return vh_fail(err, VMMHPC_E_NO_ROOM, 0, gpa,
                       "%s does not fit: %llu KiB at 0x%llx is not all RAM (the machine has %llu "
                       "MiB)",
                       what, (unsigned long long)((bytes + 1023) >> 10), (unsigned long long)gpa,
                       (unsigned long long)(memory->total >> 20));
    }
    copy_words(target, data, bytes);
    return VMMHPC_OK;
}

uint64_t vh_memory_low_end(const struct vh_memory *memory)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        const struct vmmhpc_slot *slot = &memory->slots[i];
        if (slot->gpa == end && slot->gpa < VMMHPC_HOLE_START) {
            end = slot->gpa + slot->bytes;
        }
    }
    return end;
}

uint64_t vh_memory_end(const struct vh_memory *memory)
{
    const struct vmmhpc_slot *last = &memory->slots[memory->slot_count - 1];
    uint64_t end = last->gpa + last->bytes;
    return end < VMMHPC_HOLE_END ? VMMHPC_HOLE_END : end;
}
