// Command proxy is a plain Go reverse proxy, to compare with: `proxy ADDRESS UPSTREAM…`, in turns.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"os"
	"sync/atomic"
)

func main() {
	upstreams, turn := os.Args[2:], atomic.Uint64{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.Out.URL.Scheme = "http"
			request.Out.URL.Host = upstreams[turn.Add(1)%uint64(len(upstreams))]
		},
		FlushInterval: -1,
		// With the usual two idle connections per host it would dial for nearly every request.
		Transport: &http.Transport{MaxIdleConnsPerHost: 10_000},
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(to http.ResponseWriter, request *http.Request) {
		// Else a fast answer now and then ends the stream: its head closes a request that is still looked at
		// (golang/go#40747).
		http.NewResponseController(to).EnableFullDuplex()
		proxy.ServeHTTP(to, request)
	})))
}
