/* A server with known timing: streams tokens at times drawn from a seed, and writes down when it sent each of them.
 *
 *     cc -O2 -o exact_server exact_server.c -lm
 *     ./exact_server PORT SEED TTFT_MS ITL_MS LOG
 *
 * Speaks just enough of OpenAI's chat and completions for load generators, as vLLM words it: one chunk per token,
 * `max_tokens` (16) of them, usage where it is asked for, the end in one write with the last token.
 *
 * Time to the first token and each gap are half their mean plus an exponential part of the other half: the 99th
 * percentile is 2.8 times the mean. They follow from the seed and the request's body alone (FNV-1a, splitmix64). Each
 * token is due at the time the request was read plus the sum of its draws, so that lateness does not add up.
 *
 * LOG gets one record per event when the server ends (SIGTERM): request number, kind (0: the request has been read;
 * n: token n is about to be written), when it was due and when it was done, in ns of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 65536
#define REQUEST_MAX (1 << 20)
#define ANSWER_MAX 2048

typedef struct {
    uint32_t request, kind;
    int64_t due_ns, done_ns;
} record_t;

typedef struct {
    char *in; /* what came of the request so far */
    size_t have, room;
    int busy, chat, usage_each, usage_last;
    uint32_t request, tokens, sent;
    int64_t due_ns;
    uint64_t draw;
} connection_t;

typedef struct {
    int64_t due_ns;
    int file;
} due_t;

static connection_t connections[FILES_MAX];
static due_t heap[2 * FILES_MAX]; /* those of closed connections too, until they are due */
static size_t heap_n;
static record_t *records;
static size_t records_n, records_room;
static uint32_t requests, lost;
static uint64_t seed;
static double ttft_ns, itl_ns;
static int poll_file, timer_file;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void note(uint32_t request, uint32_t kind, int64_t due_ns, int64_t done_ns)
{
    if (records_n == records_room) {
        records_room = records_room ? 2 * records_room : 1 << 22;
        records = realloc(records, records_room * sizeof *records);
        if (!records)
            die("realloc");
    }
    records[records_n++] = (record_t){request, kind, due_ns, done_ns};
}

/* --- chance: splitmix64, Steele, Lea, Flood 2014 --------------------------------------------------------------- */

static double uniform(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static int64_t draw_ns(uint64_t *state, double mean_ns)
{
    return (int64_t)(mean_ns / 2 - mean_ns / 2 * log(uniform(state)));
}

/* --- what is due: a heap ---------------------------------------------------------------------------------------- */

static void push(int64_t due_ns, int file)
{
    size_t at = heap_n++;
    while (at && heap[(at - 1) / 2].due_ns > due_ns) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = (due_t){due_ns, file};
}

static due_t pop(void)
{
    due_t first = heap[0], last = heap[--heap_n];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < heap_n) {
        if (child + 1 < heap_n && heap[child + 1].due_ns < heap[child].due_ns)
            child++;
        if (heap[child].due_ns >= last.due_ns)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static void leave(int file)
{
    connection_t *c = &connections[file];
    if (c->busy)
        lost++;
    free(c->in);
    memset(c, 0, sizeof *c); /* what is due of it finds nobody, or somebody else who is due later: see on_time */
    close(file);
}

static int send_all(int file, const char *data, size_t size)
{
    if (send(file, data, size, MSG_NOSIGNAL) == (ssize_t)size)
        return 1;
    leave(file); /* a client that does not read for megabytes, or has left */
    return 0;
}

static size_t add_chunk(char *out, const char *event)
{
    return (size_t)sprintf(out, "%zx\r\ndata: %s\n\n\r\n", strlen(event) + 8, event);
}

static void send_token(int file)
{
    connection_t *c = &connections[file];
    char out[4 * ANSWER_MAX], event[ANSWER_MAX], usage[256] = "";
    const char *kind = c->chat ? "chat.completion.chunk" : "text_completion";
    const char *text = c->chat ? "\"delta\":{\"content\":\" word\"}" : "\"text\":\" word\"";
    size_t size = 0;
    int is_last = c->sent + 1 == c->tokens;
    if (c->sent == 0) {
        size += (size_t)sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                     "transfer-encoding: chunked\r\n\r\n");
        if (c->chat) {
            sprintf(event, "{\"id\":\"exact-%u\",\"object\":\"%s\",\"created\":0,\"model\":\"exact\",\"choices\":[{\"index\":0,"
                           "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}",
                    c->request, kind);
            size += add_chunk(out + size, event);
        }
    }
    sprintf(usage, ",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":%u,\"completion_tokens\":%u}", c->sent + 2, c->sent + 1);
    sprintf(event, "{\"id\":\"exact-%u\",\"object\":\"%s\",\"created\":0,\"model\":\"exact\",\"choices\":[{\"index\":0,%s,"
                   "\"logprobs\":null,\"finish_reason\":%s}]%s}",
            c->request, kind, text, is_last ? "\"length\"" : "null", c->usage_each ? usage : "");
    size += add_chunk(out + size, event);
    if (is_last) {
        if (c->usage_last) {
            sprintf(event, "{\"id\":\"exact-%u\",\"object\":\"%s\",\"created\":0,\"model\":\"exact\",\"choices\":[]%s}", c->request, kind, usage);
            size += add_chunk(out + size, event);
        }
        size += add_chunk(out + size, "[DONE]");
        size += (size_t)sprintf(out + size, "0\r\n\r\n");
    }
    c->sent++;
    note(c->request, c->sent, c->due_ns, now_ns());
    if (!send_all(file, out, size))
        return;
    if (is_last) {
        c->busy = 0;
        return;
    }
    c->due_ns += draw_ns(&c->draw, itl_ns);
    push(c->due_ns, file);
}

static void set_timer(void)
{
    struct itimerspec when = {0};
    if (heap_n) {
        int64_t due_ns = heap[0].due_ns;
        when.it_value.tv_sec = due_ns / 1000000000;
        when.it_value.tv_nsec = due_ns % 1000000000;
    }
    timerfd_settime(timer_file, TFD_TIMER_ABSTIME, &when, NULL);
}

static void on_time(void)
{
    while (heap_n && heap[0].due_ns <= now_ns()) {
        due_t due = pop();
        connection_t *c = &connections[due.file];
        if (c->busy && c->due_ns == due.due_ns)
            send_token(due.file);
    }
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static long number_after(const char *body, const char *name, long otherwise)
{
    const char *at = strstr(body, name);
    return at ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

static void answer_plainly(int file, const char *head)
{
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"exact\",\"object\":\"model\",\"owned_by\":\"test\",\"max_model_len\":1048576}]}";
    char out[1024];
    const char *body = strncmp(head, "GET /v1/models", 14) == 0 ? models : "{}";
    int size = sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(body), body);
    send_all(file, out, (size_t)size);
}

/* One whole request is there: `size` bytes, `body` its body. */
static void on_request(int file, char *body, size_t body_size)
{
    connection_t *c = &connections[file];
    int64_t read_ns = now_ns();
    if (strncmp(c->in, "POST ", 5) != 0 || !strstr(c->in, "/completions")) {
        answer_plainly(file, c->in);
        return;
    }
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < body_size; i++)
        hash = (hash ^ (unsigned char)body[i]) * 0x100000001b3u;
    long tokens = number_after(body, "\"max_completion_tokens\":", number_after(body, "\"max_tokens\":", 16));
    c->chat = strncmp(c->in, "POST /v1/chat/", 14) == 0;
    c->usage_each = strstr(body, "\"continuous_usage_stats\":true") || strstr(body, "\"continuous_usage_stats\": true");
    c->usage_last = strstr(body, "\"include_usage\":true") || strstr(body, "\"include_usage\": true");
    c->tokens = tokens > 0 ? (uint32_t)tokens : 1;
    c->sent = 0;
    c->busy = 1;
    c->request = requests++;
    c->draw = seed ^ hash;
    c->due_ns = read_ns + draw_ns(&c->draw, ttft_ns);
    note(c->request, 0, read_ns, read_ns);
    push(c->due_ns, file);
}

static void on_readable(int file)
{
    connection_t *c = &connections[file];
    for (;;) {
        if (c->room - c->have < 4096) {
            c->room = c->room ? 2 * c->room : 8192;
            if (c->room > REQUEST_MAX || !(c->in = realloc(c->in, c->room))) {
                leave(file);
                return;
            }
        }
        ssize_t got = recv(file, c->in + c->have, c->room - c->have - 1, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            leave(file);
            return;
        }
        c->have += (size_t)got;
        c->in[c->have] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end)
            continue;
        *end = 0; /* so that the length is looked for in the head only */
        const char *length_text = strcasestr(c->in, "content-length:");
        size_t length = length_text ? strtoul(length_text + 15, NULL, 10) : 0;
        *end = '\r';
        size_t whole = (size_t)(end + 4 - c->in) + length;
        if (c->have < whole)
            continue;
        c->have = 0;
        on_request(file, end + 4, length);
        return;
    }
}

static void on_connect(int listener)
{
    int file, one = 1, room = 1 << 20;
    while ((file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (file >= FILES_MAX) {
            close(file);
            continue;
        }
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(file, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
        epoll_ctl(poll_file, EPOLL_CTL_ADD, file, &event);
    }
}

static int listen_at(int port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0)
        die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void watch(int file)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
    if (file < 0 || epoll_ctl(poll_file, EPOLL_CTL_ADD, file, &event) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s PORT SEED TTFT_MS ITL_MS LOG\n", argv[0]);
        return 2;
    }
    seed = strtoull(argv[2], NULL, 10);
    ttft_ns = atof(argv[3]) * 1e6;
    itl_ns = atof(argv[4]) * 1e6;
    FILE *log_file = fopen(argv[5], "wb");
    if (!log_file)
        die(argv[5]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    poll_file = epoll_create1(EPOLL_CLOEXEC);
    timer_file = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int signal_file = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    int listener = listen_at(atoi(argv[1]));
    watch(timer_file);
    watch(signal_file);
    watch(listener);
    for (;;) {
        struct epoll_event events[256];
        int64_t armed_ns = heap_n ? heap[0].due_ns : 0;
        int n = epoll_wait(poll_file, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int file = events[i].data.fd;
            uint64_t times;
            if (file == signal_file) {
                fwrite(records, sizeof *records, records_n, log_file);
                fclose(log_file);
                fprintf(stderr, "%u requests, %u of them left by their clients\n", requests, lost);
                return 0;
            }
            if (file == timer_file) {
                if (read(timer_file, &times, sizeof times) < 0 && errno != EAGAIN)
                    die("timerfd");
            } else if (file == listener) {
                on_connect(listener);
            } else {
                on_readable(file);
            }
            on_time(); /* a token never waits for more than one other event */
        }
        on_time();
        if (heap_n && heap[0].due_ns != armed_ns)
            set_timer();
    }
}
