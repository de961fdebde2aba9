module berth.dev/bench/gateway

go 1.26.0
