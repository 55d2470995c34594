/* The floor of the tape's latency: the same hops as the router and the least work between them.
 *
 *   chain PORT PIPES WORKER ARGS...      server --TCP--> [read, cut at '}', copy, write to a pipe] --> WORKER
 *
 * It trusts its input altogether: whole frames, no escapes, no full pipe (a write waits). No part of tickplant.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 4 << 20, PIPES = 64, STAGE = 1 << 17 };

static unsigned char room[ROOM];
static unsigned char stage[PIPES][STAGE];
static size_t staged[PIPES];
static int ends[PIPES];

static void flush(int pipe) {
    for (size_t at = 0; at < staged[pipe];) {
        ssize_t wrote = write(ends[pipe], stage[pipe] + at, staged[pipe] - at);
        if (wrote < 0) exit(1);
        at += (size_t)wrote;
    }
    staged[pipe] = 0;
}

static void deal(const unsigned char *text, size_t length, int pipes) {
    const unsigned char *end = text + length;
    while ((text = memchr(text, '{', (size_t)(end - text)))) {
        const unsigned char *last = memchr(text, '}', (size_t)(end - text));
        if (!last) return;
        uint32_t size = (uint32_t)(last + 1 - text), hash = 2166136261u;
        for (const unsigned char *s = text + 17; *s != '"' && s < last; s++) hash = (hash ^ *s) * 16777619u;
        int pipe = (int)(hash % (uint32_t)pipes);
        if (staged[pipe] + size + 4 > STAGE) flush(pipe);
        memcpy(stage[pipe] + staged[pipe], &size, 4);
        memcpy(stage[pipe] + staged[pipe] + 4, text, size);
        staged[pipe] += size + 4;
        text = last + 1;
    }
}

static void start(int pipes, int argc, char **argv) {
    int reads[PIPES];
    for (int i = 0; i < pipes; i++) {
        int pair[2];
        if (pipe(pair) < 0) exit(1);
        fcntl(pair[1], F_SETPIPE_SZ, 1 << 20);
        reads[i] = pair[0];
        ends[i] = pair[1];
    }
    if (fork()) {
        for (int i = 0; i < pipes; i++) close(reads[i]);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    char *arguments[PIPES + 32], numbers[PIPES][12];
    for (int i = 0; i < argc; i++) arguments[i] = argv[i];
    for (int i = 0; i < pipes; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%d", reads[i]);
        arguments[argc + i] = numbers[i];
        close(ends[i]);
    }
    arguments[argc + pipes] = NULL;
    execvp(arguments[0], arguments);
    exit(127);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 32 || atoi(argv[2]) < 1 || atoi(argv[2]) > PIPES) return 2;
    int pipes = atoi(argv[2]), one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    start(pipes, argc - 3, argv + 3);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const char hello[] = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    if (write(fd, hello, sizeof hello - 1) < 0) return 1;
    for (uint32_t last = 0; last != 0x0d0a0d0a;) {
        unsigned char byte;
        if (read(fd, &byte, 1) != 1) return 1;
        last = last << 8 | byte;
    }
    size_t have = 0;
    for (;;) {
        ssize_t got = read(fd, room + have, ROOM - have);
        if (got <= 0) return 0;
        have += (size_t)got;
        size_t at = 0;
        while (have - at >= 4) {
            size_t length = room[at + 1], head = 2;
            if (length == 126) length = (size_t)room[at + 2] << 8 | room[at + 3], head = 4;
            if (length == 127) {
                if (have - at < 10) break;
                length = (size_t)room[at + 6] << 24 | (size_t)room[at + 7] << 16 | (size_t)room[at + 8] << 8 | room[at + 9], head = 10;
            }
            if (have - at < head + length) break;
            deal(room + at + head, length, pipes);
            at += head + length;
        }
        for (int i = 0; i < pipes; i++) flush(i);
        memmove(room, room + at, have - at);
        have -= at;
    }
}
