/*
 * The two ways between the agent in the machine and the harness on the host.
 *
 * Out of the machine: port 0xE9, which Bochs copies byte by byte to its standard output. It costs
 * the guest one instruction a byte, has no baud rate, and a full pipe on the host simply stops the
 * machine until it is read. A frame is: 'V', kind, length (16 bits, little-endian), then so many
 * bytes.
 *
 * Into the machine: a raw disk that both sides have open, looked at every now and then. See
 * harness/intel/scratch.ts for the layout; the two files must agree.
 */
#ifndef V3M_CHANNEL_H
#define V3M_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

/* Bochs prints a banner before the machine runs; frames begin after this. */
#define SYNC "\001V3M-AGENT\002"

/* Three of these in a row on port 0xE9: the machine may be saved here. saver.c, loaded into Bochs,
 * watches for it. */
#define SAVE_MARK 0x1E
#define SAVE_MARKS 3

enum frame {
    FRAME_STARTED = 'S', /* the command is about to run */
    FRAME_STDOUT = 'O',
    FRAME_STDERR = 'E',
    FRAME_READY = 'R', /* the last standard input was passed on: send more */
    FRAME_TAKEN = 'A', /* the message in the mailbox was read: the next one may be put there */
    FRAME_BEAT = 'B',  /* a sign of life */
    FRAME_OUTPUT =
        'T', /* decimal length of the tar archive of the output directory on the scratch disk */
    FRAME_EXIT = 'X',  /* decimal exit code; the last frame */
    FRAME_FAILED = 'F' /* text: the machine could not be set up */
};

#define SCRATCH_JOB 0
#define SCRATCH_JOB_LIMIT (1 << 20)
#define SCRATCH_MAILBOX (1 << 20)
#define SCRATCH_OUTPUT (16 << 20)

#define MESSAGE_DATA_OFFSET 512
#define MESSAGE_LIMIT (60 << 10)

enum message_kind { MESSAGE_STDIN = 1, MESSAGE_SIGNAL = 2, MESSAGE_SIZE = 3 };

struct message {
    uint64_t sequence; /* 1, 2, 3... */
    uint32_t kind;
    uint32_t length;
};

void channel_open(void);

/* All before this is the same for every run: a machine saved here continues here. Then says SYNC.
 */
void save_point(void);

void send_frame(enum frame kind, const void *data, size_t length);
void send_text(enum frame kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reports to the host and waits for the end: the host stops the machine. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* As fail(), with the text of errno. */
void fail_errno(const char *what) __attribute__((noreturn));

#endif
