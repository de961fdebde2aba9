// Package answers is what the stub upstream answers and the load generator expects, byte for byte.
package answers

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// PlainBytes and EventBytes are the sizes of a whole answer's body and of one event of a stream, framing apart.
const (
	PlainBytes = 600
	EventBytes = 254
)

// Done ends a stream.
const Done = "data: [DONE]\n\n"

// Plain is the body of a whole answer, as vLLM writes one.
var Plain = []byte(padded(`{"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"bench","choices":[{"index":0,`+
	`"text":"`, `","logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":200,"total_tokens":300,`+
	`"completion_tokens":100}}`, PlainBytes))

// The number of an event and the time it was sent stand first, in as many digits each time.
const (
	numberAt, numberDigits = len(`data: {"n":"`), 7
	sentAt, sentDigits     = numberAt + numberDigits + len(`","sent":"`), 19
	head                   = `data: {"n":"0000000","sent":"0000000000000000000","object":"text_completion","model":"bench","choices":[`
)

var (
	event     = []byte(padded(head+`{"index":0,"text":"`, `","logprobs":null,"finish_reason":null}]}`+"\n\n", EventBytes))
	lastEvent = []byte(padded(head+`{"text":"`, `"}],"usage":{"prompt_tokens":200,"total_tokens":300,`+
		`"completion_tokens":100}}`+"\n\n", EventBytes))
)

func padded(before, after string, size int) string {
	return before + strings.Repeat("w", size-len(before)-len(after)) + after
}

// AppendEvent appends event `number` of `count`; the last one has the usage. sent: nanoseconds since 1970.
func AppendEvent(to []byte, number, count int, sent int64) []byte {
	at := len(to)
	to = append(to, template(number, count)...)
	digits(to[at+numberAt:at+numberAt+numberDigits], int64(number))
	digits(to[at+sentAt:at+sentAt+sentDigits], sent)
	return to
}

// ReadEvent checks that data is event `number` of `count` and returns when it was sent.
func ReadEvent(data []byte, number, count int) (int64, error) {
	sent, err := strconv.ParseInt(string(data[sentAt:sentAt+sentDigits]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("event %d: %q", number, data)
	}
	var room [EventBytes]byte
	if !bytes.Equal(data, AppendEvent(room[:0], number, count, sent)) {
		return 0, fmt.Errorf("event %d is not what was sent: %q", number, data)
	}
	return sent, nil
}

func template(number, count int) []byte {
	if number == count-1 {
		return lastEvent
	}
	return event
}

func digits(to []byte, value int64) {
	for at := len(to) - 1; at >= 0; at-- {
		to[at] = byte('0' + value%10)
		value /= 10
	}
}
