/* The floor that wire-to-reader latency is measured against: the same hops as the plant and no work.
 *
 *   timed sender --TCP--> [epoll, read, 128-byte copy to shared memory, publish, futex wake] --> [futex wait, read]
 *
 * The sender is the plant's own (crates/core/examples/latency.rs, `sender`), so both chains are fed alike. Each message
 * of the plain sender is 128 bytes that open with the monotonic time in ns at which it was due: the latency therefore
 * counts what a late sender makes it wait (no coordinated omission).
 *
 *   floor middle PORT SHM          connects to the sender, copies until it closes
 *   floor reader SHM SKIP          prints `count p50 p99 p999 max` in ns; the first SKIP messages are not counted
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 128, SLOTS = 1 << 20 };

struct shared {
    _Atomic uint64_t committed;
    _Atomic uint32_t doorbell;
    _Atomic uint32_t waiters;
    _Atomic uint32_t done;
    char pad[44];
    char slots[SLOTS][MESSAGE];
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct shared *map(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct shared)) < 0) die(path);
    void *at = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

static void ring(struct shared *s) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_exchange(&s->waiters, 0)) {
        atomic_fetch_add(&s->doorbell, 1);
        syscall(SYS_futex, &s->doorbell, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
    }
}

static int middle(int port, const char *path) {
    struct shared *s = map(path);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int ep = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
    static char buffer[1 << 20];
    size_t have = 0;
    uint64_t count = 0;
    for (;;) {
        if (epoll_wait(ep, &event, 1, -1) < 0 && errno != EINTR) die("epoll_wait");
        ssize_t n = read(fd, buffer + have, sizeof buffer - have);
        if (n == 0) break;
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) continue;
            break;
        }
        have += (size_t)n;
        size_t at = 0;
        for (; have - at >= MESSAGE; at += MESSAGE) memcpy(s->slots[count++ % SLOTS], buffer + at, MESSAGE);
        memmove(buffer, buffer + at, have - at);
        have -= at;
        atomic_store_explicit(&s->committed, count, memory_order_release);
        ring(s);
    }
    atomic_store(&s->done, 1);
    atomic_store(&s->waiters, 1);
    ring(s);
    return 0;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int reader(const char *path, uint64_t skip) {
    struct shared *s = map(path);
    size_t room = 1 << 22, count = 0;
    uint64_t *took = malloc(room * sizeof *took), seen = 0;
    for (;;) {
        uint64_t committed = atomic_load_explicit(&s->committed, memory_order_acquire);
        if (committed == seen) {
            if (atomic_load(&s->done)) break;
            uint32_t bell = atomic_load(&s->doorbell);
            atomic_store(&s->waiters, 1);
            if (atomic_load(&s->committed) == seen && !atomic_load(&s->done))
                syscall(SYS_futex, &s->doorbell, FUTEX_WAIT, bell, NULL, NULL, 0);
            continue;
        }
        uint64_t at = now();
        for (; seen < committed; seen++) {
            uint64_t due;
            memcpy(&due, s->slots[seen % SLOTS], sizeof due);
            if (seen >= skip && count < room) took[count++] = at - due;
        }
    }
    if (!count) return 1;
    qsort(took, count, sizeof *took, ascending);
    printf("%zu %lu %lu %lu %lu\n", count, took[count / 2], took[count * 99 / 100], took[count * 999 / 1000],
           took[count - 1]);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "middle")) return middle(atoi(argv[2]), argv[3]);
    if (argc == 4 && !strcmp(argv[1], "reader")) return reader(argv[2], strtoull(argv[3], NULL, 10));
    fprintf(stderr, "usage: floor middle PORT SHM | floor reader SHM SKIP\n");
    return 2;
}
