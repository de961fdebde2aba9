// Command stub plays engines: `stub ADDRESS…` answers POSTs at each address like vLLM, one goroutine per connection.
//
// A body with "stream":true gets "events" events, one each "gap_ms", one chunk and one write each; any other body gets
// a whole answer. GET /counts tells what was done so far. Requests must have a Content-Length.
// Prints `ready` once it listens.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"berth.dev/bench/gateway/answers"
)

const mostHeadBytes = 64 << 10

// left: streams whose client went away before the end.
var connections, plain, streams, events, left, refused atomic.Int64

// Like that of a real server the date changes every second: a proxy that knows a head again may not know it for ever.
var date atomic.Pointer[string]

func main() {
	tell()
	go func() {
		for range time.Tick(time.Second) {
			tell()
		}
	}()
	for _, address := range os.Args[1:] {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		go accept(listener)
	}
	fmt.Println("ready")
	select {}
}

func tell() {
	now := time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	date.Store(&now)
}

func accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	connections.Add(1)
	buffer := make([]byte, 0, 4096)
	answer := make([]byte, 0, 1024)
	for {
		head, body, rest, err := request(connection, buffer)
		if err == io.EOF {
			return
		}
		if err != nil {
			refused.Add(1)
			fmt.Fprintf(connection, "HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s", len(err.Error()), err)
			return
		}
		switch {
		case bytes.HasPrefix(head, []byte("GET /counts ")):
			told := fmt.Sprintf(`{"connections":%d,"plain":%d,"streams":%d,"events":%d,"left":%d,"refused":%d}`,
				connections.Load(), plain.Load(), streams.Load(), events.Load(), left.Load(), refused.Load())
			answer = append(whole(answer[:0], len(told)), told...)
			_, err = connection.Write(answer)
		case bytes.Contains(body, []byte(`"stream":true`)):
			streams.Add(1)
			err = stream(connection, number(body, `"events":`), time.Duration(number(body, `"gap_ms":`))*time.Millisecond)
			if err != nil {
				left.Add(1)
			}
		default:
			plain.Add(1)
			answer = append(whole(answer[:0], answers.PlainBytes), answers.Plain...)
			_, err = connection.Write(answer)
		}
		if err != nil {
			return
		}
		buffer = append(buffer[:0], rest...)
	}
}

// request reads one; buffer has what is already there. rest: what follows it. io.EOF: the client is gone.
func request(connection net.Conn, buffer []byte) (head, body, rest []byte, err error) {
	for {
		if end := bytes.Index(buffer, []byte("\r\n\r\n")); end >= 0 {
			length := 0
			if !bytes.HasPrefix(buffer, []byte("GET ")) {
				if length, err = strconv.Atoi(field(buffer[:end+2], "content-length")); err != nil {
					return nil, nil, nil, fmt.Errorf("no content-length: %q", buffer[:end])
				}
			}
			if whole := end + 4 + length; len(buffer) >= whole {
				return buffer[:end], buffer[end+4 : whole], buffer[whole:], nil
			}
		} else if len(buffer) > mostHeadBytes {
			return nil, nil, nil, fmt.Errorf("no end of the head in %d bytes", len(buffer))
		}
		if len(buffer) == cap(buffer) {
			buffer = append(make([]byte, 0, 2*cap(buffer)), buffer...)
		}
		count, err := connection.Read(buffer[len(buffer):cap(buffer)])
		if err != nil {
			return nil, nil, nil, io.EOF
		}
		buffer = buffer[:len(buffer)+count]
	}
}

// field is the value of a header, "" without it.
func field(head []byte, name string) string {
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return string(bytes.TrimSpace(line[len(name)+1:]))
		}
	}
	return ""
}

// number is the digits behind `name` in a JSON text, 0 without them.
func number(text []byte, name string) int {
	found := 0
	if at := bytes.Index(text, []byte(name)); at >= 0 {
		for _, digit := range text[at+len(name):] {
			if digit < '0' || digit > '9' {
				break
			}
			found = 10*found + int(digit-'0')
		}
	}
	return found
}

func whole(to []byte, length int) []byte {
	return start(to, "content-length: "+strconv.Itoa(length)+"\r\ncontent-type: application/json\r\nvary: Origin")
}

// start appends a head as vLLM's server writes it. lines: those behind the first two headers, in its order.
func start(to []byte, lines string) []byte {
	return append(to, "HTTP/1.1 200 OK\r\ndate: "+*date.Load()+"\r\nserver: uvicorn\r\n"+lines+"\r\n\r\n"...)
}

func stream(connection net.Conn, count int, gap time.Duration) error {
	begun := time.Now()
	buffer := start(make([]byte, 0, 512), "content-type: text/event-stream; charset=utf-8\r\n"+
		"vary: Origin\r\ntransfer-encoding: chunked")
	for number := range count {
		time.Sleep(time.Until(begun.Add(time.Duration(number) * gap)))
		// The head goes out with the first event, one write as for each other.
		buffer = append(buffer, fmt.Sprintf("%x\r\n", answers.EventBytes)...)
		buffer = append(answers.AppendEvent(buffer, number, count, time.Now().UnixNano()), "\r\n"...)
		if _, err := connection.Write(buffer); err != nil {
			return err
		}
		events.Add(1)
		buffer = buffer[:0]
	}
	buffer = append(buffer, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(answers.Done), answers.Done)...)
	_, err := connection.Write(buffer)
	return err
}
