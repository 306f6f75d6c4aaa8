// SPDX-License-Identifier: BSD-2-Clause

// plainrelay is a DERP relay over plain HTTP, made and meshed as Coder makes and meshes the relays inside its
// replicas: net/http in front of tailscale's DERP server, WebSocket beside the plain upgrade, http:// mesh
// URLs, and a listener from net.Listen, which since Go 1.24 is an MPTCP one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/derp/derpserver"
	"tailscale.com/net/netmon"
	"tailscale.com/tsweb"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

var (
	addr     = flag.String("a", ":80", "listen address")
	keyFile  = flag.String("c", "", "file with the server's private key, as derper's; made when it is not there")
	meshKey  = flag.String("mesh-key", "", "mesh key, 64 hex digits")
	meshWith = flag.String("mesh-with", "", "comma-separated http:// URLs of the relays to mesh with")
	mptcp    = flag.Bool("mptcp", true, "let the listener be MPTCP, as net.Listen does")
)

type config struct {
	PrivateKey key.NodePrivate
}

func loadKey(path string) (key.NodePrivate, error) {
	if path == "" {
		return key.NewNode(), nil
	}
	var cfg config
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		cfg.PrivateKey = key.NewNode()
		if b, err = json.Marshal(cfg); err == nil {
			err = os.WriteFile(path, b, 0600)
		}
		return cfg.PrivateKey, err
	}
	if err != nil {
		return key.NodePrivate{}, err
	}
	err = json.Unmarshal(b, &cfg)
	return cfg.PrivateKey, err
}

// mesh dials one other relay and keeps dialling: the loop waits 5 s between tries, as derper's does.
func mesh(s *derpserver.Server, url string) error {
	logf := logger.WithPrefix(log.Printf, fmt.Sprintf("mesh(%q): ", url))
	c, err := derphttp.NewClient(s.PrivateKey(), strings.TrimSuffix(url, "/")+"/derp", logf, netmon.NewStatic())
	if err != nil {
		return err
	}
	c.MeshKey = s.MeshKey()
	c.WatchConnectionChanges = true
	add := func(m derp.PeerPresentMessage) { s.AddPacketForwarder(m.Key, c) }
	remove := func(m derp.PeerGoneMessage) { s.RemovePacketForwarder(m.Peer, c) }
	go c.RunWatchConnectionLoop(context.Background(), s.PublicKey(), logf, add, remove, func(error) {})
	return nil
}

func listen(addr string, mptcp bool) (net.Listener, error) {
	if mptcp {
		return net.Listen("tcp", addr)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), "tcp", addr)
}

func run() error {
	flag.Parse()
	priv, err := loadKey(*keyFile)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	s := derpserver.New(priv, log.Printf)
	if *meshKey != "" {
		if err := s.SetMeshKey(*meshKey); err != nil {
			return fmt.Errorf("mesh key: %w", err)
		}
	}
	if *meshWith != "" {
		if !s.HasMeshKey() {
			return errors.New("-mesh-with needs -mesh-key")
		}
		for _, url := range strings.Split(*meshWith, ",") {
			if err := mesh(s, url); err != nil {
				return fmt.Errorf("mesh with %s: %w", url, err)
			}
		}
	}
	expvar.Publish("derp", s.ExpVar(false))

	mux := http.NewServeMux()
	mux.Handle("/derp", derpserver.AddWebSocketSupport(s, derpserver.Handler(s)))
	mux.HandleFunc("/derp/latency-check", derpserver.ProbeHandler)
	tsweb.Debugger(mux) // /debug/varz, from loopback only

	ln, err := listen(*addr, *mptcp)
	if err != nil {
		return err
	}
	log.Printf("plainrelay: serving on %s", ln.Addr())
	return http.Serve(ln, mux)
}

func main() {
	log.Fatal(run())
}
