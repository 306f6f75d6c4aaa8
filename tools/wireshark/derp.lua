-- SPDX-License-Identifier: BSD-2-Clause
--
-- A dissector of DERP, the relay protocol of Tailscale, for Wireshark 3.6 and later.
--
--   wireshark -X lua_script:derp.lua FILE        or copy it to the folder of personal plugins
--   tshark -r FILE -X lua_script:derp.lua -Y 'derp.type == "SendPacket"'
--
-- Nodes dial each other with a fast start: no HTTP answer comes, and Wireshark's own guess at HTTP over
-- TLS would take all that follows for HTTP. To see those connections, switch that guess off:
-- --disable-heuristic http_tls, or Analyze > Enabled Protocols > HTTP > http_tls.
--
-- It shows DERP wherever it stands: behind an HTTP upgrade, over TLS that the file's secrets (or a
-- key log) open, over plain TCP, in WebSocket messages, after a fast start, and in the decrypted frames
-- that `derptrace pcap` writes with link type USER0. There a header of 136 bytes stands before each
-- frame, numbers in network order:
--
--    0  version: 2                        60  digest of the packet that is relayed, 8 bytes; 0: none
--    1  0: to the node, 1: from it        68  bits: 1: the offset counts from the stream's first frame,
--    2  address family: 4, 6, 0               2: the far end is a relay
--    3  0: who dialled is not known,      69  0, 3 bytes
--       1: accepted, 2: dialled           72  the far end's key, 32 bytes; 0: not read from memory
--    4  the node's port, 2 bytes         104  the node's own, likewise
--    6  the far end's                    136  the frame: type, length (4 bytes), payload
--    8  node, 4 bytes
--   12  connection, 8 bytes
--   20  offset in the DERP stream, 8 bytes
--   28  the node's IP address, 16 bytes (IPv4: the first four)
--   44  the far end's
--
-- In version 1 the frame begins at 60. A packet that the relay dropped has 2 at offset 1, at 68 the bits
-- 4: its sender is certain, 8: it is disco, and at 72 the relay's reason, 24 bytes of text.

local derp = Proto("derp", "Designated Encrypted Relay for Packets")
local tap = Proto("derptrace", "derptrace decrypted frame")

local HEADER, KEY = 5, 32
local TAP_HEADERS = { [1] = 60, [2] = 136 }
local MAX_FRAME = 1048576
local DISCO = "5453f09f92ac"

local TYPES = {
	[0x01] = "ServerKey", [0x02] = "ClientInfo", [0x03] = "ServerInfo", [0x04] = "SendPacket",
	[0x05] = "RecvPacket", [0x06] = "KeepAlive", [0x07] = "NotePreferred", [0x08] = "PeerGone",
	[0x09] = "PeerPresent", [0x0a] = "ForwardPacket", [0x10] = "WatchConns", [0x11] = "ClosePeer",
	[0x12] = "Ping", [0x13] = "Pong", [0x14] = "Health", [0x15] = "Restarting",
}
local GONE = { [0] = "disconnected", [1] = "not here", [0xf0] = "mesh connection broken" }
local WIREGUARD = { [1] = "initiation", [2] = "response", [3] = "cookie", [4] = "data" }
local FAMILIES = { [0] = "not known", [4] = "IPv4", [6] = "IPv6" }
local DIRECTIONS = { [0] = "to the node", [1] = "from the node", [2] = "dropped by the node" }
local ROLES = { [0] = "not known", [1] = "accepted", [2] = "dialled" }

local f = {
	type = ProtoField.uint8("derp.type", "Type", base.HEX, TYPES),
	len = ProtoField.uint32("derp.len", "Length", base.DEC),
	src = ProtoField.bytes("derp.src", "Source"),
	dst = ProtoField.bytes("derp.dst", "Destination"),
	key = ProtoField.bytes("derp.key", "Key"),
	magic = ProtoField.string("derp.magic", "Magic"),
	nonce = ProtoField.bytes("derp.nonce", "Nonce"),
	box = ProtoField.bytes("derp.box", "Sealed JSON"),
	reason = ProtoField.uint8("derp.gone.reason", "Reason", base.HEX, GONE),
	ip = ProtoField.ipv6("derp.present.ip", "Address"),
	port = ProtoField.uint16("derp.present.port", "Port", base.DEC),
	flags = ProtoField.uint8("derp.present.flags", "Flags", base.HEX),
	preferred = ProtoField.uint8("derp.preferred", "Home relay", base.DEC, { [0] = "no", [1] = "yes" }),
	ping = ProtoField.bytes("derp.ping", "Ping data"),
	health = ProtoField.string("derp.health", "Problem"),
	reconnect = ProtoField.uint32("derp.restart.reconnect_ms", "Reconnect in", base.DEC),
	tryfor = ProtoField.uint32("derp.restart.try_for_ms", "Try for", base.DEC),
	packet = ProtoField.bytes("derp.packet", "Packet"),
	wg_type = ProtoField.uint8("derp.wg.type", "WireGuard", base.DEC, WIREGUARD),
	wg_sender = ProtoField.uint32("derp.wg.sender", "Sender index", base.HEX),
	wg_receiver = ProtoField.uint32("derp.wg.receiver", "Receiver index", base.HEX),
	wg_counter = ProtoField.uint64("derp.wg.counter", "Counter", base.DEC),
	disco_key = ProtoField.bytes("derp.disco.key", "Disco key of the sender"),
	disco_nonce = ProtoField.bytes("derp.disco.nonce", "Disco nonce"),
	unknown = ProtoField.bytes("derp.payload", "Payload"),
}
local cut = ProtoExpert.new("derp.cut", "The rest was not captured", expert.group.COMMENTS_GROUP,
			    expert.severity.COMMENT)
local bad = ProtoExpert.new("derp.malformed", "Not a frame of this type", expert.group.MALFORMED,
			    expert.severity.ERROR)
derp.fields = f
derp.experts = { cut, bad }

local t = {
	version = ProtoField.uint8("derptrace.version", "Version", base.DEC),
	direction = ProtoField.uint8("derptrace.direction", "Direction", base.DEC, DIRECTIONS),
	family = ProtoField.uint8("derptrace.family", "Address family", base.DEC, FAMILIES),
	role = ProtoField.uint8("derptrace.role", "Connection was", base.DEC, ROLES),
	local_port = ProtoField.uint16("derptrace.port", "Port of the node", base.DEC),
	remote_port = ProtoField.uint16("derptrace.far_port", "Port of the far end", base.DEC),
	node = ProtoField.uint32("derptrace.node", "Node", base.DEC),
	conn = ProtoField.uint64("derptrace.conn", "Connection", base.DEC),
	offset = ProtoField.uint64("derptrace.offset", "Offset in the DERP stream", base.DEC),
	ip4 = ProtoField.ipv4("derptrace.ip", "Address of the node"),
	ip6 = ProtoField.ipv6("derptrace.ip6", "Address of the node"),
	far4 = ProtoField.ipv4("derptrace.far_ip", "Address of the far end"),
	far6 = ProtoField.ipv6("derptrace.far_ip6", "Address of the far end"),
	digest = ProtoField.uint64("derptrace.digest", "Digest of the packet", base.HEX),
	from_start = ProtoField.bool("derptrace.from_start", "Offset counts from the stream's start", 8, nil, 1),
	to_relay = ProtoField.bool("derptrace.to_relay", "Far end is a relay", 8, nil, 2),
	peer = ProtoField.bytes("derptrace.peer", "Key of the far end"),
	server = ProtoField.bytes("derptrace.server", "Key of the node"),
	reason = ProtoField.string("derptrace.drop", "Dropped"),
	certain = ProtoField.bool("derptrace.drop.certain", "Sender is certain", 8, nil, 4),
}
tap.fields = t

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- As Tailscale shows a key: the first five characters of its base64.
local function short(range)
	local text = ""
	for i = 0, 4 do
		local digit = range(0, 4):bitfield(6 * i, 6) + 1
		text = text .. BASE64:sub(digit, digit)
	end
	return "[" .. text .. "]"
end

-- Of @len bytes from @at, what there is; nil: nothing.
local function part(buf, at, len)
	local left = buf:captured_len() - at
	if left <= 0 or len <= 0 then
		return nil
	end
	return buf(at, math.min(len, left))
end

local function add(tree, field, buf, at, len)
	local range = part(buf, at, len)
	if range and range:len() == len then
		tree:add(field, range)
		return range
	end
	return nil
end

local function add_le(tree, field, buf, at, len)
	local range = part(buf, at, len)
	if range and range:len() == len then
		tree:add_le(field, range)
	end
end

local function key(tree, field, buf, at, size)
	if at + KEY > size then
		tree:add_proto_expert_info(bad)
		return "?"
	end
	local range = add(tree, field, buf, at, KEY)
	if not range then
		return "?"
	end
	local text = short(range)
	tree:append_text(", " .. text)
	return text
end

-- What is relayed: WireGuard or disco, of which only the head is clear. Returns what to call it.
local function relayed(tree, buf, at, size)
	local len = size - at
	local range = part(buf, at, len)
	if not range then
		return len > 0 and string.format("%d bytes", len) or "empty"
	end
	local packet = tree:add(f.packet, range)
	packet:append_text(string.format(" (%d bytes)", len))
	if range:len() >= 6 and range(0, 6):bytes():tohex():lower() == DISCO then
		add(packet, f.disco_key, buf, at + 6, KEY)
		add(packet, f.disco_nonce, buf, at + 6 + KEY, 24)
		return string.format("disco %d bytes", len)
	end
	if range:len() >= 4 and range(1, 3):uint() == 0 and WIREGUARD[range(0, 1):uint()] then
		local kind = range(0, 1):uint()
		packet:add(f.wg_type, range(0, 1))
		if kind == 1 or kind == 2 then
			add_le(packet, f.wg_sender, buf, at + 4, 4)
		end
		if kind == 2 then
			add_le(packet, f.wg_receiver, buf, at + 8, 4)
		elseif kind ~= 1 then
			add_le(packet, f.wg_receiver, buf, at + 4, 4)
		end
		if kind == 4 then
			add_le(packet, f.wg_counter, buf, at + 8, 8)
		end
		return string.format("WireGuard %s %d bytes", WIREGUARD[kind], len)
	end
	return string.format("%d bytes", len)
end

-- Each takes the tree, the frame's buffer, where its payload begins and where it ends (in the frame as
-- it was sent, not as it was captured), and returns what the info column says.
local PAYLOADS = {
	[0x01] = function(tree, buf, at, size)
		add(tree, f.magic, buf, at, 8)
		return key(tree, f.key, buf, at + 8, size)
	end,
	[0x02] = function(tree, buf, at, size)
		local name = key(tree, f.key, buf, at, size)
		add(tree, f.nonce, buf, at + KEY, 24)
		local box = part(buf, at + KEY + 24, size - at - KEY - 24)
		if box then
			tree:add(f.box, box)
		end
		return name
	end,
	[0x03] = function(tree, buf, at, size)
		add(tree, f.nonce, buf, at, 24)
		local box = part(buf, at + 24, size - at - 24)
		if box then
			tree:add(f.box, box)
		end
	end,
	[0x04] = function(tree, buf, at, size)
		local dst = key(tree, f.dst, buf, at, size)
		return "to " .. dst .. " " .. relayed(tree, buf, at + KEY, size)
	end,
	[0x05] = function(tree, buf, at, size)
		local src = key(tree, f.src, buf, at, size)
		return "from " .. src .. " " .. relayed(tree, buf, at + KEY, size)
	end,
	[0x07] = function(tree, buf, at)
		add(tree, f.preferred, buf, at, 1)
	end,
	[0x08] = function(tree, buf, at, size)
		local name = key(tree, f.key, buf, at, size)
		local reason = size > at + KEY and add(tree, f.reason, buf, at + KEY, 1)
		return name .. (reason and " " .. (GONE[reason:uint()] or "?") or "")
	end,
	[0x09] = function(tree, buf, at, size)
		local name = key(tree, f.key, buf, at, size)
		if size >= at + KEY + 18 then
			add(tree, f.ip, buf, at + KEY, 16)
			add(tree, f.port, buf, at + KEY + 16, 2)
		end
		if size >= at + KEY + 19 then
			add(tree, f.flags, buf, at + KEY + 18, 1)
		end
		return name
	end,
	[0x0a] = function(tree, buf, at, size)
		local src = key(tree, f.src, buf, at, size)
		local dst = key(tree, f.dst, buf, at + KEY, size)
		return src .. " to " .. dst .. " " .. relayed(tree, buf, at + 2 * KEY, size)
	end,
	[0x11] = function(tree, buf, at, size)
		return key(tree, f.key, buf, at, size)
	end,
	[0x14] = function(tree, buf, at, size)
		local text = part(buf, at, size - at)
		if text then
			tree:add(f.health, text)
			return text:string()
		end
	end,
	[0x15] = function(tree, buf, at)
		add(tree, f.reconnect, buf, at, 4)
		add(tree, f.tryfor, buf, at + 4, 4)
	end,
}
PAYLOADS[0x12] = function(tree, buf, at, size)
	local data = part(buf, at, size - at)
	if data then
		tree:add(f.ping, data)
	end
end
PAYLOADS[0x13] = PAYLOADS[0x12]

-- One frame at the start of @buf, which may hold less than all of it.
local function frame(buf, pinfo, root)
	local kind, len = buf(0, 1):uint(), buf(1, 4):uint()
	local size = HEADER + len
	local name = TYPES[kind] or string.format("type 0x%02x", kind)
	local tree = root:add(derp, buf(0, math.min(size, buf:captured_len())), "DERP " .. name)
	tree:add(f.type, buf(0, 1))
	tree:add(f.len, buf(1, 4))
	local what
	if PAYLOADS[kind] then
		what = PAYLOADS[kind](tree, buf, HEADER, size)
	elseif len > 0 and part(buf, HEADER, len) then
		tree:add(f.unknown, part(buf, HEADER, len))
	end
	if buf:captured_len() < size then
		tree:add_proto_expert_info(cut)
	end
	pinfo.cols.protocol = "DERP"
	pinfo.cols.info:append((tostring(pinfo.cols.info) == "" and "" or ", ") .. name ..
			       (what and " " .. what or ""))
end

local function plausible(kind, len)
	return TYPES[kind] ~= nil and len <= MAX_FRAME
end

-- Frames one after the other; what is missing of the last one is asked for.
function derp.dissector(buf, pinfo, root)
	local at, size = 0, buf:len()
	pinfo.cols.info:clear()
	while at < size do
		if size - at < HEADER then
			pinfo.desegment_offset, pinfo.desegment_len = at, DESEGMENT_ONE_MORE_SEGMENT
			return size
		end
		local len = buf(at + 1, 4):uint()
		if not plausible(buf(at, 1):uint(), len) then
			return at
		end
		if size - at < HEADER + len then
			pinfo.desegment_offset, pinfo.desegment_len = at, HEADER + len - (size - at)
			return size
		end
		frame(buf(at, HEADER + len):tvb(), pinfo, root)
		at = at + HEADER + len
	end
	return size
end

-- After a fast start no HTTP answer announces DERP: the request says so, and all that follows it, in
-- either direction, is DERP.
local stream_of = Field.new("tcp.stream")
local http = Dissector.get("http")
local fast = {}

function derp.init()
	fast = {}
end

-- The bytes of @buf up to the end of a request that asks for a fast start; nil: it is none.
local function fast_request(buf)
	if buf:len() < 32 or buf(0, 4):string() ~= "GET " then
		return nil
	end
	local text = buf(0, math.min(buf:len(), 4096)):string()
	local stop = select(2, text:find("\r\n\r\n", 1, true))
	if stop and text:sub(1, stop):lower():find("\r\nderp%-fast%-start: *1\r\n") then
		return stop
	end
	return nil
end

local function after_fast_start(buf, pinfo, root)
	local stream = stream_of()
	local id = stream and stream.value
	local stop = id and fast_request(buf)
	if stop then
		fast[id] = fast[id] or pinfo.number
		http:call(buf(0, stop):tvb(), pinfo, root)
		if stop < buf:len() then
			derp.dissector(buf(stop):tvb(), pinfo, root)
		end
		return true
	end
	if id and fast[id] and pinfo.number > fast[id] then
		derp.dissector(buf, pinfo, root)
		return true
	end
	return false
end

-- A packet that the relay dropped: its header, and the frame that it would have been, without its payload.
local function dropped(buf, pinfo, root, header)
	local tree = root:add(tap, buf(0, header))
	tree:add(t.version, buf(0, 1))
	tree:add(t.direction, buf(1, 1))
	tree:add(t.node, buf(8, 4))
	tree:add(t.digest, buf(60, 8))
	tree:add(t.certain, buf(68, 1))
	tree:add(t.reason, buf(72, 24), buf(72, 24):stringz())
	frame(buf(header, math.min(HEADER + buf(header + 1, 4):uint(), buf:len() - header)):tvb(), pinfo, root)
	pinfo.cols.info:prepend("dropped (" .. buf(72, 24):stringz() .. "): ")
	return buf:len()
end

function tap.dissector(buf, pinfo, root)
	local header = buf:captured_len() > 0 and TAP_HEADERS[buf(0, 1):uint()]
	if not header or buf:captured_len() < header + HEADER then
		return 0
	end
	if buf(0, 1):uint() == 2 and buf(1, 1):uint() == 2 then
		return dropped(buf, pinfo, root, header)
	end
	local tree = root:add(tap, buf(0, header))
	local out, family = buf(1, 1):uint() == 1, buf(2, 1):uint()
	tree:add(t.version, buf(0, 1))
	tree:add(t.direction, buf(1, 1))
	tree:add(t.family, buf(2, 1))
	tree:add(t.role, buf(3, 1))
	tree:add(t.local_port, buf(4, 2))
	tree:add(t.remote_port, buf(6, 2))
	tree:add(t.node, buf(8, 4))
	tree:add(t.conn, buf(12, 8))
	tree:add(t.offset, buf(20, 8))
	local here, there
	if family == 4 then
		tree:add(t.ip4, buf(28, 4))
		tree:add(t.far4, buf(44, 4))
		here, there = buf(28, 4):ipv4(), buf(44, 4):ipv4()
	elseif family == 6 then
		tree:add(t.ip6, buf(28, 16))
		tree:add(t.far6, buf(44, 16))
		here, there = buf(28, 16):ipv6(), buf(44, 16):ipv6()
	end
	if header > 60 then
		tree:add(t.digest, buf(60, 8))
		tree:add(t.from_start, buf(68, 1))
		tree:add(t.to_relay, buf(68, 1))
		tree:add(t.peer, buf(72, KEY))
		tree:add(t.server, buf(104, KEY))
	end
	if here then
		pinfo.src, pinfo.dst = out and here or there, out and there or here
	end
	local ports = { buf(4, 2):uint(), buf(6, 2):uint() }
	pinfo.src_port, pinfo.dst_port = ports[out and 1 or 2], ports[out and 2 or 1]
	pinfo.cols.info:clear()
	-- The frame may be cut; its tvb knows how long it was.
	frame(buf(header, math.min(HEADER + buf(header + 1, 4):uint(), buf:len() - header)):tvb(), pinfo, root)
	return buf:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, tap)
for _, name in ipairs({ "DERP", "derp" }) do
	DissectorTable.get("http.upgrade"):add(name, derp)
	pcall(function() DissectorTable.get("ws.protocol"):add(name, derp) end)
end
derp:register_heuristic("tls", after_fast_start)
DissectorTable.get("tcp.port"):add_for_decode_as(derp)
