/* What a member wants of the leader that is no entry of the log, and how it gets in. Little-endian:
 *
 *   ASK      u64 number, u8 kind; then READ: u8 lease; TRANSFER: u64 target (0 = the best); CHANGE: u8 count, and for
 *            each u8 operation, u64 id, u8 size and an address (none but for ADD and MOVE)
 *   ANSWER   u64 number, i32 code, u64 index: READ: from which on a machine may answer; CHANGE: of the configuration;
 *            u64 id: TRANSFER: who leads now; CHANGE: who was added first
 *   JOIN     a stranger's: u8 size, name of the cluster; u8 size, its address
 *   JOINED   the answer: i32 code; u8 size, where the leader is (to be asked instead), or nothing; then, with OK only:
 *            u64 its id from now on, 16 bytes cluster, u16 size and the list of first members */
#ifndef RAFT_WIRE_ASK_H
#define RAFT_WIRE_ASK_H

#include "core/raft.h"
#include "wire/hello.h"
#include "wire/members.h"

#pragma GCC visibility push(hidden)

enum ask_kind { ASK_READ = 1, ASK_CHANGE, ASK_TRANSFER, ASK_KINDS };

struct ask_change {
    uint8_t op;  /* enum raft_change_op */
    raft_id id;  /* 0 with ADD: one that was never used */
    char address[ADDRESS_MAX + 1]; /* ADD, MOVE */
};

struct ask_what {
    uint8_t kind;    /* enum ask_kind */
    bool lease;      /* READ: a lease will do */
    raft_id target;  /* TRANSFER */
    uint8_t n;       /* CHANGE */
    struct ask_change changes[RAFT_MEMBERS_MAX];
};

struct answer {
    uint64_t number;
    int code;
    raft_index index; /* READ, CHANGE */
    raft_id id;       /* TRANSFER; CHANGE: of the first ADD */
};

/* false: no memory, out unchanged. */
bool ask_write(struct buf *out, uint32_t group, uint64_t number, const struct ask_what *what);
/* Precondition of all reads: f->type is theirs. ERR_CORRUPT. */
int ask_read(const struct frame *f, uint64_t *number, struct ask_what *what, struct err *e);
bool answer_write(struct buf *out, uint32_t group, const struct answer *answer);
int answer_read(const struct frame *f, struct answer *out, struct err *e);

struct join {
    char name[HELLO_NAME_MAX + 1];
    char address[ADDRESS_MAX + 1];
};

struct joined {
    int code;
    char leader[ADDRESS_MAX + 1]; /* "" = not known */
    raft_id id;
    uint8_t cluster[16];
    char list[HELLO_LIST_MAX + 1];
};

bool join_write(struct buf *out, uint32_t group, const struct join *j);
int join_read(const struct frame *f, struct join *out, struct err *e);
bool joined_write(struct buf *out, uint32_t group, const struct joined *j);
int joined_read(const struct frame *f, struct joined *out, struct err *e);

#pragma GCC visibility pop

#endif
