// kafkajs. See tests/src/checks.rs for what is printed; the only argument is the broker's address.

const assert = require("node:assert");
const readline = require("node:readline");
const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require("kafkajs");

// What kafkajs brings along; the other codecs are packages of others.
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP };
const EACH = 100;
// Within any retention, and not the time at which anything is appended.
const BASE_MS = Date.now() - 3_600_000;
const DEADLINE_MS = 60_000;

const [broker] = process.argv.slice(2);
const kafka = new Kafka({
  clientId: "eye",
  brokers: [broker],
  logLevel: logLevel.NOTHING,
  retry: { retries: 30, initialRetryTime: 50, maxRetryTime: 500 },
});
const admin = kafka.admin();
const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let failed = false;

async function check(name, body) {
  try {
    await body();
    console.log(`ok ${name}`);
  } catch (error) {
    failed = true;
    console.error(error);
    const at = /kafkajs_client\.js:\d+/.exec(error.stack);
    console.log(`FAILED ${name}: ${String(error).replace(/\s+/g, " ")} at ${at}`);
  }
}

async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    assert(Date.now() < end, `in vain: ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

async function restart() {
  console.log("restart");
  await input.next();
}

// Some without key, some without value, one header name twice.
function letter(number) {
  return {
    key: number % 10 === 1 ? null : `key ${number % 7}`,
    value: number % 10 === 2 ? null : `letter ${number} ${"x".repeat(number % 50)}`,
    headers: { n: [String(number), "again"], other: "one" },
    timestamp: String(BASE_MS + number),
  };
}

function asText(bytes) {
  return bytes === null ? null : bytes.toString();
}

function consumer(groupId) {
  const often = { heartbeatInterval: 100, maxWaitTimeInMs: 100 };
  return kafka.consumer({ groupId, sessionTimeout: 10_000, ...often });
}

// Starts a member that notes what it reads and which partitions it has.
async function member(groupId, topic) {
  const it = { consumer: consumer(groupId), partitions: [], read: [] };
  it.consumer.on(it.consumer.events.GROUP_JOIN, ({ payload }) => {
    it.partitions = payload.memberAssignment[topic] ?? [];
  });
  await it.consumer.connect();
  await it.consumer.subscribe({ topic, fromBeginning: true });
  await it.consumer.run({
    autoCommitInterval: 100,
    eachMessage: async ({ partition, message }) => {
      it.read.push({ partition, ...message });
    },
  });
  return it;
}

async function produce(topic, partition, count) {
  const producer = kafka.producer();
  await producer.connect();
  const messages = [...Array(count).keys()].map((n) => ({ partition, value: `value ${n}` }));
  await producer.send({ topic, messages });
  await producer.disconnect();
}

async function records() {
  await check("create topics", async () => {
    const topics = [["letters", 1], ["shared", 4], ["lasting", 1]].map(([topic, numPartitions]) => {
      return { topic, numPartitions, replicationFactor: 1 };
    });
    assert.equal(await admin.createTopics({ topics, waitForLeaders: true }), true);
    // It is there already.
    assert.equal(await admin.createTopics({ topics: [{ topic: "letters" }] }), false);
    await assert.rejects(admin.createTopics({ topics: [{ topic: "a b" }] }));
  });

  let first = 0;
  for (const [codec, compression] of Object.entries(CODECS)) {
    await check(`produce ${codec}`, async () => {
      const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
      await producer.connect();
      const messages = [...Array(EACH).keys()].map((n) => letter(first + n));
      const [sent] = await producer.send({ topic: "letters", compression, messages });
      assert.equal(sent.baseOffset, String(first));
      await producer.disconnect();
    });
    first += EACH;
  }

  await check("read every codec", async () => {
    const reader = await member("letters", "letters");
    await until("the letters", () => reader.read.length >= first);
    await reader.consumer.disconnect();
    assert.equal(reader.read.length, first);
    for (const [number, got] of reader.read.entries()) {
      const sent = letter(number);
      assert.equal(got.offset, String(number));
      assert.equal(asText(got.key), sent.key);
      assert.equal(asText(got.value), sent.value);
      assert.equal(got.timestamp, sent.timestamp);
      assert.deepEqual(got.headers.n.map(asText), sent.headers.n);
      assert.equal(asText(got.headers.other), "one");
    }
  });

  await check("offsets and times", async () => {
    const [ends] = await admin.fetchTopicOffsets("letters");
    assert.deepEqual([ends.low, ends.high], ["0", String(first)]);
    const [found] = await admin.fetchTopicOffsetsByTimestamp("letters", BASE_MS + 150);
    assert.equal(found.offset, "150");
  });
}

async function groups() {
  await check("a group of two", async () => {
    const one = await member("pair", "shared");
    await until("all for one", () => one.partitions.length === 4);
    const two = await member("pair", "shared");
    await until("half for each", () => one.partitions.length === 2 && two.partitions.length === 2);
    for (let partition = 0; partition < 4; partition++) {
      await produce("shared", partition, 10);
    }
    await until("what was produced", () => one.read.length + two.read.length >= 40);
    const read = [...one.read, ...two.read].map((it) => `${it.partition} ${it.offset}`);
    assert.equal(new Set(read).size, 40);
    assert.equal(read.length, 40);
    await one.consumer.disconnect();
    await until("all for two", () => two.partitions.length === 4);
    await two.consumer.disconnect();
  });

  await check("list and describe", async () => {
    const topics = await admin.listTopics();
    assert(topics.includes("letters") && topics.includes("shared"), String(topics));
    const metadata = await admin.fetchTopicMetadata({ topics: ["shared"] });
    assert.equal(metadata.topics[0].partitions.length, 4);
    const watcher = await member("watched", "letters");
    await until("the assignment", () => watcher.partitions.length === 1);
    const { groups } = await admin.listGroups();
    const named = groups.map((group) => group.groupId);
    assert(named.includes("watched") && named.includes("pair"), String(named));
    const [group] = (await admin.describeGroups(["watched"])).groups;
    assert.deepEqual([group.state, group.protocolType], ["Stable", "consumer"]);
    assert.equal(group.members.length, 1);
    assert.equal(group.members[0].clientId, "eye");
    await watcher.consumer.disconnect();
    const cluster = await admin.describeCluster();
    assert.deepEqual(cluster.brokers.map((it) => `${it.host}:${it.port}`), [broker]);
  });
}

async function settings() {
  await check("configs, partitions and records", async () => {
    const resource = { type: ConfigResourceTypes.TOPIC, name: "shared" };
    const configEntries = [{ name: "retention.ms", value: "9000000" }];
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] });
    await until("the setting", async () => {
      const asked = [{ ...resource, configNames: ["retention.ms"] }];
      const told = await admin.describeConfigs({ includeSynonyms: false, resources: asked });
      return told.resources[0].configEntries[0].configValue === "9000000";
    });
    await admin.createPartitions({ topicPartitions: [{ topic: "shared", count: 6 }] });
    await until("the partitions", async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: ["shared"] });
      return topics[0].partitions.length === 6;
    });
    const partitions = [{ partition: 0, offset: "5" }];
    await until("the first offset", async () => {
      // The new partitions may not have a leader yet, and the client asks for the offsets of all of them first.
      const deleted = admin.deleteTopicRecords({ topic: "shared", partitions });
      if (!(await deleted.then(() => true, () => false))) return false;
      const ends = await admin.fetchTopicOffsets("shared");
      return ends.find((it) => it.partition === 0)?.low === "5";
    });
  });
}

async function overRestart() {
  const committed = async (topic) => {
    const told = await admin.fetchOffsets({ groupId: "lasting", topics: [topic] });
    return told[0].partitions[0];
  };
  await produce("lasting", 0, 20);
  const seven = [{ partition: 0, offset: "7" }];
  await admin.setOffsets({ groupId: "lasting", topic: "lasting", partitions: seven });
  await restart();
  await check("committed after a SIGKILL", async () => {
    assert.equal((await committed("lasting")).offset, "7");
  });
  await check("goes on after a SIGKILL", async () => {
    const reader = await member("lasting", "lasting");
    await until("the rest", () => reader.read.length >= 13);
    assert.equal(reader.read[0].offset, "7");
    await restart();
    await produce("lasting", 0, 10);
    await until("what was produced after the kill", () => {
      return reader.read.some((it) => it.offset === "29");
    });
    await until("the commit", async () => (await committed("lasting")).offset === "30");
    await reader.consumer.disconnect();
    await admin.deleteGroups(["lasting"]);
  });
}

async function main() {
  await admin.connect();
  await records();
  await groups();
  await settings();
  await overRestart();
  await check("delete a topic", async () => {
    await admin.deleteTopics({ topics: ["letters"] });
    await until("its end", async () => !(await admin.listTopics()).includes("letters"));
  });
  await admin.disconnect();
  process.exit(failed ? 1 : 0);
}

main().catch((error) => {
  console.error(error);
  process.exit(2);
});
