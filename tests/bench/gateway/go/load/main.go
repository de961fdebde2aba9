// Command load is the load generator. It tells what came of a load in one line of JSON, or fails at the first answer
// that is not what the stub sends.
//
//	load plain   -targets … -connections 64 -seconds 3         as fast as answers come
//	load paced   -targets … -against … -connections 4 -rate 200 -seconds 4   in turns, one request to each
//	load streams -targets … -streams 200 -events 100 -gap-ms 40
//	load open    -targets … -steps 1000,5000                   streams that go on; waits for a line after each step
//
// targets: addresses, separated by commas, that connections are spread over.  -models: names to ask for, in turns.
// The environment's BENCH_KEY is the bearer token.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// asked is what all loads have in common.
type asked struct {
	targets, models []string
	key             string
}

func main() {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	targets := flags.String("targets", "", "")
	against := flags.String("against", "", "")
	models := flags.String("models", "bench", "")
	connections := flags.Int("connections", 64, "")
	seconds := flags.Float64("seconds", 3, "")
	rate := flags.Float64("rate", 200, "")
	streams := flags.Int("streams", 200, "")
	events := flags.Int("events", 100, "")
	gap := flags.Int("gap-ms", 40, "")
	steps := flags.String("steps", "1000", "")
	if len(os.Args) < 2 {
		fail("load plain, paced, streams or open?")
	}
	flags.Parse(os.Args[2:])
	ask := asked{strings.Split(*targets, ","), strings.Split(*models, ","), os.Getenv("BENCH_KEY")}
	var told any
	switch os.Args[1] {
	case "plain":
		told = plain(ask, *connections, *seconds)
	case "paced":
		other := ask
		other.targets = strings.Split(*against, ",")
		told = paced([]asked{ask, other}, *connections, *rate, *seconds)
	case "streams":
		told = follow(ask, *streams, *events, time.Duration(*gap)*time.Millisecond)
	case "open":
		told = open(ask, strings.Split(*steps, ","))
	default:
		fail("no such load: %s", os.Args[1])
	}
	line, err := json.Marshal(told)
	if err != nil {
		fail("%v", err)
	}
	fmt.Println(string(line))
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
