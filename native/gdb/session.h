/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One conversation with a gdb, without the socket: bytes in, bytes out. The protocol is described
 * in gdb's manual, appendix E "GDB Remote Serial Protocol". What it does to a machine goes through
 * struct gd_target, so that tests and fuzzing need none.
 *
 * The other side is not trusted: whatever comes, the answer is an error or a closed connection.
 */
#ifndef GD_SESSION_H
#define GD_SESSION_H

#include "internal.h"
#include "vmmhpc_debug.h"

#define GD_PACKET 16384u          /* longest packet, as told in qSupported */
#define GD_MEMORY (GD_PACKET / 2) /* so many bytes are read or written at once */
#define GD_CPUS_MAX 4096u
#define GD_OUTPUT_MAX (4u << 20) /* a gdb that does not read its answers is hung up on */
#define GD_ALL UINT32_MAX        /* a thread id of -1 */

/** What a session does to a machine. Every call returns VMMHPC_OK or an error's code. */
struct gd_target {
    int32_t (*get_regs)(void *opaque, uint32_t cpu, struct vmmhpc_debug_regs *regs);
    int32_t (*set_regs)(void *opaque, uint32_t cpu, const struct vmmhpc_debug_regs *regs,
                        uint32_t groups);
    int32_t (*read)(void *opaque, uint32_t cpu, uint64_t address, void *data, uint64_t bytes,
                    uint64_t *done);
    int32_t (*write)(void *opaque, uint32_t cpu, uint64_t address, const void *data, uint64_t bytes,
                     uint64_t *done);
    int32_t (*translate)(void *opaque, uint32_t cpu, uint64_t address, uint64_t *gpa);
    int32_t (*add_break)(void *opaque, uint32_t cpu, uint32_t kind, uint64_t address,
                         uint32_t bytes);
    int32_t (*remove_break)(void *opaque, uint32_t kind, uint64_t address, uint32_t bytes);
    int32_t (*hold)(void *opaque);
    int32_t (*resume)(void *opaque, const uint8_t *actions);
    int32_t (*poll)(void *opaque, struct vmmhpc_debug_stop *stop);
    int32_t (*reset)(void *opaque);
    int32_t (*kill)(void *opaque);
    /** A few words on a vCPU, and on the machine (lines). */
    void (*describe_cpu)(void *opaque, uint32_t cpu, char *text, size_t bytes);
    void (*describe)(void *opaque, char *text, size_t bytes);
    /** How the machine ended; true: it crashed. */
    bool (*describe_end)(void *opaque, char *text, size_t bytes);
};

/** Text that grows; once there is no memory, or too much text, it stays `failed`. */
struct gd_text {
    char *data;
    size_t bytes;
    size_t room;
    bool failed;
};

enum gd_input { GD_BETWEEN = 0, GD_BODY, GD_SUM_HIGH, GD_SUM_LOW };

struct gd_session {
    const struct gd_target *target;
    void *opaque;
    uint32_t cpus;
    uint8_t *actions; /* for each vCPU */

    /* The packet that is coming in. */
    enum gd_input input;
    size_t in_bytes;
    uint8_t sum;
    uint8_t sum_told;
    bool too_long;
    bool any_input;
    char in[GD_PACKET + 1];

    bool no_ack;
    bool running;         /* gdb waits for a stop */
    bool ended;           /* the machine is no more */
    bool detached;        /* gdb has taken its leave: hang up once all is sent */
    uint32_t general;     /* vCPU of registers and memory (Hg) */
    uint32_t control;     /* vCPU of c and s (Hc), or GD_ALL */
    uint32_t stopped;     /* vCPU that stopped last */
    struct gd_text reply; /* the answer being made, without its frame */
    struct gd_text out;   /* to be sent */
    struct gd_text xml;   /* the description of the registers */
    struct gd_text last;  /* the last packet, for "send again" */
    struct gd_text stop_reply;
};

/** False without memory. */
bool gd_session_init(struct gd_session *session, const struct gd_target *target, void *opaque,
                     uint32_t cpus);
void gd_session_free(struct gd_session *session);
/** Bytes from gdb. Answers gather in session->out. False: hang up (after sending what is there). */
bool gd_session_feed(struct gd_session *session, const uint8_t *data, size_t bytes);
/** The machine stopped while session->running, or ended. */
void gd_session_stopped(struct gd_session *session, const struct vmmhpc_debug_stop *stop);

/* text.c */
void gd_put(struct gd_text *text, const void *data, size_t bytes);
void gd_puts(struct gd_text *text, const char *string);
__attribute__((format(printf, 2, 3))) void gd_printf(struct gd_text *text, const char *format, ...);
/** Bytes as hexadecimal digits. */
void gd_put_hex(struct gd_text *text, const void *data, size_t bytes);
void gd_clear(struct gd_text *text);
void gd_free(struct gd_text *text);

/** What is left to be parsed. */
struct gd_cursor {
    const char *at;
    const char *end;
};
bool gd_take(struct gd_cursor *cursor, char c);
bool gd_take_word(struct gd_cursor *cursor, const char *word);
/** A hexadecimal number of 1 to 16 digits. */
bool gd_take_number(struct gd_cursor *cursor, uint64_t *value);
/** Exactly `bytes` bytes of hexadecimal digits. */
bool gd_take_bytes(struct gd_cursor *cursor, void *data, size_t bytes);
size_t gd_left(const struct gd_cursor *cursor);
int gd_digit(char c);

/* packet.c */
/** Send session->reply as a packet, and begin a new one. */
void gd_send(struct gd_session *session);

/* commands.c: one packet, answered in session->reply. False: no answer to this one now. */
bool gd_command(struct gd_session *session, struct gd_cursor packet);
void gd_error(struct gd_session *session, int32_t status);
void gd_ok(struct gd_session *session);
/** A thread id: vCPU + 1; 0 is any (the one that stopped), -1 all. */
bool gd_take_thread(const struct gd_session *session, struct gd_cursor *cursor, uint32_t *cpu);

/* query.c */
void gd_query(struct gd_session *session, struct gd_cursor packet);
void gd_monitor(struct gd_session *session, struct gd_cursor hex);

/* run.c */
bool gd_vcont(struct gd_session *session, struct gd_cursor packet);
/** c, s, C, S. */
bool gd_resume_one(struct gd_session *session, char command, struct gd_cursor packet);
void gd_interrupt(struct gd_session *session);
void gd_stop_reply(struct gd_session *session);

/* registers.c */
bool gd_make_xml(struct gd_text *xml);
void gd_read_all(struct gd_session *session);
void gd_write_all(struct gd_session *session, struct gd_cursor packet);
void gd_read_one(struct gd_session *session, struct gd_cursor packet);
void gd_write_one(struct gd_session *session, struct gd_cursor packet);
uint32_t gd_register_count(void);
/** Bytes of all registers in a g packet. */
uint32_t gd_register_bytes(void);

#endif
