// The bench's client: librdkafka with its defaults, acks=all. Prints one line of JSON.
//
//   client produce BROKERS TOPIC RECORD_BYTES PRODUCERS SECONDS [RECORDS_PER_SECOND]
//   client consume BROKERS TOPIC RECORDS
//   client end-to-end BROKERS TOPIC RECORD_BYTES RECORDS_PER_SECOND SECONDS
//
// Latencies are microseconds: from handing a record over to its acknowledgement (produce), or to its
// arrival at a consumer in the same process (end-to-end).

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        fail(key, error);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char error[512];
    rd_kafka_t *handle = rd_kafka_new(type, conf, error, sizeof error);
    if (!handle) fail("rd_kafka_new", error);
    return handle;
}

// A histogram with steps of about 1.6 %: 64 buckets for each power of two.
enum { STEPS = 64, BUCKETS = 40 * STEPS };
static _Atomic uint64_t latencies[BUCKETS];

static void note(int64_t us) {
    uint64_t value = us < 1 ? 1 : (uint64_t)us;
    int power = 63 - __builtin_clzll(value);
    uint64_t step = power < 6 ? (value << (6 - power)) : (value >> (power - 6));
    int bucket = power * STEPS + (int)(step - STEPS);
    atomic_fetch_add(&latencies[bucket < BUCKETS ? bucket : BUCKETS - 1], 1);
}

static double percentile(double part) {
    uint64_t total = 0, seen = 0;
    for (int n = 0; n < BUCKETS; n++) total += latencies[n];
    for (int n = 0; n < BUCKETS; n++) {
        seen += latencies[n];
        if (total && seen >= part * (double)total)
            return (double)(UINT64_C(1) << (n / STEPS)) * (1.0 + (n % STEPS) / (double)STEPS);
    }
    return 0;
}

struct load {
    const char *brokers, *topic;
    size_t record_bytes;
    double per_second; // of each producer; 0: as fast as possible
    double seconds;
    pthread_barrier_t *start;
    _Atomic uint64_t *acknowledged;
};

static _Atomic uint64_t refused;

static void delivered(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque) {
    (void)handle;
    struct load *load = opaque;
    if (message->err) {
        if (atomic_fetch_add(&refused, 1) == 0)
            fprintf(stderr, "a record was refused: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    if (!message->_private) return; // sent before the clock started
    atomic_fetch_add(load->acknowledged, 1);
    note(now_us() - (int64_t)(intptr_t)message->_private);
}

static void *produce_until(void *argument) {
    struct load *load = argument;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", load->brokers);
    set(conf, "acks", "all");
    set(conf, "linger.ms", "5");
    set(conf, "queue.buffering.max.messages", "200000");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set_opaque(conf, load);
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, conf);
    char *record = malloc(load->record_bytes);
    uint64_t random = 88172645463325252ULL ^ (uintptr_t)record;
    for (size_t n = 0; n < load->record_bytes; n++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        record[n] = (char)random;
    }
    // A producer that has connected before it hears of its topic looks for it once a second: that is the client's own,
    // and is over before the clock starts.
    rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(load->topic), RD_KAFKA_V_VALUE(record, 1), RD_KAFKA_V_END);
    rd_kafka_flush(producer, 60000);
    pthread_barrier_wait(load->start);
    int64_t began = now_us(), until = began + (int64_t)(load->seconds * 1e6);
    uint64_t sent = 0;
    for (int64_t now = began; now < until; now = now_us()) {
        double due = load->per_second * (double)(now - began) / 1e6;
        if (load->per_second > 0 && (double)sent >= due) {
            rd_kafka_poll(producer, 1);
            continue;
        }
        rd_kafka_resp_err_t error = rd_kafka_producev(
            producer, RD_KAFKA_V_TOPIC(load->topic), RD_KAFKA_V_VALUE(record, load->record_bytes),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE((void *)(intptr_t)now),
            RD_KAFKA_V_END);
        if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) rd_kafka_poll(producer, 10);
        else if (error) fail("produce", rd_kafka_err2str(error));
        else if (++sent % 64 == 0) rd_kafka_poll(producer, 0);
    }
    rd_kafka_flush(producer, 60000);
    rd_kafka_destroy(producer);
    free(record);
    return NULL;
}

static void report(uint64_t records, double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"records\":%" PRIu64 ",\"seconds\":%.3f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"cpu_s\":%.3f"
           ",\"refused\":%" PRIu64 "}\n", records, seconds, percentile(0.50), percentile(0.99), cpu_s,
           (uint64_t)refused);
}

static void produce(char **argument, int count) {
    int producers = atoi(argument[3]);
    _Atomic uint64_t acknowledged = 0;
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)producers + 1);
    struct load load = {argument[0], argument[1], (size_t)atol(argument[2]),
                        count > 5 ? atof(argument[5]) / producers : 0,
                        atof(argument[4]), &start, &acknowledged};
    pthread_t *threads = calloc((size_t)producers, sizeof *threads);
    for (int n = 0; n < producers; n++) pthread_create(&threads[n], NULL, produce_until, &load);
    pthread_barrier_wait(&start);
    int64_t began = now_us();
    for (int n = 0; n < producers; n++) pthread_join(threads[n], NULL);
    report(acknowledged, (double)(now_us() - began) / 1e6);
}

// A consumer that reads partition 0 from an offset.
static rd_kafka_t *consumer(const char *brokers, const char *topic, int64_t offset) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", "bench");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.wait.max.ms", "100");
    rd_kafka_t *handle = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(handle);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = offset;
    rd_kafka_assign(handle, list);
    rd_kafka_topic_partition_list_destroy(list);
    return handle;
}

static void consume(char **argument) {
    uint64_t wanted = strtoull(argument[2], NULL, 10), records = 0;
    rd_kafka_t *handle = consumer(argument[0], argument[1], RD_KAFKA_OFFSET_BEGINNING);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(handle);
    static rd_kafka_message_t *messages[10000];
    int64_t began = 0, last = now_us();
    while (records < wanted && now_us() - last < 30000000) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 200, messages, 10000);
        for (ssize_t n = 0; n < count; n++) {
            if (!messages[n]->err && records < wanted) {
                records++, last = now_us();
                if (!began) began = last;
            }
            rd_kafka_message_destroy(messages[n]);
        }
    }
    report(records, (double)(last - began) / 1e6);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(handle);
}

struct listener {
    rd_kafka_t *handle;
    _Atomic int *done;
    _Atomic uint64_t *seen;
};

static void *listen_until(void *argument) {
    struct listener *listener = argument;
    while (!*listener->done) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(listener->handle, 100);
        if (!message) continue;
        if (!message->err && message->len >= sizeof(int64_t)) {
            int64_t sent;
            memcpy(&sent, message->payload, sizeof sent);
            note(now_us() - sent);
            atomic_fetch_add(listener->seen, 1);
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void end_to_end(char **argument) {
    size_t length = (size_t)atol(argument[2]);
    double per_second = atof(argument[3]), seconds = atof(argument[4]);
    _Atomic int done = 0;
    _Atomic uint64_t seen = 0;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argument[0]);
    set(conf, "acks", "all");
    set(conf, "linger.ms", "0");
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, conf);
    struct listener listener = {consumer(argument[0], argument[1], RD_KAFKA_OFFSET_END), &done, &seen};
    pthread_t thread;
    pthread_create(&thread, NULL, listen_until, &listener);
    char *record = calloc(1, length < 8 ? 8 : length);
    int64_t began = now_us(), until = began + (int64_t)(seconds * 1e6);
    uint64_t sent = 0;
    for (int64_t now = began; now < until; now = now_us()) {
        if ((double)sent >= per_second * (double)(now - began) / 1e6) {
            struct timespec pause = {0, 200000};
            nanosleep(&pause, NULL);
            rd_kafka_poll(producer, 0);
            continue;
        }
        memcpy(record, &now, sizeof now);
        rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(argument[1]), RD_KAFKA_V_VALUE(record, length),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        sent++;
    }
    rd_kafka_flush(producer, 30000);
    for (int64_t deadline = now_us() + 5000000; seen < sent && now_us() < deadline;) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    done = 1;
    pthread_join(thread, NULL);
    report(seen, seconds);
    rd_kafka_destroy(producer);
    rd_kafka_destroy(listener.handle);
}

int main(int count, char **argument) {
    if (count >= 7 && !strcmp(argument[1], "produce")) produce(argument + 2, count - 2);
    else if (count == 5 && !strcmp(argument[1], "consume")) consume(argument + 2);
    else if (count == 7 && !strcmp(argument[1], "end-to-end")) end_to_end(argument + 2);
    else fail("usage", "client produce|consume|end-to-end BROKERS TOPIC ...");
    return 0;
}
