// The program of franz-go.
package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	. "headwater/tests/check"
)

var (
	background = context.Background()
	admin      = kadm.NewClient(client(kgo.ClientID("admin")))
)

func client(options ...kgo.Opt) *kgo.Client {
	all := append([]kgo.Opt{kgo.SeedBrokers(Broker)}, options...)
	return One(kgo.NewClient(all...))
}

func main() {
	records()
	groups()
	settings()
	overRestart()
	Run("delete a topic", func() {
		deleted := One(admin.DeleteTopics(background, "letters"))
		None(deleted["letters"].Err)
		Until("its end", func() bool {
			return !One(admin.ListTopics(background)).Has("letters")
		})
		deleted = One(admin.DeleteTopics(background, "letters"))
		Equal(kerr.UnknownTopicOrPartition, deleted["letters"].Err)
	})
	Finish()
}

func records() {
	Run("create topics", func() {
		for topic, partitions := range map[string]int32{"letters": 1, "shared": 4, "lasting": 1} {
			One(admin.CreateTopic(background, partitions, 1, nil, topic))
		}
		_, err := admin.CreateTopic(background, 1, 1, nil, "letters")
		That(errors.Is(err, kerr.TopicAlreadyExists), err)
		_, err = admin.CreateTopic(background, 1, 1, nil, "a b")
		That(errors.Is(err, kerr.InvalidTopicException), err)
	})
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(),
		kgo.ZstdCompression(),
	}
	for place, codec := range codecs {
		Run("produce "+Codecs[place], func() {
			first := place * Each
			producer := client(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond))
			defer producer.Close()
			var batch []*kgo.Record
			for number := first; number < first+Each; number++ {
				batch = append(batch, record(number))
			}
			for number, result := range producer.ProduceSync(background, batch...) {
				None(result.Err)
				Equal(int64(first+number), result.Record.Offset)
			}
		})
	}
	Run("read every codec", func() {
		reader := client(kgo.ConsumeTopics("letters"))
		defer reader.Close()
		number := 0
		Until("the letters", func() bool {
			for _, got := range poll(reader) {
				sent := record(number)
				Equal(int64(number), got.Offset)
				Equal(sent.Key, got.Key)
				Equal(sent.Value, got.Value)
				Equal(sent.Headers, got.Headers)
				That(sent.Timestamp.Equal(got.Timestamp), got.Timestamp)
				number++
			}
			return number == Each*len(Codecs)
		})
	})
	Run("offsets and times", func() {
		offset := func(listed kadm.ListedOffsets, err error) int64 {
			None(err)
			found, _ := listed.Lookup("letters", 0)
			None(found.Err)
			return found.Offset
		}
		Equal(int64(0), offset(admin.ListStartOffsets(background, "letters")))
		Equal(int64(500), offset(admin.ListEndOffsets(background, "letters")))
		at := Base.UnixMilli() + 250
		Equal(int64(250), offset(admin.ListOffsetsAfterMilli(background, at, "letters")))
	})
}

func record(number int) *kgo.Record {
	letter := LetterOf(number)
	record := &kgo.Record{
		Topic: "letters", Key: letter.Key, Value: letter.Value, Timestamp: letter.Time,
	}
	for _, header := range letter.Headers {
		record.Headers = append(record.Headers,
			kgo.RecordHeader{Key: header.Name, Value: []byte(header.Value)})
	}
	return record
}

func poll(reader *kgo.Client) []*kgo.Record {
	wait, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	return reader.PollFetches(wait).Records()
}

// A member of a group, and what it owns.
type member struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
}

func join(group, topic string, options ...kgo.Opt) *member {
	it := &member{owned: map[int32]bool{}}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			it.lock.Lock()
			defer it.lock.Unlock()
			for _, partition := range changed[topic] {
				if owns {
					it.owned[partition] = true
				} else {
					delete(it.owned, partition)
				}
			}
		}
	}
	it.client = client(append(options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(100*time.Millisecond))...)
	return it
}

func (it *member) count() int {
	it.lock.Lock()
	defer it.lock.Unlock()
	return len(it.owned)
}

func produce(topic string, partitions, count int) {
	producer := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	for number := range count {
		record := &kgo.Record{
			Topic: topic, Partition: int32(number % partitions), Value: []byte("value"),
		}
		None(producer.ProduceSync(background, record).FirstErr())
	}
}

func groups() {
	Run("a group of two", func() {
		one := join("pair", "shared")
		seen := map[[2]int64]int{}
		read := func(members ...*member) {
			for _, it := range members {
				for _, got := range poll(it.client) {
					seen[[2]int64{int64(got.Partition), got.Offset}]++
				}
			}
		}
		Until("all for one", func() bool { read(one); return one.count() == 4 })
		two := join("pair", "shared")
		Until("half for each", func() bool {
			read(one, two)
			return one.count() == 2 && two.count() == 2
		})
		produce("shared", 4, 40)
		Until("what was produced", func() bool { read(one, two); return len(seen) == 40 })
		for at, times := range seen {
			That(times == 1, at, " was read ", times, " times")
		}
		None(one.client.CommitUncommittedOffsets(background))
		one.client.Close()
		Until("all for two", func() bool { read(two); return two.count() == 4 })
		two.client.Close()
	})
	Run("list and describe", func() {
		Equal(4, len(One(admin.ListTopics(background))["shared"].Partitions))
		watcher := join("watched", "letters", kgo.ClientID("eye"), kgo.InstanceID("watcher"))
		defer watcher.client.Close()
		Until("the assignment", func() bool { poll(watcher.client); return watcher.count() == 1 })
		listed := One(admin.ListGroups(background))
		That(listed["watched"].Group != "" && listed["pair"].Group != "", listed)
		group := One(admin.DescribeGroups(background, "watched"))["watched"]
		None(group.Err)
		Equal("Stable", group.State)
		Equal("eye", group.Members[0].ClientID)
		Equal("watcher", *group.Members[0].InstanceID)
		Equal(1, len(One(admin.BrokerMetadata(background)).Brokers))
	})
}

func settings() {
	Run("configs, partitions and records", func() {
		value := "9000000"
		change := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}
		altered := One(admin.AlterTopicConfigs(background, []kadm.AlterConfig{change}, "shared"))
		None(altered[0].Err)
		Until("the setting", func() bool {
			told := One(admin.DescribeTopicConfigs(background, "shared"))
			for _, config := range told[0].Configs {
				if config.Key == "retention.ms" {
					return config.MaybeValue() == value
				}
			}
			return false
		})
		None(One(admin.UpdatePartitions(background, 6, "shared"))["shared"].Err)
		Until("the partitions", func() bool {
			return len(One(admin.ListTopics(background, "shared"))["shared"].Partitions) == 6
		})
		var before kadm.Offsets
		before.AddOffset("shared", 0, 5, -1)
		deleted := One(admin.DeleteRecords(background, before))
		found, _ := deleted.Lookup("shared", 0)
		None(found.Err)
		Equal(int64(5), found.LowWatermark)
	})
}

func overRestart() {
	produce("lasting", 1, 20)
	it := join("lasting", "lasting")
	defer it.client.Close()
	count := 0
	Until("the records", func() bool { count += len(poll(it.client)); return count == 20 })
	seven := map[string]map[int32]kgo.EpochOffset{"lasting": {0: {Epoch: -1, Offset: 7}}}
	it.client.CommitOffsetsSync(background, seven,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
			None(err)
		})
	Restart()
	// The connections to the broker that was killed are found closed.
	committed := func() (offset int64) {
		Until("the coordinator", func() bool {
			offsets, err := admin.FetchOffsets(background, "lasting")
			found, _ := offsets.Lookup("lasting", 0)
			offset = found.At
			return err == nil && found.Err == nil
		})
		return offset
	}
	Run("committed after a SIGKILL", func() { Equal(int64(7), committed()) })
	Run("goes on after a SIGKILL", func() {
		produce("lasting", 1, 10)
		last := int64(-1)
		Until("what was produced after the kill", func() bool {
			for _, got := range poll(it.client) {
				last = got.Offset
			}
			return last == 29
		})
		Until("the commit", func() bool {
			poll(it.client)
			return it.client.CommitUncommittedOffsets(background) == nil && committed() == 30
		})
	})
}
