/* An engine that costs nearly nothing: answers OpenAI chat at once, or streams as many events as asked for.
 *
 *     upstream            prints "PORT PORT" (two endpoints of one process) and serves until its stdin closes
 *
 * POST /v1/chat/completions   plain, or with "stream": true one event per token of max_tokens, one every
 *                             interval; a usage event before [DONE] if stream_options asks for it
 * GET  /bench/interval/N      sets the interval between a stream's events to N us, for streams that begin
 * GET  /bench/counts          {"requests":[A,B],"streams_open":N}: chat requests per endpoint
 * GET  anything else          what routers probe before they trust an engine
 *
 * Each token's text ends in '~', which occurs nowhere else: the client counts tokens by it. Streams are set
 * apart in phase, so that each event of many streams is a wake-up of its own for the proxy.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { LISTENERS = 2, READ_BYTES = 65536, OUT_BYTES = 4096, REQUEST_BYTES_MAX = 8 << 20 };

typedef struct {
    int fd, endpoint;
    char *in;
    size_t in_bytes, in_room;
    char out[OUT_BYTES]; /* an answer or one event; anything unsent stays here */
    size_t out_bytes, sent_bytes;
    long tokens, tokens_left;
    bool streaming, usage;
    int64_t due_ns;
    size_t at; /* in the heap, while streaming */
} Conn;

static int poller, timer, listeners[LISTENERS];
static long counts[LISTENERS], streams_open, stream_number, interval_us = 10000;
static Conn **heap;
static size_t heap_size, heap_room;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* --- streams by the time of their next event: a binary heap -------------------------------------------- */

static void heap_set(size_t at, Conn *conn) {
    heap[at] = conn;
    conn->at = at;
}

static void heap_up(size_t at, Conn *conn) {
    while (at && heap[(at - 1) / 2]->due_ns > conn->due_ns) {
        heap_set(at, heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(at, conn);
}

static void heap_down(size_t at, Conn *conn) {
    for (size_t child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= conn->due_ns) break;
        heap_set(at, heap[child]);
    }
    heap_set(at, conn);
}

static void heap_add(Conn *conn) {
    if (heap_size == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 256;
        if (!(heap = realloc(heap, heap_room * sizeof *heap))) die("realloc");
    }
    heap_up(heap_size++, conn);
}

static void heap_remove(Conn *conn) {
    Conn *last = heap[--heap_size];
    if (last == conn) return;
    heap_down(conn->at, last);
    heap_up(last->at, last);
}

/* --- sending ------------------------------------------------------------------------------------------- */

static void stop_streaming(Conn *conn) {
    if (!conn->streaming) return;
    conn->streaming = false;
    streams_open--;
    heap_remove(conn);
}

static void drop(Conn *conn) {
    stop_streaming(conn);
    close(conn->fd);
    free(conn->in);
    free(conn);
}

/* False: the connection is gone. */
static bool flush(Conn *conn) {
    while (conn->sent_bytes < conn->out_bytes) {
        ssize_t wrote = write(conn->fd, conn->out + conn->sent_bytes, conn->out_bytes - conn->sent_bytes);
        if (wrote < 0 && errno == EAGAIN) return true; /* the next event or byte in tries again */
        if (wrote < 0) return drop(conn), false;
        conn->sent_bytes += wrote;
    }
    conn->out_bytes = conn->sent_bytes = 0;
    return true;
}

static void put(Conn *conn, const char *text, size_t bytes) {
    if (conn->out_bytes + bytes > OUT_BYTES) abort();
    memcpy(conn->out + conn->out_bytes, text, bytes);
    conn->out_bytes += bytes;
}

static void put_chunk(Conn *conn, const char *text) {
    char head[16];
    size_t bytes = strlen(text);
    put(conn, head, snprintf(head, sizeof head, "%zx\r\n", bytes));
    put(conn, text, bytes);
    put(conn, "\r\n", 2);
}

static bool answer(Conn *conn, const char *status, const char *body) {
    char head[256];
    put(conn, head, snprintf(head, sizeof head,
        "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", status, strlen(body)));
    put(conn, body, strlen(body));
    return flush(conn);
}

#define CHUNK "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
              "\"model\":\"bench\",\"choices\":["

static bool send_event(Conn *conn, int64_t now) {
    if (conn->out_bytes && !flush(conn)) return false;
    conn->due_ns = now + interval_us * 1000;
    if (conn->out_bytes) return heap_down(conn->at, conn), true; /* the reader is slow: no token now */
    bool first = conn->tokens_left == conn->tokens;
    if (first) {
        static const char head[] =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
        put(conn, head, sizeof head - 1);
    }
    if (--conn->tokens_left) {
        put_chunk(conn, first
            ? CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\" tok~\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
            : CHUNK "{\"index\":0,\"delta\":{\"content\":\" tok~\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
        heap_down(conn->at, conn);
        return flush(conn);
    }
    put_chunk(conn, CHUNK "{\"index\":0,\"delta\":{\"content\":\" tok~\"},\"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n");
    if (conn->usage) {
        char event[512];
        snprintf(event, sizeof event, CHUNK "],\"usage\":{\"prompt_tokens\":50,\"total_tokens\":%ld,\"completion_tokens\":%ld}}\n\n",
                 50 + conn->tokens, conn->tokens);
        put_chunk(conn, event);
    }
    put_chunk(conn, "data: [DONE]\n\n");
    put(conn, "0\r\n\r\n", 5);
    stop_streaming(conn);
    return flush(conn);
}

/* --- requests ------------------------------------------------------------------------------------------ */

/* The text after `"key":` and blanks, in a body that is terminated by 0; NULL if there is none. */
static const char *value_of(const char *body, const char *key) {
    const char *at = strstr(body, key);
    if (!at) return NULL;
    at += strlen(key);
    return at + strspn(at, ": ");
}

static bool is_true(const char *body, const char *key) {
    const char *value = value_of(body, key);
    return value && !strncmp(value, "true", 4);
}

static bool on_chat(Conn *conn, const char *body) {
    counts[conn->endpoint]++;
    if (!is_true(body, "\"stream\""))
        return answer(conn, "200 OK",
            "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
            "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello there tok~\"},"
            "\"logprobs\":null,\"finish_reason\":\"stop\"}],"
            "\"usage\":{\"prompt_tokens\":50,\"total_tokens\":53,\"completion_tokens\":3}}");
    const char *most = value_of(body, "\"max_tokens\"");
    if (!most) most = value_of(body, "\"max_completion_tokens\"");
    conn->tokens = conn->tokens_left = most && atol(most) > 0 ? atol(most) : 16;
    conn->usage = is_true(body, "\"include_usage\"");
    conn->streaming = true;
    streams_open++;
    double phase = (stream_number++ % 65536) * 0.6180339887; /* golden ratio: evenly apart, however many */
    conn->due_ns = now_ns() + (int64_t)((phase - (int64_t)phase) * interval_us * 1000);
    heap_add(conn);
    return true;
}

static bool on_request(Conn *conn, const char *head, const char *body) {
    if (!strncmp(head, "POST /v1/chat/completions", 25)) return on_chat(conn, body);
    if (strncmp(head, "GET ", 4)) return answer(conn, "404 Not Found", "{\"error\":{\"message\":\"no such route\"}}");
    const char *path = head + 4;
    if (!strncmp(path, "/bench/interval/", 16)) interval_us = atol(path + 16);
    if (!strncmp(path, "/bench/counts", 13)) {
        char text[128];
        snprintf(text, sizeof text, "{\"requests\":[%ld,%ld],\"streams_open\":%ld}", counts[0], counts[1], streams_open);
        return answer(conn, "200 OK", text);
    }
    if (!strncmp(path, "/v1/models", 10))
        return answer(conn, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,"
                                      "\"owned_by\":\"bench\",\"root\":\"bench\",\"max_model_len\":32768}]}");
    return answer(conn, "200 OK", "{\"status\":\"ok\",\"model_path\":\"bench\",\"served_model_name\":\"bench\",\"is_generation\":true,"
                                  "\"max_total_num_tokens\":1000000,\"version\":\"bench\"}");
}

/* Answer what is complete in the buffer. False: the connection is gone. */
static bool on_input(Conn *conn) {
    while (conn->in_bytes && !conn->streaming) {
        conn->in[conn->in_bytes] = 0;
        char *end = strstr(conn->in, "\r\n\r\n");
        if (!end) return true;
        char *length = strcasestr(conn->in, "\r\ncontent-length:");
        size_t head_bytes = end + 4 - conn->in, body_bytes = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
        if (body_bytes > REQUEST_BYTES_MAX) return drop(conn), false;
        if (conn->in_bytes < head_bytes + body_bytes) return true;
        char *body = conn->in + head_bytes, next = body[body_bytes];
        body[body_bytes] = 0;
        if (!on_request(conn, conn->in, body)) return false;
        body[body_bytes] = next;
        conn->in_bytes -= head_bytes + body_bytes;
        memmove(conn->in, body + body_bytes, conn->in_bytes);
    }
    return true;
}

static void on_readable(Conn *conn) {
    if (conn->in_room < conn->in_bytes + READ_BYTES + 1) {
        conn->in_room = conn->in_bytes + 2 * READ_BYTES;
        if (conn->in_room > REQUEST_BYTES_MAX || !(conn->in = realloc(conn->in, conn->in_room))) die("request");
    }
    ssize_t got = read(conn->fd, conn->in + conn->in_bytes, READ_BYTES);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(conn);
        return;
    }
    conn->in_bytes += got;
    if (conn->out_bytes && !flush(conn)) return;
    on_input(conn);
}

static void watch(int fd, void *with) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = with};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void on_connection(int endpoint) {
    for (;;) {
        int fd = accept4(listeners[endpoint], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        Conn *conn = calloc(1, sizeof *conn);
        if (!conn) die("calloc");
        conn->fd = fd;
        conn->endpoint = endpoint;
        watch(fd, conn);
    }
}

static void send_due(void) {
    int64_t now = now_ns();
    while (heap_size && heap[0]->due_ns <= now) {
        Conn *conn = heap[0];
        if (send_event(conn, now) && !conn->streaming) on_input(conn);
    }
    if (!heap_size) return;
    int64_t due = heap[0]->due_ns;
    struct itimerspec when = {.it_value = {due / 1000000000, due % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int open_listener(int endpoint) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int fd = listeners[endpoint] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (void *)&where, size) || listen(fd, 4096) || getsockname(fd, (void *)&where, &size)) die("listen");
    watch(fd, &listeners[endpoint]);
    return ntohs(where.sin_port);
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(timer, &timer);
    watch(0, &poller);
    int first = open_listener(0), second = open_listener(1);
    printf("%d %d\n", first, second);
    fflush(stdout);
    for (struct epoll_event events[256];;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            void *with = events[i].data.ptr;
            uint64_t fired;
            if (with == &poller) return 0; /* stdin closed: whoever started this is gone */
            else if (with == &timer) (void)!read(timer, &fired, sizeof fired);
            else if (with == &listeners[0] || with == &listeners[1]) on_connection(with == &listeners[1]);
            else on_readable(with);
        }
        send_due();
    }
}
