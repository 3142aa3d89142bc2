/* A client that costs nearly nothing: sends one request over and over, checks that each answer is whole, and
 * measures how long each took.
 *
 *     load PORT CONNECTIONS REQUESTS TOKENS STREAM RATE_PER_S < request
 *
 * The request (head and body, as it goes over the wire) comes on stdin, so that no key stands in a command
 * line. RATE_PER_S 0: each connection sends its next request when the answer is there. Otherwise requests are
 * due at that rate, whether or not earlier ones are answered, and a latency counts from when its request was
 * due. An answer is whole if its status is 200, its framing is complete, it has TOKENS '~', and (STREAM 1)
 * ends in [DONE]. Prints one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

enum { HEAD_BYTES = 16384, TAIL_BYTES = 64, SILENCE_MAX_MS = 60000 };
typedef enum { IN_HEAD, IN_BODY, IN_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER } Place;

typedef struct {
    int fd;
    bool busy, closes, awaits_room;
    int64_t due_ns, first_ns;
    size_t sent_bytes;
    /* of the answer: */
    Place place;
    char head[HEAD_BYTES + 1];
    size_t head_bytes, left_bytes, line_bytes;
    int status;
    long tokens;
    char tail[TAIL_BYTES + 1];
    size_t tail_bytes;
} Conn;

static int poller, timer, port;
static char *request;
static size_t request_bytes;
static long wanted, begun, ended, failed, reconnects, tokens_wanted, tokens_seen;
static bool is_stream;
static double rate_per_s;
static int64_t start_ns, *latencies_ns, *firsts_ns;
static char first_failure[256];
static Conn **idle;
static long idle_count;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void dial(Conn *conn) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (void *)&where, sizeof where)) die("connect");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(conn->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, conn->fd, &event)) die("epoll_ctl");
}

/* --- requests ------------------------------------------------------------------------------------------ */

static void push(Conn *conn) {
    ssize_t wrote = write(conn->fd, request + conn->sent_bytes, request_bytes - conn->sent_bytes);
    if (wrote > 0) conn->sent_bytes += wrote;
    /* A connection that is lost shows in reading. */
    bool awaits_room = conn->sent_bytes < request_bytes && (wrote > 0 || errno == EAGAIN);
    if (awaits_room == conn->awaits_room) return;
    conn->awaits_room = awaits_room;
    struct epoll_event event = {.events = awaits_room ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = conn};
    epoll_ctl(poller, EPOLL_CTL_MOD, conn->fd, &event);
}

static void begin(Conn *conn, int64_t due_ns) {
    begun++;
    conn->busy = true;
    conn->closes = false;
    conn->due_ns = due_ns;
    conn->first_ns = 0;
    conn->sent_bytes = conn->head_bytes = conn->tail_bytes = conn->line_bytes = conn->left_bytes = 0;
    conn->place = IN_HEAD;
    conn->status = 0;
    conn->tokens = 0;
    push(conn);
}

static int64_t due_at(long number) {
    return start_ns + (int64_t)(number * 1e9 / rate_per_s);
}

/* Open loop: begin what is due on connections that idle, and set the timer for the next. */
static void begin_due(void) {
    int64_t now = now_ns();
    while (begun < wanted && idle_count && due_at(begun) <= now) begin(idle[--idle_count], due_at(begun));
    if (begun == wanted || !idle_count) return;
    int64_t due = due_at(begun);
    struct itimerspec when = {.it_value = {due / 1000000000, due % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void go_on(Conn *conn) {
    if (rate_per_s > 0) idle[idle_count++] = conn;
    else if (begun < wanted) begin(conn, now_ns());
}

static void finish(Conn *conn, const char *failure) {
    char text[256];
    if (!failure && conn->status != 200) {
        conn->tail[conn->tail_bytes] = 0;
        snprintf(text, sizeof text, "status %d, ending in %s", conn->status, conn->tail);
        failure = text;
    } else if (!failure && conn->tokens != tokens_wanted) {
        snprintf(text, sizeof text, "%ld tokens of %ld", conn->tokens, tokens_wanted);
        failure = text;
    } else if (!failure && is_stream) {
        conn->tail[conn->tail_bytes] = 0;
        if (!strstr(conn->tail, "[DONE]")) failure = "no [DONE]";
    }
    if (failure) {
        if (!failed++) snprintf(first_failure, sizeof first_failure, "%s", failure);
    } else {
        int64_t now = now_ns();
        latencies_ns[ended - failed] = now - conn->due_ns;
        firsts_ns[ended - failed] = conn->first_ns - conn->due_ns;
    }
    ended++;
    tokens_seen += conn->tokens;
    conn->busy = false;
}

static void redial(Conn *conn) {
    close(conn->fd);
    conn->awaits_room = false;
    reconnects++;
    dial(conn);
}

/* --- answers ------------------------------------------------------------------------------------------- */

static void take_body(Conn *conn, const char *data, size_t bytes) {
    for (const char *at = data; (at = memchr(at, '~', data + bytes - at)); at++) conn->tokens++;
    if (bytes > TAIL_BYTES) {
        data += bytes - TAIL_BYTES;
        bytes = TAIL_BYTES;
    }
    if (conn->tail_bytes + bytes > TAIL_BYTES) {
        size_t keep = TAIL_BYTES - bytes;
        memmove(conn->tail, conn->tail + conn->tail_bytes - keep, keep);
        conn->tail_bytes = keep;
    }
    memcpy(conn->tail + conn->tail_bytes, data, bytes);
    conn->tail_bytes += bytes;
}

/* The head is complete: what follows it? NULL, or why this is no answer. */
static const char *read_head(Conn *conn) {
    conn->head[conn->head_bytes] = 0;
    if (strncmp(conn->head, "HTTP/1.1 ", 9)) return "not HTTP/1.1";
    conn->status = atoi(conn->head + 9);
    const char *closes = strcasestr(conn->head, "\r\nconnection: close"), *length = strcasestr(conn->head, "\r\ncontent-length:");
    conn->closes = closes != NULL;
    if (strcasestr(conn->head, "\r\ntransfer-encoding: chunked")) conn->place = IN_SIZE;
    else if (length) conn->place = IN_BODY, conn->left_bytes = strtoul(length + 17, NULL, 10);
    else return "an answer without framing";
    return NULL;
}

/* Feed bytes of an answer. True: it is complete (or given up, with *failure set). */
static bool feed(Conn *conn, const char *data, size_t bytes, const char **failure) {
    const char *end = data + bytes;
    while (data < end) {
        if (conn->place == IN_BODY || conn->place == IN_CHUNK) {
            size_t take = (size_t)(end - data) < conn->left_bytes ? (size_t)(end - data) : conn->left_bytes;
            take_body(conn, data, take);
            data += take;
            conn->left_bytes -= take;
            if (!conn->left_bytes && conn->place == IN_BODY) return true;
            if (!conn->left_bytes) conn->place = AFTER_CHUNK;
            continue;
        }
        char byte = *data++;
        if (conn->place == IN_HEAD) {
            if (conn->head_bytes == HEAD_BYTES) return *failure = "a head too long", true;
            conn->head[conn->head_bytes++] = byte;
            if (byte != '\n' || conn->head_bytes < 4 || memcmp(conn->head + conn->head_bytes - 4, "\r\n\r\n", 4)) continue;
            if ((*failure = read_head(conn))) return true;
            if (conn->place == IN_BODY && !conn->left_bytes) return true;
        } else if (conn->place == IN_SIZE) {
            if (byte == '\n') conn->place = conn->left_bytes ? IN_CHUNK : IN_TRAILER, conn->line_bytes = 0;
            else if (byte >= '0' && byte <= '9') conn->left_bytes = conn->left_bytes * 16 + byte - '0';
            else if ((byte | 32) >= 'a' && (byte | 32) <= 'f') conn->left_bytes = conn->left_bytes * 16 + (byte | 32) - 'a' + 10;
        } else if (conn->place == AFTER_CHUNK) {
            if (byte == '\n') conn->place = IN_SIZE;
        } else if (byte == '\n') { /* IN_TRAILER: an empty line ends it */
            if (!conn->line_bytes) return true;
            conn->line_bytes = 0;
        } else if (byte != '\r') {
            conn->line_bytes++;
        }
    }
    return false;
}

static void on_readable(Conn *conn) {
    static char data[1 << 18];
    ssize_t got = read(conn->fd, data, sizeof data);
    if (got < 0 && errno == EAGAIN) return;
    const char *failure = NULL;
    bool over;
    if (got <= 0) {
        if (!conn->busy) {
            redial(conn); /* closed while idle, as a server may */
            return;
        }
        failure = "the connection closed before the answer was whole";
        over = true;
    } else if (!conn->busy) {
        fputs("bytes that nobody asked for\n", stderr);
        exit(1);
    } else {
        if (!conn->first_ns) conn->first_ns = now_ns();
        over = feed(conn, data, got, &failure);
    }
    if (!over) return;
    finish(conn, failure);
    if (failure || conn->closes) redial(conn);
    go_on(conn);
}

/* --- the run ------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static double percentile_us(int64_t *sorted, long count, double share) {
    return count ? sorted[(long)(share * (count - 1) + 0.5)] / 1e3 : 0;
}

static void report(double wall_s) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    long good = ended - failed;
    qsort(latencies_ns, good, sizeof *latencies_ns, compare);
    qsort(firsts_ns, good, sizeof *firsts_ns, compare);
    for (char *at = first_failure; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ') *at = ' ';
    printf("{\"requests\":%ld,\"failed\":%ld,\"first_failure\":\"%s\",\"reconnects\":%ld,\"tokens\":%ld,\"wall_s\":%.6f,"
           "\"cpu_s\":%.6f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"first_p50_us\":%.1f,\"first_p99_us\":%.1f}\n",
           ended, failed + (wanted - ended), ended < wanted && !failed ? "silence" : first_failure, reconnects, tokens_seen, wall_s,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           percentile_us(latencies_ns, good, 0.5), percentile_us(latencies_ns, good, 0.99), percentile_us(latencies_ns, good, 1),
           percentile_us(firsts_ns, good, 0.5), percentile_us(firsts_ns, good, 0.99));
}

static void read_request(void) {
    size_t room = 1 << 20;
    request = malloc(room);
    for (ssize_t got; (got = read(0, request + request_bytes, room - request_bytes)) > 0;) {
        request_bytes += got;
        if (request_bytes == room) request = realloc(request, room *= 2);
    }
}

int main(int count, char **words) {
    if (count != 7) {
        fputs("usage: load PORT CONNECTIONS REQUESTS TOKENS STREAM RATE_PER_S < request\n", stderr);
        return 2;
    }
    port = atoi(words[1]);
    long connections = atol(words[2]);
    wanted = atol(words[3]);
    tokens_wanted = atol(words[4]);
    is_stream = atoi(words[5]);
    rate_per_s = atof(words[6]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    read_request();
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    latencies_ns = calloc(wanted, sizeof *latencies_ns);
    firsts_ns = calloc(wanted, sizeof *firsts_ns);
    idle = calloc(connections, sizeof *idle);
    Conn *conns = calloc(connections, sizeof *conns);
    if (!latencies_ns || !firsts_ns || !idle || !conns) die("calloc");
    for (long i = 0; i < connections; i++) dial(&conns[i]);
    start_ns = now_ns();
    for (long i = 0; i < connections; i++) go_on(&conns[i]);
    for (struct epoll_event events[256]; ended < wanted;) {
        if (rate_per_s > 0) begin_due();
        int ready = epoll_wait(poller, events, 256, SILENCE_MAX_MS);
        if (ready == 0) break;
        for (int i = 0; i < ready; i++) {
            Conn *conn = events[i].data.ptr;
            uint64_t fired;
            if (!conn) (void)!read(timer, &fired, sizeof fired);
            else if (events[i].events & EPOLLOUT) push(conn);
            else on_readable(conn);
        }
    }
    report((now_ns() - start_ns) / 1e9);
    return 0;
}
