package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"berth.dev/bench/gateway/answers"
)

const (
	prompts      = 16
	promptBytes  = 900
	graceSeconds = 30
)

// clients: count of them, spread over the targets, for a load that is to be over in so many seconds. Each asks for the
// models in turns, with prompts of different length and beginning. more: what a body has beyond those.
func (ask asked) clients(count int, more string, seconds float64) []*client {
	requests := map[string][][]byte{}
	for _, target := range ask.targets {
		for number := range prompts * len(ask.models) {
			prompt := fmt.Sprintf("%d %s", number, strings.Repeat("What does a reverse proxy cost? ", 64))
			body := fmt.Sprintf(`{"model":%q,"prompt":%q,"max_tokens":100,"temperature":0%s}`,
				ask.models[number%len(ask.models)], prompt[:promptBytes+number%prompts], more)
			requests[target] = append(requests[target], fmt.Appendf(nil, "POST /v1/completions HTTP/1.1\r\nHost: %s\r\n"+
				"User-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
				"Content-Length: %d\r\n\r\n%s", target, ask.key, len(body), body))
		}
	}
	found := make([]*client, count)
	for number := range found {
		target := ask.targets[number%len(ask.targets)]
		found[number] = &client{target: target, requests: requests[target], turn: number, seconds: seconds}
	}
	return found
}

// client is one connection. reads: how often it read something.
type client struct {
	target     string
	requests   [][]byte
	turn       int
	seconds    float64
	connection net.Conn
	reads      int
	room       []byte
	unread     []byte // part of room: what came and was not used yet
}

func (client *client) connect() {
	connection, err := net.DialTimeout("tcp", client.target, graceSeconds*time.Second)
	if err != nil {
		fail("%v", err)
	}
	connection.SetDeadline(time.Now().Add(time.Duration((client.seconds + graceSeconds) * float64(time.Second))))
	client.connection, client.room = connection, make([]byte, 2048)
}

func (client *client) close() {
	client.connection.Close()
}

func (client *client) send() {
	request := client.requests[client.turn%len(client.requests)]
	client.turn++
	if _, err := client.connection.Write(request); err != nil {
		fail("%v", err)
	}
}

// read adds to what is unread, which moves.
func (client *client) read() {
	if 2*len(client.unread) > len(client.room) {
		client.room = make([]byte, 4*len(client.unread))
	}
	kept := copy(client.room, client.unread)
	count, err := client.connection.Read(client.room[kept:])
	if err != nil {
		fail("%s: no answer, or half of one: %v; so far: %.300q", client.target, err, client.unread)
	}
	client.reads++
	client.unread = client.room[:kept+count]
}

// head reads one and returns the body's length, -1 for a chunked one.
func (client *client) head() int {
	end := bytes.Index(client.unread, []byte("\r\n\r\n"))
	for end < 0 {
		client.read()
		end = bytes.Index(client.unread, []byte("\r\n\r\n"))
	}
	head := client.unread[:end]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		fail("%s answered: %.600q", client.target, client.unread)
	}
	length := -2
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		if bytes.EqualFold(name, []byte("content-length")) {
			parsed, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil {
				fail("%s answered with a length that is none: %q", client.target, head)
			}
			length = int(parsed)
		} else if bytes.EqualFold(name, []byte("transfer-encoding")) && bytes.EqualFold(value, []byte("chunked")) {
			length = -1
		}
	}
	if length == -2 {
		fail("%s answered without a length: %q", client.target, head)
	}
	client.unread = client.unread[end+4:]
	return length
}

// whole asks once and reads the answer to its end.
func (client *client) whole() {
	client.send()
	length := client.head()
	if length != answers.PlainBytes {
		fail("%s answered with a length of %d, not %d", client.target, length, answers.PlainBytes)
	}
	for len(client.unread) < length {
		client.read()
	}
	if !bytes.Equal(client.unread, answers.Plain) {
		fail("%s answered something else: %.700q", client.target, client.unread)
	}
	client.unread = nil
}

// chunk is the next one, valid until the next call; empty at the end.
func (client *client) chunk() []byte {
	for {
		if end := bytes.Index(client.unread, []byte("\r\n")); end >= 0 {
			size, err := strconv.ParseUint(string(client.unread[:end]), 16, 31)
			if err != nil {
				fail("%s sent a chunk without a size: %.300q", client.target, client.unread)
			}
			if whole := end + 2 + int(size) + 2; len(client.unread) >= whole {
				chunk, after := client.unread[end+2:whole-2], client.unread[whole-2:whole]
				if string(after) != "\r\n" {
					fail("%s sent a chunk of another size than it says: %.300q", client.target, client.unread)
				}
				client.unread = client.unread[whole:]
				return chunk
			}
		}
		client.read()
	}
}

// following is a client that reads a stream of so many events.
type following struct {
	*client
	count  int
	number int
	text   []byte
}

// begin asks for the stream and reads its head.
func (following *following) begin() {
	following.connect()
	following.send()
	if length := following.head(); length != -1 {
		fail("%s sent a stream with a length of %d", following.target, length)
	}
}

// next reads an event and returns how long it was on its way.
func (following *following) next() time.Duration {
	for len(following.text) < answers.EventBytes {
		chunk := following.chunk()
		if len(chunk) == 0 {
			fail("%s ended a stream after %d of %d events", following.target, following.number, following.count)
		}
		following.text = append(following.text, chunk...)
	}
	now := time.Now().UnixNano()
	sent, err := answers.ReadEvent(following.text[:answers.EventBytes], following.number, following.count)
	if err != nil {
		fail("%s: %v", following.target, err)
	}
	following.number++
	following.text = append(following.text[:0], following.text[answers.EventBytes:]...)
	return time.Duration(now - sent)
}

// end reads what follows the last event.
func (following *following) end() {
	for chunk := following.chunk(); len(chunk) > 0; chunk = following.chunk() {
		following.text = append(following.text, chunk...)
	}
	if string(following.text) != answers.Done || len(following.unread) > 0 {
		fail("%s ended a stream with %.300q", following.target, following.text)
	}
	following.close()
}
