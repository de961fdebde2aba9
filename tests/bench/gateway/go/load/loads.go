package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// all runs one function per client, each in a goroutine of its own, and waits for all of them.
func all(count int, run func(number int)) {
	var group sync.WaitGroup
	for number := range count {
		group.Go(func() { run(number) })
	}
	group.Wait()
}

type plainTold struct {
	Answered int     `json:"answered"`
	Seconds  float64 `json:"seconds"`
}

func plain(ask asked, connections int, seconds float64) plainTold {
	clients := ask.clients(connections, "", seconds)
	answered := make([]int, connections)
	begun := time.Now()
	end := begun.Add(time.Duration(seconds * float64(time.Second)))
	all(connections, func(number int) {
		clients[number].connect()
		defer clients[number].close()
		for time.Now().Before(end) {
			clients[number].whole()
			answered[number]++
		}
	})
	told := plainTold{Seconds: time.Since(begun).Seconds()}
	for _, count := range answered {
		told.Answered += count
	}
	return told
}

// Microseconds: of each request but the first of each connection, by target.
type pacedTold struct {
	Answered     []int     `json:"answered"`
	Microseconds [][]int64 `json:"microseconds"`
}

// Each connection has times of its own, and those of the targets take turns. rate: of each target.
func paced(asks []asked, connections int, rate, seconds float64) pacedTold {
	period := time.Duration(float64(connections) / rate * float64(time.Second))
	turns := int(rate * seconds / float64(connections))
	count := connections * len(asks)
	latencies := make([][]int64, count)
	clients := make([]*client, count)
	for target, ask := range asks {
		for number, client := range ask.clients(connections, "", seconds) {
			clients[number*len(asks)+target] = client
			client.connect()
			client.whole()
		}
	}
	begun := time.Now()
	all(count, func(number int) {
		defer clients[number].close()
		first := begun.Add(period * time.Duration(number) / time.Duration(count))
		for turn := range turns {
			time.Sleep(time.Until(first.Add(time.Duration(turn) * period)))
			sent := time.Now()
			clients[number].whole()
			latencies[number] = append(latencies[number], time.Since(sent).Microseconds())
		}
	})
	told := pacedTold{make([]int, len(asks)), make([][]int64, len(asks))}
	for number, found := range latencies {
		target := number % len(asks)
		told.Answered[target] += 1 + len(found)
		told.Microseconds[target] = append(told.Microseconds[target], found...)
	}
	return told
}

// Reads: how often something was read.  Microseconds: how long each event was on its way.
type streamsTold struct {
	Answered     int     `json:"answered"`
	Events       int     `json:"events"`
	Reads        int     `json:"reads"`
	Seconds      float64 `json:"seconds"`
	Microseconds []int64 `json:"microseconds"`
}

func (ask asked) following(streams, events int, gap time.Duration, seconds float64) []*following {
	more := fmt.Sprintf(`,"stream":true,"events":%d,"gap_ms":%d`, events, gap.Milliseconds())
	found := make([]*following, streams)
	for number, client := range ask.clients(streams, more, seconds) {
		found[number] = &following{client: client, count: events}
	}
	return found
}

// Streams begin one after the other within one gap, so that their events are spread over it.
func follow(ask asked, streams, events int, gap time.Duration) streamsTold {
	clients := ask.following(streams, events, gap, (gap * time.Duration(events)).Seconds())
	latencies := make([][]int64, streams)
	begun := time.Now()
	all(streams, func(number int) {
		time.Sleep(time.Until(begun.Add(gap * time.Duration(number) / time.Duration(streams))))
		clients[number].begin()
		for range events {
			latencies[number] = append(latencies[number], clients[number].next().Microseconds())
		}
		clients[number].end()
	})
	told := streamsTold{Answered: streams, Seconds: time.Since(begun).Seconds()}
	for number, found := range latencies {
		told.Events += len(found)
		told.Reads += clients[number].reads
		told.Microseconds = append(told.Microseconds, found...)
	}
	return told
}

const (
	openEvents    = 3600
	openGap       = time.Second
	openPerSecond = 1000
	openedBy      = 2 // events
)

// Answered: streams.
type openTold struct {
	Answered int   `json:"answered"`
	Events   int64 `json:"events"`
}

// open holds streams open until this process ends. A step is told, as `open 1000`, when all have had two events.
func open(ask asked, steps []string) openTold {
	lines := bufio.NewScanner(os.Stdin)
	var events, opened atomic.Int64
	running := 0
	for _, step := range steps {
		wanted, err := strconv.Atoi(step)
		if err != nil {
			fail("-steps %s: not numbers", strings.Join(steps, ","))
		}
		begun := time.Now()
		for number, client := range ask.following(wanted-running, openEvents, openGap, openEvents) {
			time.Sleep(time.Until(begun.Add(time.Second * time.Duration(number) / openPerSecond)))
			go func() {
				client.begin()
				for {
					client.next()
					events.Add(1)
					if client.number == openedBy {
						opened.Add(1)
					}
				}
			}()
		}
		running = wanted
		for opened.Load() < int64(running) {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Println("open", running)
		if !lines.Scan() {
			break
		}
	}
	return openTold{running, events.Load()}
}
