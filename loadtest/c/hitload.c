/*
 * Keep-alive GET load over plain HTTP/1.1 that costs the client next to nothing: bodies are thrown away inside
 * the kernel (MSG_TRUNC), so that it is the server that is measured.
 *
 *     hitload -p PORT -c CONNECTIONS -d SECONDS [-s BODY_BYTES] [-H 'Name: value']... PATH...
 *
 * Each connection asks for one path after the other, each starting at another one. With -s, a body of any other
 * length is an error. One line of JSON comes out: `requests` are complete answers with status 200; `bytes` are
 * body bytes, those of answers cut off by the end included; `errors` are other statuses, wrong or short bodies;
 * `reconnects` are keep-alive connections the server closed between two answers, which it may.
 *
 * Compiled with -DTLS it speaks TLS 1.3 instead; records.h says how.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifdef TLS
#include "records.h"
enum { HEAD_BYTES_MAX = 8192 + RECORD_BYTES_MAX }; /* a record may hold the head's end and much of the body */
#else
enum { HEAD_BYTES_MAX = 8192 };
#endif

enum {
    EVENTS_MAX = 256,
    PATHS_MAX = 4096,
    HEADERS_BYTES_MAX = 8192,
    DISCARD_BYTES_MAX = 2 << 20, /* in one recv, so that one connection does not keep the loop from the others */
    SUB_BUCKETS = 64,            /* per power of two: latencies are right to 1.6 % */
};

struct conn {
    int fd;
    int next_path;
    int answered;     /* on this socket */
    long body_left;   /* -1 while the head is read */
    int is_bad;       /* its bytes are read, but it is no request served */
    int head_size;
    char head[HEAD_BYTES_MAX];
    uint64_t asked_ns;
#ifdef TLS
    struct tls tls;
#endif
};

struct request {
    char *text;
    size_t size;
};

static struct sockaddr_in server;
static struct request requests[PATHS_MAX];
static int path_count, epoll_fd;
static long body_bytes_wanted = -1;
static uint64_t served, body_bytes, errors, reconnects;
static uint64_t latencies[64 * SUB_BUCKETS];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Microseconds fall into buckets as wide as 1/64 of their power of two. */
static void count_latency(uint64_t us)
{
    int shift = us < 2 * SUB_BUCKETS ? 0 : 63 - __builtin_clzll(us) - 6;
    latencies[(uint64_t)shift * SUB_BUCKETS + (us >> shift)]++;
}

static double latency_ms(double share)
{
    uint64_t rank = (uint64_t)((double)served * share), seen = 0;
    for (int i = 0; i < 64 * SUB_BUCKETS; i++) {
        seen += latencies[i];
        if (seen > rank) {
            int shift = i < 2 * SUB_BUCKETS ? 0 : i / SUB_BUCKETS - 1;
            return (double)((uint64_t)(i - shift * SUB_BUCKETS) << shift) / 1e3;
        }
    }
    return 0;
}

static void ask(struct conn *conn)
{
    const struct request *request = &requests[conn->next_path];
    conn->next_path = (conn->next_path + 1) % path_count;
    conn->body_left = -1;
    conn->head_size = 0;
    conn->is_bad = 0;
    conn->asked_ns = now_ns();
    /* A peer that has just closed is noticed at the next recv. */
#ifdef TLS
    int sent = SSL_write(conn->tls.ssl, request->text, (int)request->size);
#else
    ssize_t sent = send(conn->fd, request->text, request->size, MSG_NOSIGNAL);
#endif
    if ((size_t)sent != request->size && errno != EPIPE && errno != ECONNRESET)
        fail("send");
}

static void dial(struct conn *conn)
{
    int one = 1;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&server, sizeof server))
        fail("connect");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn->answered = 0;
#ifdef TLS
    tls_dial(&conn->tls, conn->fd);
#endif
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event))
        fail("epoll_ctl");
    ask(conn);
}

static void redial(struct conn *conn, int is_error)
{
    if (is_error)
        errors++;
    else
        reconnects++;
    close(conn->fd);
    dial(conn);
}

/* The head is complete: checks it, sets what is left of the body; 0 where its length is unknown. */
static int read_head(struct conn *conn, const char *body)
{
    const char *length = strcasestr(conn->head, "\r\nContent-Length:");
    if (!length || length > body)
        return 0;
    long body_size = atol(length + 17), got = conn->head_size - (body - conn->head);
    conn->is_bad = strncmp(conn->head, "HTTP/1.1 200", 12) != 0 ||
                   (body_bytes_wanted >= 0 && body_size != body_bytes_wanted);
    conn->body_left = body_size - got;
    body_bytes += (uint64_t)got;
    return 1;
}

static void finish(struct conn *conn)
{
    if (conn->is_bad) {
        errors++;
    } else {
        served++;
        count_latency((now_ns() - conn->asked_ns) / 1000);
    }
    conn->answered++;
    ask(conn);
}

/* Looks for the end of the head in what has come; whether the answer can still be whole. */
static int find_body(struct conn *conn)
{
    conn->head[conn->head_size] = 0;
    const char *end = strstr(conn->head, "\r\n\r\n");
    if (!end)
        return conn->head_size < 8192 - 1;
    return read_head(conn, end + 4) && conn->body_left >= 0;
}

#ifdef TLS

/* A record is complete: it belongs to the head, with which the body may begin, or to the body. 0: no whole answer. */
static int count_record(struct conn *conn)
{
    struct tls *tls = &conn->tls;
    int is_whole = 1;
    if (conn->body_left < 0) {
        int size = tls_open(tls);
        if (size) {
            memcpy(conn->head + conn->head_size, tls->record, (size_t)size);
            conn->head_size += size;
            is_whole = find_body(conn);
        }
    } else {
        int size = tls->record_size - TAG_BYTES - 1;
        body_bytes += (uint64_t)size;
        conn->body_left -= size;
        is_whole = conn->body_left >= 0;
    }
    tls->sequence++;
    return is_whole;
}

static void read_some(struct conn *conn)
{
    static unsigned char arrived[256 << 10]; /* no more than the caches hold */
    for (;;) {
        ssize_t got = recv(conn->fd, arrived, sizeof arrived, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            redial(conn, !(conn->body_left < 0 && conn->head_size == 0 && conn->answered));
            return;
        }
        const unsigned char *bytes = arrived, *end = arrived + got;
        while (bytes < end && tls_take(&conn->tls, &bytes, end, conn->body_left < 0))
            if (!count_record(conn)) {
                redial(conn, 1);
                return;
            }
        if (conn->body_left == 0) {
            finish(conn);
            return; /* the other connections first */
        }
    }
}

#else

/* Reads what is there: of the head as bytes, of the body as a count alone. */
static void read_some(struct conn *conn)
{
    for (;;) {
        int in_head = conn->body_left < 0;
        ssize_t got;
        if (in_head)
            got = recv(conn->fd, conn->head + conn->head_size, sizeof conn->head - 1 - (size_t)conn->head_size,
                       MSG_DONTWAIT);
        else
            got = recv(conn->fd, NULL,
                       (size_t)(conn->body_left < DISCARD_BYTES_MAX ? conn->body_left : DISCARD_BYTES_MAX),
                       MSG_TRUNC | MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            redial(conn, !(in_head && conn->head_size == 0 && conn->answered));
            return;
        }
        if (in_head) {
            conn->head_size += (int)got;
            if (!find_body(conn)) {
                redial(conn, 1);
                return;
            }
        } else {
            body_bytes += (uint64_t)got;
            conn->body_left -= got;
        }
        if (conn->body_left == 0) {
            finish(conn);
            return; /* the other connections first */
        }
    }
}

#endif

static int read_options(int argc, char **argv, double *seconds)
{
    char headers[HEADERS_BYTES_MAX] = "";
    size_t used = 0;
    int option, connections = 0;
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while ((option = getopt(argc, argv, "p:c:d:s:H:n:")) != -1) {
        if (option == 'p')
            server.sin_port = htons((uint16_t)atoi(optarg));
        else if (option == 'c')
            connections = atoi(optarg);
        else if (option == 'd')
            *seconds = atof(optarg);
        else if (option == 's')
            body_bytes_wanted = atol(optarg);
        else if (option == 'H' && used + strlen(optarg) + 3 < sizeof headers)
            used += (size_t)sprintf(headers + used, "%s\r\n", optarg);
#ifdef TLS
        else if (option == 'n')
            snprintf(tls_name, sizeof tls_name, "%s", optarg);
#endif
        else
            return 0;
    }
    if (!strcasestr(headers, "host:"))
        used += (size_t)snprintf(headers + used, sizeof headers - used, "Host: 127.0.0.1\r\n");
    for (; optind < argc && path_count < PATHS_MAX; optind++, path_count++) {
        struct request *request = &requests[path_count];
        int size = asprintf(&request->text, "GET %s HTTP/1.1\r\n%s\r\n", argv[optind], headers);
        if (size < 0)
            fail("asprintf");
        request->size = (size_t)size;
    }
    return server.sin_port && *seconds > 0 && path_count ? connections : 0;
}

int main(int argc, char **argv)
{
    double seconds = 0;
    int connections = read_options(argc, argv, &seconds);
    if (connections <= 0) {
        fprintf(stderr, "usage: hitload -p PORT -c CONNECTIONS -d SECONDS [-s BODY_BYTES] [-H 'Name: value'] PATH...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
#ifdef TLS
    tls_start();
#endif
    struct conn *conns = calloc((size_t)connections, sizeof *conns);
    if (!conns)
        fail("calloc");
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) {
        conns[i].next_path = i % path_count;
        dial(&conns[i]);
    }
    struct epoll_event events[EVENTS_MAX];
    while (now_ns() < end) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, 100);
        for (int i = 0; i < count; i++)
            read_some(events[i].data.ptr);
    }
    double elapsed = (double)(now_ns() - start) / 1e9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %llu, \"bytes\": %llu, \"errors\": %llu, \"reconnects\": %llu, \"seconds\": %.4f, "
           "\"cpu_s\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (unsigned long long)served, (unsigned long long)body_bytes, (unsigned long long)errors,
           (unsigned long long)reconnects, elapsed, cpu, latency_ms(0.5), latency_ms(0.99));
    return 0;
}
