/* The verifying worker of the tape bench. It shares no code with tickplant: what the server says it sent is held against
 * what arrives here.
 *
 *   verify OUT EXPECTED STAMPED fd fd ...      (a router appends the descriptors)
 *
 * Reads length-prefixed objects from all descriptors and checks each: its form, that its symbol always comes by the same
 * pipe, and that `q` grows within a symbol. It counts, sums bytes and the 64-bit XXH3 of each object, and with STAMPED 1
 * takes the time from `t` (wall clock, ns) to here. At EXPECTED trades, or at the end of all pipes, the result is
 * written to OUT as JSON, under another name first, so that whoever waits for it reads it whole.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { REST = 1 << 16, READ = 1 << 16, SLOTS = 1 << 15, SYMBOLS = 1 << 14, BUCKETS = 1 << 16, TOGETHER = 32 };

/* What a read of each pipe left unfinished; all read into one room, which so stays in the processor's cache. */
struct pipe { int fd; size_t have; unsigned char rest[REST]; };
static unsigned char room[REST + READ];
struct symbol { uint64_t name[2]; uint64_t last; int pipe; };

/* Close together, so that those of a market stay in a cache: `slots` has the place of each in `symbols`, found by its name's hash. */
static struct symbol symbols[SYMBOLS];
static uint16_t slots[SLOTS];
static uint64_t trades, bytes, checksum, symbols_seen, bad_form, bad_pipe, bad_order, first_ns, last_ns, most_ns;
static uint64_t late[BUCKETS]; /* 1/64 of a power of two each */
static int stamped;

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* XXH3 64 for 17 to 240 bytes, written from its specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md). */
static const unsigned char secret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9,
    0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78,
    0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
    0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f,
    0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff,
    0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint64_t load(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t mix(const unsigned char *in, const unsigned char *key) {
    unsigned __int128 m = (unsigned __int128)(load(in) ^ load(key)) * (load(in + 8) ^ load(key + 8));
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t avalanche(uint64_t h) {
    h ^= h >> 37;
    h *= 0x165667919E3779F9u;
    return h ^ (h >> 32);
}

static inline uint64_t xxh3(const unsigned char *in, size_t length) {
    uint64_t sum = length * 0x9E3779B185EBCA87u;
    if (length <= 128) {
        if (length > 96) sum += mix(in + 48, secret + 96) + mix(in + length - 64, secret + 112);
        if (length > 64) sum += mix(in + 32, secret + 64) + mix(in + length - 48, secret + 80);
        if (length > 32) sum += mix(in + 16, secret + 32) + mix(in + length - 32, secret + 48);
        return avalanche(sum + mix(in, secret) + mix(in + length - 16, secret + 16));
    }
    for (size_t i = 0; i < 8; i++) sum += mix(in + 16 * i, secret + 16 * i);
    sum = avalanche(sum);
    for (size_t i = 8; i < length / 16; i++) sum += mix(in + 16 * i, secret + 16 * (i - 8) + 3);
    return avalanche(sum + mix(in + length - 16, secret + 136 - 17));
}

/* By a name of at most 16 bytes. Place 0 is nobody's. */
static struct symbol *find(const uint64_t key[2], size_t slot) {
    for (; slots[slot]; slot = (slot + 1) % SLOTS) {
        struct symbol *symbol = &symbols[slots[slot]];
        if (symbol->name[0] == key[0] && symbol->name[1] == key[1]) return symbol;
    }
    if (++symbols_seen == SYMBOLS) abort();
    struct symbol *symbol = &symbols[slots[slot] = (uint16_t)symbols_seen];
    memcpy(symbol->name, key, sizeof symbol->name);
    symbol->pipe = -1;
    return symbol;
}

static void took(uint64_t ns) {
    int power = 63 - __builtin_clzll(ns | 1);
    size_t fine = power < 6 ? ns : (size_t)(power - 5) * 64 + ((ns >> (power - 6)) & 63);
    late[fine]++;
    if (ns > most_ns) most_ns = ns;
}

static uint64_t quantile(double share) {
    uint64_t rest = (uint64_t)((double)trades * share), at = 0;
    for (; at < BUCKETS && late[at] <= rest; at++) rest -= late[at];
    return at < 64 ? at : (64 + at % 64) << (at / 64 - 1);
}

/* Bits 7 of the bytes of `eight` that are `byte`; only the lowest one is sure to be right. */
static inline uint64_t equal(uint64_t eight, unsigned char byte) {
    uint64_t other = eight ^ byte * 0x0101010101010101u;
    return (other - 0x0101010101010101u) & ~other & 0x8080808080808080u;
}

static inline int are_digits(uint64_t eight) {
    return (((eight & 0xF0F0F0F0F0F0F0F0u) | (((eight + 0x0606060606060606u) & 0xF0F0F0F0F0F0F0F0u) >> 4)) == 0x3333333333333333u);
}

/* Eight digits, the most significant one first in memory. */
static inline uint64_t number(uint64_t eight) {
    eight = (eight & 0x0F0F0F0F0F0F0F0Fu) * 2561 >> 8;
    eight = (eight & 0x00FF00FF00FF00FFu) * 6553601 >> 16;
    return (eight & 0x0000FFFF0000FFFFu) * 42949672960001u >> 32;
}

/* The digits that end before `*end`, which moves to the first of them. */
static inline uint64_t digits(const unsigned char *text, size_t *end) {
    uint64_t value = 0, scale = 1;
    while (*end > 48 && are_digits(load(text + *end - 8))) {
        value += scale * number(load(text + *end - 8));
        *end -= 8, scale *= 100000000u;
    }
    for (; *end > 40 && text[*end - 1] >= '0' && text[*end - 1] <= '9'; scale *= 10) value += scale * (uint64_t)(text[--*end] - '0');
    return value;
}

/* An object whose head was looked at; `name` is 0 where that is of no trade. */
struct object { const unsigned char *text; size_t length, slot; uint64_t name[2]; };

/* Finds the symbol's name, and begins to fetch what is known of it. */
static inline void look(struct object *object) {
    static const char head[] = "{\"ev\":\"T\",\"sym\":\"";
    const unsigned char *text = object->text;
    object->name[0] = object->name[1] = 0;
    if (object->length < 64 || object->length > 240 || memcmp(text, head, 17) || text[object->length - 1] != '}') return;
    uint64_t quote = equal(load(text + 17), '"');
    size_t name = quote ? (size_t)__builtin_ctzll(quote) / 8 : 8;
    while (text[17 + name] != '"' && name < 16) name++;
    object->name[0] = load(text + 17);
    if (name < 8) object->name[0] &= (1ull << 8 * name) - 1;
    else memcpy(&object->name[1], text + 25, name - 8);
    object->slot = (size_t)((object->name[0] ^ object->name[1] * 31) * 0x9E3779B97F4A7C15u >> 49);
    __builtin_prefetch(&symbols[slots[object->slot]], 1);
}

static inline void take(int pipe, const struct object *object, uint64_t at) {
    const unsigned char *text = object->text;
    size_t length = object->length;
    trades++;
    bytes += length;
    if (!object->name[0]) {
        bad_form++;
        return;
    }
    checksum += xxh3(text, length);
    struct symbol *symbol = find(object->name, object->slot);
    if (symbol->pipe < 0) symbol->pipe = pipe;
    bad_pipe += symbol->pipe != pipe;
    /* ...,"t":DIGITS,"q":DIGITS} from its end. */
    size_t end = length - 1;
    uint64_t q = digits(text, &end);
    bad_form += memcmp(text + end - 5, ",\"q\":", 5) != 0;
    bad_order += q <= symbol->last;
    symbol->last = q;
    if (!stamped) return;
    end -= 5;
    uint64_t t = digits(text, &end);
    took(at > t ? at - t : 0);
}

static void report(const char *path) {
    char draft[4096];
    snprintf(draft, sizeof draft, "%s.draft", path);
    FILE *out = fopen(draft, "w");
    if (!out) return;
    fprintf(out, "{\"trades\":%lu,\"bytes\":%lu,\"checksum\":\"%016lx\",\"symbols\":%lu,\"bad_form\":%lu,\"bad_pipe\":%lu,"
        "\"bad_order\":%lu,\"elapsed_ns\":%lu,\"p50_ns\":%lu,\"p99_ns\":%lu,\"p999_ns\":%lu,\"max_ns\":%lu,\"cpu_ns\":%lu}\n",
        trades, bytes, checksum, symbols_seen, bad_form, bad_pipe, bad_order, last_ns - first_ns,
        stamped ? quantile(0.5) : 0, stamped ? quantile(0.99) : 0, stamped ? quantile(0.999) : 0, most_ns, now(CLOCK_PROCESS_CPUTIME_ID));
    fclose(out);
    rename(draft, path);
}

/* Takes what one read gives; 0 at the end of the pipe. */
static int drain(struct pipe *pipe, int number) {
    unsigned char *at = room + REST - pipe->have, *end = room + REST;
    ssize_t got = read(pipe->fd, end, READ);
    if (got < 0) return errno == EINTR || errno == EAGAIN;
    if (got == 0) {
        bad_form += pipe->have != 0;
        return 0;
    }
    if (!first_ns) first_ns = now(CLOCK_MONOTONIC);
    uint64_t time = stamped ? now(CLOCK_REALTIME) : 0;
    memcpy(at, pipe->rest, pipe->have);
    end += got;
    for (;;) {
        struct object objects[TOGETHER];
        size_t count = 0;
        for (uint32_t length; count < TOGETHER && end - at >= 4; count++) {
            memcpy(&length, at, 4);
            if (length > REST - 4) {
                fprintf(stderr, "verify: pipe %d: a length of %u\n", number, length);
                exit(1);
            }
            if ((size_t)(end - at) < 4 + (size_t)length) break;
            objects[count].text = at + 4, objects[count].length = length;
            look(&objects[count]);
            at += 4 + length;
        }
        for (size_t i = 0; i < count; i++) take(number, &objects[i], time);
        if (count < TOGETHER) break;
    }
    pipe->have = (size_t)(end - at);
    memcpy(pipe->rest, at, pipe->have);
    last_ns = now(CLOCK_MONOTONIC);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: verify OUT EXPECTED STAMPED fd fd ...\n");
        return 2;
    }
    uint64_t expected = strtoull(argv[2], NULL, 10);
    stamped = atoi(argv[3]);
    int count = argc - 4, open = count, told = 0, poller = epoll_create1(EPOLL_CLOEXEC);
    struct pipe *pipes = calloc((size_t)count, sizeof *pipes);
    for (int i = 0; i < count; i++) {
        pipes[i].fd = atoi(argv[4 + i]);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, pipes[i].fd, &event) < 0) {
            perror("verify: descriptor");
            return 1;
        }
    }
    while (open > 0) {
        struct epoll_event events[128];
        int ready = epoll_wait(poller, events, 128, -1);
        for (int i = 0; i < ready; i++) {
            int number = (int)events[i].data.u32;
            if (!drain(&pipes[number], number)) {
                epoll_ctl(poller, EPOLL_CTL_DEL, pipes[number].fd, NULL);
                open--;
            }
        }
        if (!told && trades >= expected) {
            report(argv[1]);
            told = 1;
        }
    }
    report(argv[1]);
    return 0;
}
