/*
 * The floor of serving: what the kernel alone costs. An epoll loop that sendfiles open files behind one fixed
 * head and reads nothing of a request but its path. A cache is as good as its distance from this program.
 *
 *     floor PORT DIR CHUNK_BYTES        CHUNK_BYTES: the most one sendfile call may send (0: no bound)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 256, EVENTS_MAX = 256, BACKLOG = 4096, SENDFILE_MAX = 0x7ffff000 };

struct file {
    char path[128];
    int fd;
    off_t size;
    char head[256];
    int head_size;
};

struct conn {
    int fd;
    int is_sending; /* epoll waits for room to write; otherwise for a request */
    const struct file *file;
    off_t offset;
};

static struct file files[FILES_MAX];
static int file_count;
static const char *folder;
static size_t chunk_bytes;
static int epoll_fd;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* The open file at `path`, opened at its first request; NULL where there is none. */
static const struct file *find(const char *path)
{
    for (int i = 0; i < file_count; i++)
        if (!strcmp(files[i].path, path))
            return &files[i];
    if (file_count == FILES_MAX || strlen(path) >= sizeof files[0].path || strstr(path, ".."))
        return NULL;

    char full[4096];
    snprintf(full, sizeof full, "%s%s", folder, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
        close(fd);
        return NULL;
    }
    struct file *file = &files[file_count++];
    strcpy(file->path, path);
    file->fd = fd;
    file->size = status.st_size;
    file->head_size = snprintf(file->head, sizeof file->head,
                               "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nETag: \"floor\"\r\n"
                               "Content-Length: %lld\r\n\r\n", (long long)file->size);
    return file;
}

static void drop(struct conn *conn)
{
    close(conn->fd);
    free(conn);
}

static void wait_for(struct conn *conn, int is_sending)
{
    if (conn->is_sending == is_sending)
        return;
    conn->is_sending = is_sending;
    struct epoll_event event = {.events = is_sending ? EPOLLOUT : EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event))
        fail("epoll_ctl");
}

/* One bounded sendfile a turn: many connections then share the core evenly, and its caches stay warm. */
static void send_body(struct conn *conn)
{
    size_t left = (size_t)(conn->file->size - conn->offset);
    ssize_t sent = sendfile(conn->fd, conn->file->fd, &conn->offset, left < chunk_bytes ? left : chunk_bytes);
    if (sent == 0 || (sent < 0 && errno != EAGAIN)) {
        drop(conn);
        return;
    }
    wait_for(conn, conn->offset < conn->file->size);
}

static void answer(struct conn *conn)
{
    char request[8192];
    ssize_t got = recv(conn->fd, request, sizeof request - 1, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            drop(conn);
        return;
    }
    request[got] = 0;
    char *path = strchr(request, ' ');
    char *end = path ? strchr(path + 1, ' ') : NULL;
    if (!end) {
        drop(conn);
        return;
    }
    *end = 0;
    conn->file = find(path + 1);
    conn->offset = 0;
    if (!conn->file || !conn->file->size) {
        static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        if (send(conn->fd, missing, sizeof missing - 1, 0) < 0)
            drop(conn);
        return;
    }
    /* MSG_MORE: head and first bytes leave as one segment. */
    if (send(conn->fd, conn->file->head, (size_t)conn->file->head_size, MSG_MORE) != conn->file->head_size) {
        drop(conn);
        return;
    }
    send_body(conn);
}

static void take(int listener)
{
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        fail("calloc");
    conn->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static int listen_on(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG))
        fail("listen");
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor PORT DIR CHUNK_BYTES\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    folder = argv[2];
    chunk_bytes = strtoul(argv[3], NULL, 10);
    if (!chunk_bytes)
        chunk_bytes = SENDFILE_MAX;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event))
        fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn)
                take(listener);
            else if (conn->is_sending)
                send_body(conn);
            else
                answer(conn);
        }
    }
}
