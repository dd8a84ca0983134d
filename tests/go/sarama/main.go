// The program of sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	. "headwater/tests/check"
)

var background = context.Background()

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "eye"
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	return config
}

func main() {
	admin := One(sarama.NewClusterAdmin([]string{Broker}, config()))
	records(admin)
	groups(admin)
	settings(admin)
	overRestart(admin)
	Run("delete a topic", func() {
		None(admin.DeleteTopic("letters"))
		Until("its end", func() bool {
			_, there := One(admin.ListTopics())["letters"]
			return !there
		})
		err := admin.DeleteTopic("letters")
		That(errors.Is(err, sarama.ErrUnknownTopicOrPartition), err)
	})
	Finish()
}

func records(admin sarama.ClusterAdmin) {
	Run("create topics", func() {
		for topic, partitions := range map[string]int32{"letters": 1, "shared": 4, "lasting": 1} {
			None(admin.CreateTopic(topic, detail(partitions), false))
		}
		err := admin.CreateTopic("letters", detail(1), false)
		That(errors.Is(err, sarama.ErrTopicAlreadyExists), err)
		err = admin.CreateTopic("a b", detail(1), false)
		That(errors.Is(err, sarama.ErrInvalidTopic), err)
	})
	codecs := []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy,
		sarama.CompressionLZ4, sarama.CompressionZSTD,
	}
	for place, codec := range codecs {
		Run("produce "+Codecs[place], func() {
			config := config()
			config.Producer.Compression = codec
			config.Producer.Idempotent = true
			config.Net.MaxOpenRequests = 1
			producer := One(sarama.NewSyncProducer([]string{Broker}, config))
			defer producer.Close()
			first := place * Each
			var batch []*sarama.ProducerMessage
			for number := first; number < first+Each; number++ {
				batch = append(batch, message(number))
			}
			None(producer.SendMessages(batch))
			for number, sent := range batch {
				Equal(int64(first+number), sent.Offset)
			}
		})
	}
	Run("read every codec", func() {
		consumer := One(sarama.NewConsumer([]string{Broker}, config()))
		defer consumer.Close()
		reader := One(consumer.ConsumePartition("letters", 0, sarama.OffsetOldest))
		defer reader.Close()
		for number := range Each * len(Codecs) {
			select {
			case got := <-reader.Messages():
				sent := LetterOf(number)
				Equal(int64(number), got.Offset)
				Equal(sent.Key, got.Key)
				Equal(sent.Value, got.Value)
				That(sent.Time.Equal(got.Timestamp), got.Timestamp)
				var headers []Header
				for _, header := range got.Headers {
					headers = append(headers,
						Header{Name: string(header.Key), Value: string(header.Value)})
				}
				Equal(sent.Headers, headers)
			case <-time.After(Deadline):
				panic(fmt.Sprint("nothing more after ", number))
			}
		}
	})
	Run("offsets and times", func() {
		client := One(sarama.NewClient([]string{Broker}, config()))
		defer client.Close()
		Equal(int64(0), One(client.GetOffset("letters", 0, sarama.OffsetOldest)))
		Equal(int64(500), One(client.GetOffset("letters", 0, sarama.OffsetNewest)))
		Equal(int64(250), One(client.GetOffset("letters", 0, Base.UnixMilli()+250)))
	})
}

func detail(partitions int32) *sarama.TopicDetail {
	return &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}
}

func message(number int) *sarama.ProducerMessage {
	letter := LetterOf(number)
	message := &sarama.ProducerMessage{Topic: "letters", Timestamp: letter.Time}
	if letter.Key != nil {
		message.Key = sarama.ByteEncoder(letter.Key)
	}
	if letter.Value != nil {
		message.Value = sarama.ByteEncoder(letter.Value)
	}
	for _, header := range letter.Headers {
		message.Headers = append(message.Headers,
			sarama.RecordHeader{Key: []byte(header.Name), Value: []byte(header.Value)})
	}
	return message
}

// A member of a group, what it owns and what it read.
type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	ended  chan struct{}
	lock   sync.Mutex
	owned  int
	seen   [][2]int64
}

func join(group, topic string) *member {
	it := &member{
		group: One(sarama.NewConsumerGroup([]string{Broker}, group, config())),
		ended: make(chan struct{}),
	}
	var wait context.Context
	wait, it.cancel = context.WithCancel(background)
	go func() {
		defer close(it.ended)
		for wait.Err() == nil {
			// A rebalance ends it, and so does a broker that is away.
			if it.group.Consume(wait, []string{topic}, it) != nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
	return it
}

func (it *member) Setup(session sarama.ConsumerGroupSession) error {
	it.lock.Lock()
	defer it.lock.Unlock()
	it.owned = 0
	for _, partitions := range session.Claims() {
		it.owned += len(partitions)
	}
	return nil
}

func (it *member) Cleanup(sarama.ConsumerGroupSession) error {
	it.lock.Lock()
	defer it.lock.Unlock()
	it.owned = 0
	return nil
}

func (it *member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for message := range claim.Messages() {
		it.lock.Lock()
		it.seen = append(it.seen, [2]int64{int64(message.Partition), message.Offset})
		it.lock.Unlock()
		session.MarkMessage(message, "")
	}
	return nil
}

func (it *member) count() int {
	it.lock.Lock()
	defer it.lock.Unlock()
	return it.owned
}

func (it *member) read() [][2]int64 {
	it.lock.Lock()
	defer it.lock.Unlock()
	return append([][2]int64(nil), it.seen...)
}

func (it *member) leave() {
	it.cancel()
	<-it.ended
	None(it.group.Close())
}

func produce(topic string, partitions, count int) {
	producer := One(sarama.NewSyncProducer([]string{Broker}, config()))
	defer producer.Close()
	for number := range count {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Partition: int32(number % partitions), Value: sarama.StringEncoder("value"),
		})
		None(err)
	}
}

func groups(admin sarama.ClusterAdmin) {
	Run("a group of two", func() {
		one := join("pair", "shared")
		Until("all for one", func() bool { return one.count() == 4 })
		two := join("pair", "shared")
		Until("half for each", func() bool { return one.count() == 2 && two.count() == 2 })
		produce("shared", 4, 40)
		Until("what was produced", func() bool { return len(one.read())+len(two.read()) >= 40 })
		all := map[[2]int64]bool{}
		for _, at := range append(one.read(), two.read()...) {
			That(!all[at], at, " was read twice")
			all[at] = true
		}
		Equal(40, len(all))
		one.leave()
		Until("all for two", func() bool { return two.count() == 4 })
		two.leave()
	})
	Run("list and describe", func() {
		Equal(int32(4), One(admin.ListTopics())["shared"].NumPartitions)
		watcher := join("watched", "letters")
		defer watcher.leave()
		Until("the assignment", func() bool { return watcher.count() == 1 })
		listed := One(admin.ListConsumerGroups())
		Equal("consumer", listed["watched"])
		_, there := listed["pair"]
		That(there, listed)
		group := One(admin.DescribeConsumerGroups([]string{"watched"}))[0]
		Equal("Stable", group.State)
		Equal(1, len(group.Members))
		for _, member := range group.Members {
			Equal("eye", member.ClientId)
		}
		brokers, _, err := admin.DescribeCluster()
		None(err)
		Equal(1, len(brokers))
	})
}

func settings(admin sarama.ClusterAdmin) {
	Run("configs, partitions and records", func() {
		value := "9000000"
		retention := func() string {
			entries := One(admin.DescribeConfig(sarama.ConfigResource{
				Type: sarama.TopicResource, Name: "shared", ConfigNames: []string{"retention.ms"},
			}))
			return entries[0].Value
		}
		None(admin.AlterConfig(sarama.TopicResource, "shared",
			map[string]*string{"retention.ms": &value}, false))
		Until("the setting", func() bool { return retention() == value })
		value = "8000000"
		None(admin.IncrementalAlterConfig(sarama.TopicResource, "shared",
			map[string]sarama.IncrementalAlterConfigsEntry{
				"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
			}, false))
		Until("the setting", func() bool { return retention() == value })
		None(admin.CreatePartitions("shared", 6, nil, false))
		Until("the partitions", func() bool {
			return One(admin.ListTopics())["shared"].NumPartitions == 6
		})
		None(admin.DeleteRecords("shared", map[int32]int64{0: 5}))
		client := One(sarama.NewClient([]string{Broker}, config()))
		defer client.Close()
		Equal(int64(5), One(client.GetOffset("shared", 0, sarama.OffsetOldest)))
	})
}

func overRestart(admin sarama.ClusterAdmin) {
	produce("lasting", 1, 20)
	client := One(sarama.NewClient([]string{Broker}, config()))
	offsets := One(sarama.NewOffsetManagerFromClient("lasting", client))
	partition := One(offsets.ManagePartition("lasting", 0))
	partition.MarkOffset(7, "seven")
	offsets.Commit()
	None(partition.Close())
	None(offsets.Close())
	None(client.Close())
	committed := func() *sarama.OffsetFetchResponseBlock {
		asked := map[string][]int32{"lasting": {0}}
		return One(admin.ListConsumerGroupOffsets("lasting", asked)).GetBlock("lasting", 0)
	}
	Restart()
	Run("committed after a SIGKILL", func() {
		Until("the coordinator", func() bool { return committed().Err == sarama.ErrNoError })
		Equal(int64(7), committed().Offset)
		Equal("seven", committed().Metadata)
	})
	Run("goes on after a SIGKILL", func() {
		it := join("lasting", "lasting")
		defer it.leave()
		Until("the rest", func() bool { return len(it.read()) >= 13 })
		Equal([2]int64{0, 7}, it.read()[0])
		Restart()
		produce("lasting", 1, 10)
		Until("what was produced after the kill", func() bool {
			read := it.read()
			return read[len(read)-1][1] == 29
		})
		Until("the commit", func() bool { return committed().Offset == 30 })
	})
}
