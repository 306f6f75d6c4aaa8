// SPDX-License-Identifier: BSD-2-Clause

// idlelinker links the DERP packages, keeps a server and a client of them in memory, and listens; but what it
// listens for is plain HTTP. It is no relay, and a tracer must not take it for one.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"

	"tailscale.com/derp/derphttp"
	"tailscale.com/derp/derpserver"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

func main() {
	addr := flag.String("a", ":8080", "listen address")
	withServer := flag.Bool("server", false, "make a DERP server that is never served")
	flag.Parse()

	client, err := derphttp.NewClient(key.NewNode(), "http://192.0.2.1/derp", log.Printf, netmon.NewStatic())
	if err != nil {
		log.Fatal(err)
	}
	var server *derpserver.Server
	if *withServer {
		server = derpserver.New(key.NewNode(), log.Printf)
	}
	// Reachable only behind a path that is never mounted: linked, not served.
	unused := http.NewServeMux()
	if server != nil {
		unused.Handle("/derp", derpserver.Handler(server))
	}

	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", ln.Addr())
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "no relay here\n")
	}))
	runtime.KeepAlive(client)
	runtime.KeepAlive(server)
	runtime.KeepAlive(unused)
	log.Fatal(err)
}
