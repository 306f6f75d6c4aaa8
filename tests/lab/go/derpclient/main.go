// SPDX-License-Identifier: BSD-2-Clause

// derpclient holds DERP clients made of tailscale's own derphttp package, many to a process, and is told what to
// do line by line. It reads commands on standard input and writes one JSON object a line on standard output:
//
//	peer NAME URL                      connect; {"ev":"up","peer","key","server"}
//	send SRC DST COUNT SIZE [RATE]     DST is a name or nodekey:HEX; RATE in packets a second, 0 is flat out;
//	                                   {"ev":"sent","src_name","dst","sent","sent_bytes"} when done
//	stats                              {"ev":"stats","peers":{NAME:{...}}}
//	close NAME                         {"ev":"down","peer"}
//	quit
//
// What cannot be done is answered with {"ev":"error","command","msg"}. Log lines go to standard error.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/envknob"
	"tailscale.com/net/netmon"
	"tailscale.com/types/key"
)

const minSize = 16 // WireGuard's data header: type, receiver, counter

var out struct {
	sync.Mutex
	enc *json.Encoder
}

func emit(v any) {
	out.Lock()
	defer out.Unlock()
	if err := out.enc.Encode(v); err != nil {
		os.Exit(1)
	}
}

// flow counts one direction between a client and one other key.
type flow struct {
	Packets    uint64 `json:"packets"`
	Bytes      uint64 `json:"bytes"`
	OutOfOrder uint64 `json:"out_of_order"`
	next       uint64
}

type peer struct {
	name   string
	client *derphttp.Client

	mu         sync.Mutex
	sent       map[key.NodePublic]*flow
	received   map[key.NodePublic]*flow
	gone       int
	connected  int
	lastError  string
	lastHealth string
}

func flowOf(m map[key.NodePublic]*flow, k key.NodePublic) *flow {
	f := m[k]
	if f == nil {
		f = new(flow)
		m[k] = f
	}
	return f
}

var (
	peersMu sync.Mutex
	peers   = map[string]*peer{}
)

func findPeer(name string) *peer {
	peersMu.Lock()
	defer peersMu.Unlock()
	return peers[name]
}

func (p *peer) receive() {
	lastGen := 0
	for {
		m, gen, err := p.client.RecvDetail()
		if errors.Is(err, derphttp.ErrClientClosed) {
			return
		}
		p.mu.Lock()
		if gen != lastGen && err == nil {
			lastGen = gen
			p.connected++
		}
		switch m := m.(type) {
		case derp.ReceivedPacket:
			f := flowOf(p.received, m.Source)
			f.Packets++
			f.Bytes += uint64(len(m.Data))
			if len(m.Data) >= minSize {
				seq := binary.LittleEndian.Uint64(m.Data[8:])
				if seq < f.next {
					f.OutOfOrder++
				} else {
					f.next = seq + 1
				}
			}
		case derp.PeerGoneMessage:
			p.gone++
		case derp.HealthMessage:
			p.lastHealth = m.Problem
		}
		if err != nil {
			p.lastError = err.Error()
		}
		p.mu.Unlock()
		if ping, ok := m.(derp.PingMessage); ok {
			p.client.SendPong(ping)
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // the next receive dials again
		}
	}
}

func cmdPeer(args []string) error {
	if len(args) != 2 {
		return errors.New("peer NAME URL")
	}
	if findPeer(args[0]) != nil {
		return fmt.Errorf("peer %s is there already", args[0])
	}
	priv := key.NewNode()
	c, err := derphttp.NewClient(priv, args[1], log.Printf, netmon.NewStatic())
	if err != nil {
		return err
	}
	if err := c.Connect(context.Background()); err != nil {
		c.Close()
		return err
	}
	c.NotePreferred(true)
	p := &peer{name: args[0], client: c}
	p.sent, p.received = map[key.NodePublic]*flow{}, map[key.NodePublic]*flow{}
	peersMu.Lock()
	peers[p.name] = p
	peersMu.Unlock()
	go p.receive()
	emit(map[string]any{"ev": "up", "peer": p.name, "key": priv.Public(), "server": c.ServerPublicKey()})
	return nil
}

func keyOf(s string) (key.NodePublic, error) {
	if p := findPeer(s); p != nil {
		return p.client.SelfPublicKey(), nil
	}
	var k key.NodePublic
	err := k.UnmarshalText([]byte(s))
	return k, err
}

func cmdSend(args []string) error {
	if len(args) != 4 && len(args) != 5 {
		return errors.New("send SRC DST COUNT SIZE [RATE]")
	}
	p := findPeer(args[0])
	if p == nil {
		return fmt.Errorf("no peer %s", args[0])
	}
	dst, err := keyOf(args[1])
	if err != nil {
		return fmt.Errorf("no peer %s: %w", args[1], err)
	}
	var num [3]int
	for i, a := range args[2:] {
		if num[i], err = strconv.Atoi(a); err != nil || num[i] < 0 {
			return fmt.Errorf("not a number: %s", a)
		}
	}
	count, size, rate := num[0], num[1], num[2]
	if size < minSize || size > derp.MaxPacketSize {
		return fmt.Errorf("size is %d to %d", minSize, derp.MaxPacketSize)
	}
	go func() {
		sent, err := p.send(dst, count, size, rate)
		ev := map[string]any{"ev": "sent", "src_name": p.name, "dst": dst,
			"sent": sent, "sent_bytes": sent * size}
		if err != nil {
			ev["error"] = err.Error()
		}
		emit(ev)
	}()
	return nil
}

// send sends packets of WireGuard's data shape, numbered on from the last one of this pair.
func (p *peer) send(dst key.NodePublic, count, size, rate int) (int, error) {
	buf := make([]byte, size)
	buf[0] = 4
	start := time.Now()
	for i := range count {
		p.mu.Lock()
		f := flowOf(p.sent, dst)
		binary.LittleEndian.PutUint64(buf[8:], f.next)
		f.next++
		p.mu.Unlock()
		if err := p.client.Send(dst, buf); err != nil {
			return i, err
		}
		p.mu.Lock()
		f.Packets++
		f.Bytes += uint64(size)
		p.mu.Unlock()
		if rate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i+1) * time.Second / time.Duration(rate))))
		}
	}
	return count, nil
}

func cmdStats([]string) error {
	peersMu.Lock()
	defer peersMu.Unlock()
	all := map[string]any{}
	copyOf := func(m map[key.NodePublic]*flow) map[string]flow {
		c := map[string]flow{}
		for k, f := range m {
			c[k.String()] = *f
		}
		return c
	}
	for name, p := range peers {
		p.mu.Lock()
		all[name] = map[string]any{"key": p.client.SelfPublicKey(), "sent": copyOf(p.sent),
			"received": copyOf(p.received), "gone": p.gone, "connected": p.connected,
			"last_error": p.lastError, "health": p.lastHealth}
		p.mu.Unlock()
	}
	emit(map[string]any{"ev": "stats", "peers": all})
	return nil
}

func cmdClose(args []string) error {
	if len(args) != 1 {
		return errors.New("close NAME")
	}
	p := findPeer(args[0])
	if p == nil {
		return fmt.Errorf("no peer %s", args[0])
	}
	peersMu.Lock()
	delete(peers, p.name)
	peersMu.Unlock()
	p.client.Close()
	emit(map[string]any{"ev": "down", "peer": p.name})
	return nil
}

var commands = map[string]func([]string) error{
	"peer": cmdPeer, "send": cmdSend, "stats": cmdStats, "close": cmdClose,
}

func main() {
	ws := flag.Bool("ws", false, "connect by WebSocket, as Coder's agents fall back to")
	flag.Parse()
	if *ws {
		envknob.Setenv("TS_DEBUG_DERP_WS_CLIENT", "true")
	}
	out.enc = json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			return
		}
		err := fmt.Errorf("no such command: %s", words[0])
		if cmd := commands[words[0]]; cmd != nil {
			err = cmd(words[1:])
		}
		if err != nil {
			emit(map[string]any{"ev": "error", "command": words[0], "msg": err.Error()})
		}
	}
}
